"""What it takes to see everything at work: data sets, a simulator, a local Apache Kafka, the one-command demo.

Nothing here is needed in production, and neither `nextclick`, `stream` nor `training` imports it.
"""
