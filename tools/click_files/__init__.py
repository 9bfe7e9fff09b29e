"""Recorded clicks in files, as data sets are published: which format it is, and all clicks in the order of time.

A file that is damaged or not as expected is refused with the line number; a click is never skipped silently. Nothing
here knows a broker, a model, or how clicks are split for an evaluation.
"""
