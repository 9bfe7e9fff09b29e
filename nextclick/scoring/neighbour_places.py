"""Where an item stands among the neighbours of another, as a bundle's counts have them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit
from nextclick.scoring.histories import RowsByHash, find_row
from nextclick.scoring.terms import Counts


def neighbour_places(
    counts: Counts, rows: RowsByHash, items: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Give the places, from 0, that items have in the lists of what is clicked near others; -1: none.

    Args:
        counts: of the bundle.
        rows: finds its items.
        items: uint64 (n,), hashes.
        others: uint64 (n,), hashes.

    Returns:
        int64 (n,). Where shares are equal, the one that comes first in the counts is before.
    """
    places = np.full(len(items), -1, np.int64)
    if len(counts.starts) > 1:
        _find(counts, rows, items, others, places)
    return places


@jit
def _find(counts: Any, rows: Any, items: Any, others: Any, places: Any) -> None:
    for number in range(len(items)):
        item, other = find_row(rows, items[number]), find_row(rows, others[number])
        if item < 0 or other < 0:
            continue
        begin, end = counts.starts[other], counts.starts[other + 1]
        at = begin
        while at < end and counts.neighbours[at] != item:
            at += 1
        if at == end:
            continue
        place = 0
        for rival in range(begin, end):
            ahead = counts.shares[rival] > counts.shares[at]
            if ahead or (rival < at and counts.shares[rival] == counts.shares[at]):
                place += 1
        places[number] = place
