"""`nextclick repartition`: moves states and unanswered clicks to their users' new partitions after a topic has grown.

`command` has the order of the steps, on which everything rests; `plan` decides, and asks no broker.
"""
