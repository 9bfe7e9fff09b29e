"""How a file of the click log is written, read and named. Only `training.service.click_log` uses it.

A file appears whole or not at all, also after a power cut: hidden name, fsync, rename, fsync of the folder.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nextclick.errors import PermanentError

HIDDEN_PREFIX = ".writing-"
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp_ms", pa.int64()),
        ("event_type", pa.uint8()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)


class LogFile(NamedTuple):
    """A file of the log and the offsets that it covers, both inclusive."""

    partition: int
    first: int
    last: int
    path: Path


def parse_name(path: Path) -> LogFile:
    """Read what a file covers from its name.

    Raises:
        PermanentError: it is no file of a click log.
    """
    try:
        partition = int(path.parent.name.removeprefix("partition="))
        first, last = (int(part) for part in path.stem.split("-"))
    except ValueError:
        raise PermanentError(
            f"the click log expects files named partition=N/FIRST-LAST.parquet, found {path}; move it elsewhere"
        ) from None
    return LogFile(partition, first, last, path)


def write_file(path: Path, table: pa.Table | None, written_s: float | None = None) -> None:
    """Let a file appear whole, in place of one of the same name.

    Args:
        path: of the file.
        table: the rows; None makes a file of no bytes.
        written_s: when its newest row was first written, in seconds since 1970; now, if not given.
    """
    is_new_folder = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    hidden = path.with_name(HIDDEN_PREFIX + path.name)
    try:
        with hidden.open("wb") as file:
            if table is not None:
                pq.write_table(table, file, compression="zstd")
            file.flush()
            if written_s is not None:
                os.utime(file.fileno(), (written_s, written_s))
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    if is_new_folder:
        sync_folder(path.parent.parent)


def read_file(path: Path) -> pa.Table:
    """Read a file's rows."""
    if path.stat().st_size == 0:
        return SCHEMA.empty_table()
    with path.open("rb") as file:  # an open file: given a path, the folder's name would become a column
        return pq.read_table(file, schema=SCHEMA)


def count_rows(path: Path) -> int:
    """Give the number of a file's rows without reading them."""
    return pq.read_metadata(path).num_rows if path.stat().st_size else 0


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
