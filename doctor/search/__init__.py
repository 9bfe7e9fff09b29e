"""Finds the settings under which the records of a sample can be used. Pure: records and a clock in, settings out.

Paths of fields are named; what they hold (users, items, times) stays inside. Only names of events are told.
"""
