"""Decides when to train. Pure: the clock and the counts arrive as arguments."""

from typing import NamedTuple

from nextclick.settings import Settings


class Progress(NamedTuple):
    """Where the trainer stands.

    Attributes:
        clicks: in the log, with those that wait to be written.
        clicks_at_last_training: those of them that were there when the last training began; 0 before the first.
        s_since_last_training: since the last training began.
    """

    clicks: int
    clicks_at_last_training: int
    s_since_last_training: float


def training_is_due(progress: Progress, settings: Settings) -> bool:
    """Train as soon as there are enough clicks, then by time and by new clicks.

    A log that has doubled is trained on at once, so that a young model learns quickly, and a backlog that is still
    being read does not leave the model of its first clicks in use for long.
    """
    if progress.clicks < settings.min_clicks:
        return False
    new_clicks = progress.clicks - progress.clicks_at_last_training
    return (
        (new_clicks > 0 and progress.s_since_last_training >= settings.train_every_s)
        or new_clicks >= settings.train_every_clicks
        or new_clicks >= progress.clicks_at_last_training
    )
