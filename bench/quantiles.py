"""Quantiles of figures."""

from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """Give the value below which a share of the values lies; not a number if there are none.

    Args:
        ordered: from the smallest to the largest.
        share: from 0 to 1.
    """
    if not ordered:
        return float("nan")
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
