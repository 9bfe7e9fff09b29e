"""What a shop says of the items that a bundle knows: whether they may be shown, how much they count, what they are in.

By row of the served bundle. No traits at all, None, is a shop that says nothing, and costs nothing.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ItemTraits(NamedTuple):
    """Of each item its factor and its categories.

    Attributes:
        factors: float32 (n_items,), what the item's probability is multiplied with in each source: 0 for an item that
            may be in no list (withdrawn, not yet published, expired), 1 for one of which nothing is said.
        category_starts: int64 (n_items + 1,), where each item's categories begin.
        categories: int32 (n,), numbers of categories from 0 on, one item behind the other; each once for an item.
    """

    factors: npt.NDArray[np.float32]
    category_starts: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int32]
