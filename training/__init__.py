"""The trainer, in three parts:

- `training.service` logs clicks, says when a round of training is due, and publishes what came out of it.
- `training.learning` is the round: from rows of the click log to a network and its quality. Start at
  `training_round.py` and read downwards.
- `training.evaluation` trains the network and the baselines of the field on recorded clicks, and compares them.

The last two never import the first, and nothing imports the evaluation but the command line. What never happens here:
Faust, and anything of `stream`.
"""
