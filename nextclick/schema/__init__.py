"""How a record of any topic becomes clicks: where its fields are, what its times, ids, event types and keys mean.

Pure functions of a record and the reader's clock. Worker, trainer and tools all read records with `decoder.py`, and so
agree on what can be used.
"""
