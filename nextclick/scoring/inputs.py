"""The input vectors of clicks, as compiled code makes them one by one; see `nextclick.network.Network.inputs`."""

from typing import Any, NamedTuple

import numpy as np

from nextclick.scoring.compiled import jit_inner
from nextclick.scoring.packed_items import Floats


class InputVectors(NamedTuple):
    """What input vectors are added up from.

    Attributes:
        items: float32 (n_items, size).
        events: float32 (n_event_rows, size); the last row is that of all other events.
        gaps: float32 (n_gap_bins, size), by powers of two of a second.
        item_scale: float32 (1,), what the items' vectors are multiplied with.
    """

    items: Floats
    events: Floats
    gaps: Floats
    item_scale: Floats


@jit_inner
def input_vector(inputs: Any, item_index: Any, gap_s: Any, event_type: Any, vector: Any) -> None:
    """Write the input vector of a click, in float32 whatever `vector` is made of."""
    items, events, gaps, item_scale = inputs
    gap_bin = 0
    while gap_bin < len(gaps) - 1 and (gap_s + 1) >> (gap_bin + 1):
        gap_bin += 1
    of_item, of_event, of_gap = items[item_index], events[min(event_type, len(events) - 1)], gaps[gap_bin]
    scale = item_scale[0]
    for place in range(len(vector)):
        vector[place] = np.float32(np.float32(of_item[place] * scale) + of_event[place]) + of_gap[place]
