"""The items that a bundle knows: outside string to row of the embedding and back, and how popular each was."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nextclick.errors import BundleError
from nextclick.hashing import item_hash

_SCHEMA = pa.schema([("item_id", pa.string()), ("popularity", pa.float64())])
_COLUMNS = "item_id (string) and popularity (double)"


class Vocabulary:
    """Item ids in the order of their rows (`item_index`).

    Attributes:
        item_ids: item_index to item_id.
        popularity: float64 (n_items,), recency-weighted clicks per item when the vocabulary was made.
        index_of: item_id to item_index.
        index_of_hash: item hash to item_index.
        low_hashes: uint32 (n_items,), the low bits of the item hashes.
    """

    def __init__(self, item_ids: Sequence[str], popularity: npt.NDArray[np.float64]) -> None:
        """Make a vocabulary.

        Args:
            item_ids: each once.
            popularity: float64 (n_items,).

        Raises:
            BundleError: an item twice, or another number of popularities than of items.
        """
        self.item_ids = tuple(item_ids)
        self.popularity = popularity
        hashes = [item_hash(item_id) for item_id in self.item_ids]
        self.index_of = {item_id: index for index, item_id in enumerate(self.item_ids)}
        self.index_of_hash = {hashed: index for index, hashed in enumerate(hashes)}
        self.low_hashes = np.array(hashes, dtype=np.uint64).astype(np.uint32)
        if not len(self.index_of) == len(self.item_ids) == len(popularity):
            raise BundleError(
                f"a vocabulary expects each item once with its popularity, found {len(self.item_ids)} items, "
                f"{len(self.index_of)} different ones and {len(popularity)} popularities; train a new bundle"
            )

    def __len__(self) -> int:
        return len(self.item_ids)

    def save(self, path: Path) -> None:
        """Write the vocabulary as Parquet."""
        pq.write_table(pa.table([pa.array(self.item_ids), pa.array(self.popularity)], schema=_SCHEMA), path)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary that `save` wrote.

        Raises:
            BundleError: the file is not such a vocabulary.
        """
        try:
            table = pq.read_table(path, columns=["item_id", "popularity"])
        except (OSError, pa.ArrowException) as error:
            raise BundleError(f"{path.name} expects columns {_COLUMNS}, found: {error}; train a new bundle") from error
        if not table.schema.equals(_SCHEMA) or any(column.null_count for column in table.columns):
            raise BundleError(f"{path.name} expects columns {_COLUMNS} without nulls, found others; train a new bundle")
        return cls(table["item_id"].to_pylist(), table["popularity"].to_numpy())
