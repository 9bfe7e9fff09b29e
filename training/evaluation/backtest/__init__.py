"""`nextclick backtest`: a stretch of recorded clicks is lived through, round by round, as a trainer would.

Each round, every method learns what came since the round before, and predicts the clicks up to the next one: each click
is predicted before anybody learns it (prequential evaluation, Gama et al. 2013, doi:10.1007/s10994-012-5320-9).
"""
