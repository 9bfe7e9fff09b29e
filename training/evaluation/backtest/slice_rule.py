"""Where the rounds of a backtest begin, as the user says it."""

import re
from dataclasses import dataclass

_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRule:
    """Which clicks there are, and where rounds begin. Of the first three exactly one is given."""

    hours: float | None = None  # a round every so many hours of event time
    clicks: int | None = None  # a round every so many clicks
    rounds: int | None = None  # so many rounds of equally many clicks
    newest_share: float = 1.0  # of the clicks, the others are left out
    first_share: float  # the first bundle learns this share of the clicks; the first slice begins behind them


def read_every(text: str) -> dict[str, float | int] | None:
    """Read the length of a slice: `6h`, `90m`, `1d`, or a number of clicks; None for anything else.

    Returns:
        The field of `SliceRule` that it gives.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])|(\d+)", text)
    if found is None or not float(found[1] or found[3]):
        return None
    return {"clicks": int(found[3])} if found[3] else {"hours": float(found[1]) * _HOURS[found[2]]}
