"""Learning: from the rows of the click log to a fitted network and its quality. Knows no broker, and nothing of files.

In reading order; a module imports only those further down:

- `training_round`: fit a network to all but the newest clicks, and judge it on these
- `continual`: fit a network to all clicks, or learn what is new from a `checkpoint` on; `round_clicks`: which clicks
  those are, `turnover` and `item_statistics`: which items
- `training_data`: which clicks of the log are taken; `log_rows`: in which order, without retries, no user beyond bounds
- `fit`: the schedule of passes over them, and where a new network begins
- `fit_mixture`: the weights with which counts are added to the network; `rank_gate`: where their lists are best
- `step`: one batch through the network and back; `losses`: the loss of a batch
- `validation`: predictions of held-out clicks, ranked
- `associations`: counts of items that are clicked near each other
- `sequences`: clicks per user, in windows, in batches; `device`; `cancellation`
"""
