"""What programs need beside the core: command-line options, HTTP endpoint, logs, client configuration, click files.

Stands above `nextclick` and below `stream` and `training`.
"""
