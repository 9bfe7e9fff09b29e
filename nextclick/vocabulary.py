"""The items that a bundle knows: outside string to row of the embedding and back, and how popular each was."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nextclick.clicks import MAX_ID_BYTES
from nextclick.errors import BundleError
from nextclick.hashing import item_hash

MAX_ITEMS = 4_000_000  # the scores of one batch (256 users) take 4 GB then
MAX_POPULARITY = 1e300  # their sum over all items is still a number
# More than any encoding of an id and its popularity takes; with Snappy, which packs at most 21 times, it bounds memory.
MAX_BYTES_PER_ITEM = MAX_ID_BYTES + 64
MAX_FILE_BYTES = MAX_ITEMS * MAX_BYTES_PER_ITEM


class Vocabulary:
    """Item ids in the order of their rows (`item_index`).

    Attributes:
        item_ids: item_index to item_id.
        popularity: float64 (n_items,), recency-weighted clicks per item when the vocabulary was made.
        hashes: uint64 (n_items,), the item hashes.
    """

    def __init__(self, item_ids: Sequence[str], popularity: npt.NDArray[np.float64]) -> None:
        """Make a vocabulary.

        Args:
            item_ids: each once.
            popularity: float64 (n_items,).

        Raises:
            BundleError: too many items, an item twice, another number of popularities than of items, or a popularity
                that is no weight.
        """
        if len(item_ids) > MAX_ITEMS:
            raise BundleError(
                f"a vocabulary has at most {MAX_ITEMS} items, and this one {len(item_ids)}; set max_items to fewer"
            )
        self.item_ids = tuple(item_ids)
        self.popularity = popularity
        self.hashes = np.fromiter(map(item_hash, self.item_ids), np.uint64, len(self.item_ids))
        ordered = np.sort(self.hashes)
        n_different = len(ordered) - int((ordered[1:] == ordered[:-1]).sum())
        if not n_different == len(self.item_ids) == len(popularity):
            raise BundleError(
                f"a vocabulary expects each item once with its popularity, found {len(self.item_ids)} items, "
                f"{n_different} different ones and {len(popularity)} popularities; train a new bundle"
            )
        if not np.all((popularity >= 0.0) & (popularity <= MAX_POPULARITY)):  # NaN neither
            raise BundleError(
                f"a vocabulary has popularities that are not from 0 to {MAX_POPULARITY:g}; train a new bundle"
            )

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def index_of(self) -> dict[str, int]:
        """item_id to item_index: for training, which alone pays for its memory."""
        return {item_id: index for index, item_id in enumerate(self.item_ids)}
