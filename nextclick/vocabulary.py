"""The items that a bundle knows: outside string to row of the embedding and back, and how popular each was."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nextclick.clicks import MAX_ID_BYTES
from nextclick.errors import BundleError
from nextclick.hashing import item_hash

MAX_ITEMS = 4_000_000  # the scores of one batch (256 users) take 4 GB then
MAX_POPULARITY = 1e300  # their sum over all items is still a number
# More than any encoding of an id and its popularity takes; with Snappy, which packs at most 21 times, it bounds memory.
MAX_BYTES_PER_ITEM = MAX_ID_BYTES + 64
MAX_FILE_BYTES = MAX_ITEMS * MAX_BYTES_PER_ITEM
_FILE_OVERHEAD_BYTES = 64 * 1024  # schema, statistics, footer
_ROWS_AT_ONCE = 5_000  # 1 ms: a worker loads a bundle in a thread, and Arrow keeps all others from running meanwhile
_COMPRESSIONS = {"SNAPPY", "UNCOMPRESSED"}

_SCHEMA = pa.schema([("item_id", pa.string()), ("popularity", pa.float64())])
_COLUMNS = "item_id (string) and popularity (double)"


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
        n_different = len(np.unique(self.hashes))
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
            # As a dictionary: an id that is named a million times stays one id in memory.
            with pq.ParquetFile(path, read_dictionary=["item_id"]) as file:
                _check_layout(file, path)
                table = file.read()
            table.validate(full=True)
            item_ids = _item_ids(table["item_id"], path)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise _unusable(path, f"{error!s:.300}") from error
        if any(column.null_count for column in table.columns):
            raise _unusable(path, "nulls")
        return cls(item_ids, table["popularity"].to_numpy())


def _check_layout(file: pq.ParquetFile, path: Path) -> None:
    """Refuse a file before anything of its columns is unpacked."""
    stored = pa.schema([("item_id", pa.dictionary(pa.int32(), pa.string())), ("popularity", pa.float64())])
    if not file.schema_arrow.equals(stored):
        raise _unusable(path, "others")
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    n_rows, n_bytes = sum(group.num_rows for group in groups), path.stat().st_size
    if n_rows > MAX_ITEMS or n_bytes > n_rows * MAX_BYTES_PER_ITEM + _FILE_OVERHEAD_BYTES:
        raise _unusable(path, f"{n_rows} rows in {n_bytes} bytes")
    compressions = {group.column(number).compression for group in groups for number in range(group.num_columns)}
    if not compressions <= _COMPRESSIONS:
        raise _unusable(path, f"compression {', '.join(sorted(compressions))}")


def _item_ids(column: pa.ChunkedArray, path: Path) -> list[str]:
    for chunk in column.chunks:
        if len(chunk) > len(chunk.dictionary):  # found here, before every mention becomes an id of its own
            raise _unusable(path, "an item twice")
        lengths = pc.min_max(pc.binary_length(chunk.dictionary)).as_py()
        if len(chunk) and not (lengths["min"] > 0 and lengths["max"] <= MAX_ID_BYTES):
            raise _unusable(path, f"ids that are not 1 to {MAX_ID_BYTES} bytes long")
    ids: list[str] = []
    for batch in pa.table([column.cast(pa.string())], names=["item_id"]).to_batches(_ROWS_AT_ONCE):
        ids += batch.column(0).to_pylist()
    return ids


def _unusable(path: Path, found: str) -> BundleError:
    return BundleError(f"{path.name} expects columns {_COLUMNS} without nulls, found: {found}; train a new bundle")
