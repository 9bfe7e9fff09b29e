"""What programs share beside the core: Kafka's facts, files, processes, HTTP endpoint, logs, options, click files.

Stands above `nextclick` and below `stream` and `training`.
"""
