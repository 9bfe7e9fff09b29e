"""What it takes to see everything at work: replay of data sets, simulator, local Apache Kafka, the one-command demo.

Nothing here is needed in production, and neither `nextclick`, `stream` nor `training` imports it.
"""
