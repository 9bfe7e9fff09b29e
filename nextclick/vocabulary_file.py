"""The file of a vocabulary, Parquet of two columns. Only who makes a bundle, or packs one for serving, needs Arrow."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nextclick.clicks import MAX_ID_BYTES
from nextclick.errors import BundleError
from nextclick.vocabulary import MAX_BYTES_PER_ITEM, MAX_ITEMS, Vocabulary

_FILE_OVERHEAD_BYTES = 64 * 1024  # schema, statistics, footer
_ROWS_AT_ONCE = 5_000  # 1 ms: a worker loads a bundle in a thread, and Arrow keeps all others from running meanwhile
_COMPRESSIONS = {"SNAPPY", "UNCOMPRESSED"}

_SCHEMA = pa.schema([("item_id", pa.string()), ("popularity", pa.float64())])
_COLUMNS = "item_id (string) and popularity (double)"


def save_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write a vocabulary."""
    pq.write_table(pa.table([pa.array(vocabulary.item_ids), pa.array(vocabulary.popularity)], schema=_SCHEMA), path)


def load_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary that `save_vocabulary` wrote.

    Raises:
        BundleError: the file is not such a vocabulary.
    """
    item_ids, popularity = _read(path)
    pa.default_memory_pool().release_unused()  # 100 MB of a million items, which a worker never needs again
    return Vocabulary(item_ids, popularity)


def _read(path: Path) -> tuple[list[str], npt.NDArray[np.float64]]:
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
    return item_ids, table["popularity"].to_numpy().copy()


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
