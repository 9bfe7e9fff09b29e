"""`nextclick rekey`: copies records of any topic to one that is keyed by user, each exactly once. Never imports Faust.

`outcomes` decides what becomes of a record, and asks no broker; `job` has the order of a transaction, on which all
rests.
"""
