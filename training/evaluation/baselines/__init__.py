"""The baselines of the field: each learns by counting, in one pass, and scores every item as the next click.

Each is a `training.evaluation.recommender.Recommender`. An item that a baseline says nothing of scores minus infinity.
"""
