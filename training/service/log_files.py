"""One file of the click log: its name, its rows, its age, and how damage is noticed.

A Parquet file with page checksums, as any reader takes it. Page checksums leave out the footer, where a changed bit can
stand for other rows. So a seal stands before the footer, where Parquet leaves room for what is not its own:

    pages | seal: a mark, xxh3-64 of the pages, xxh3-64 of what follows | footer, its length, "PAR1"

Files of earlier versions have no seal and no time: they are read as they are, and are as old as the file system says.
The column `event_hash` is there only where a click has one.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from nextclick.errors import PermanentError
from tools.files import whole_file

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp_ms", pa.int64()),
        ("event_type", pa.uint8()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("event_hash", pa.uint32()),  # not in a file whose clicks have none: earlier versions read it, and wrote it so
    ]
)
_EVENT_HASH = SCHEMA.get_field_index("event_hash")
_WITHOUT_EVENT_HASH = SCHEMA.remove(_EVENT_HASH)
_WRITTEN_MS = b"nextclick.written_ms"  # in the footer: when the newest row was first written, in ms since 1970
_MARK = b"nextclk1"
_SEAL = struct.Struct("<8sQQ")
_END_BYTES = 8  # of a Parquet file: the length of the footer in four bytes, and "PAR1"


class LogFile(NamedTuple):
    """A file of the log, as it was when it was last looked at. Sorts by partition and offset.

    Attributes:
        partition: of all its clicks.
        first: the first offset that it covers.
        last: the last offset that it covers.
        path: where it is.
        n_clicks: rows; none where only rejected records were read, or where clicks were removed for their age.
        n_bytes: its size.
        written_s: when its newest row was first written, in seconds since 1970; merging and copying keep it.
    """

    partition: int
    first: int
    last: int
    path: Path
    n_clicks: int
    n_bytes: int
    written_s: float


def path_of(folder: Path, partition: int, first: int, last: int) -> Path:
    """Give the path of the file that covers these offsets, both inclusive."""
    return folder / f"partition={partition}" / f"{first:020d}-{last:020d}.parquet"


def encode_file(rows: pa.Table, written_s: float) -> bytes:
    """Give the content of a file.

    Args:
        rows: of `SCHEMA`; it may have none.
        written_s: when the newest of them was first written, in seconds since 1970.
    """
    if not pc.any(pc.not_equal(rows["event_hash"], 0)).as_py():
        rows = rows.drop_columns(["event_hash"])
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, rows.schema, compression="zstd", write_page_checksum=True, store_schema=False
    ) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({_WRITTEN_MS: str(round(written_s * 1000))})
    content = memoryview(sink.getvalue())
    pages, footer = content[: _footer_at(content)], content[_footer_at(content) :]
    seal = _SEAL.pack(_MARK, xxhash.xxh3_64_intdigest(pages), xxhash.xxh3_64_intdigest(footer))
    return b"".join((pages, seal, footer))


def write_file(path: Path, content: bytes) -> LogFile:
    """Let a file appear whole, in place of one of the same name.

    Args:
        path: as `path_of` gives it.
        content: as `encode_file` gives it.

    Raises:
        OSError: the folder cannot be written.
    """
    with whole_file(path) as file:
        file.write(content)
    return look_at(path, may_be_empty=False)


def look_at(path: Path, *, may_be_empty: bool) -> LogFile:
    """Tell what a file covers and how old it is; of its content only the end is read, and checked.

    Args:
        path: of the file.
        may_be_empty: an earlier version wrote the log: for it, a file of no bytes was a range without clicks.

    Raises:
        PermanentError: it is no file of a click log, or it is damaged.
        OSError: it cannot be read.
    """
    offsets = parse_name(path)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size == 0 and may_be_empty:
            return LogFile(*offsets, path, 0, 0, status.st_mtime)
        file.seek(max(0, status.st_size - _END_BYTES))
        seal_at = status.st_size + _footer_at(file.read(_END_BYTES)) - _END_BYTES - _SEAL.size
        file.seek(max(0, seal_at))
        metadata, _ = _checked_footer(path, file.read())
    return LogFile(*offsets, path, metadata.num_rows, status.st_size, _written_s(metadata, status.st_mtime))


def read_rows(file: LogFile) -> pa.Table:
    """Read a file's rows, all of them as they were written.

    Raises:
        PermanentError: it is damaged, or holds something else than clicks.
        OSError: it cannot be read.
    """
    content = file.path.read_bytes()
    if len(content) != file.n_bytes:
        raise _damaged(file.path, f"it has {len(content)} bytes, and had {file.n_bytes} when the log was opened")
    return decode_rows(file.path, content) if content else SCHEMA.empty_table()


def decode_rows(path: Path, content: bytes) -> pa.Table:
    """Give the rows that a file's content has.

    Args:
        path: for the message.
        content: of the file.

    Raises:
        PermanentError: it is damaged, or holds something else than clicks.
    """
    _, pages_digest = _checked_footer(path, content)
    pages = memoryview(content)[: _footer_at(content) - _SEAL.size]
    if pages_digest is not None and xxhash.xxh3_64_intdigest(pages) != pages_digest:
        raise _damaged(path, "its checksum is another one")
    with _damage_named(path):
        rows = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    rows = rows.replace_schema_metadata()
    if rows.schema == _WITHOUT_EVENT_HASH:
        none = pa.array(np.zeros(len(rows), dtype=np.uint32))
        rows = rows.append_column(SCHEMA.field(_EVENT_HASH), none)
    if rows.schema != SCHEMA or any(column.null_count for column in rows.columns):
        columns = ", ".join(f"{column.name} {column.type}" for column in rows.schema)
        raise PermanentError(
            f"{path} should have the columns of a click log, without gaps, but has others, or values are missing "
            f"({columns}); move it elsewhere: no trainer wrote it"
        )
    return rows


def written_s_of(path: Path, content: bytes, otherwise_s: float) -> float:
    """Tell when the newest row of a file's content was first written, in seconds since 1970.

    Args:
        path: for the message.
        content: of the file.
        otherwise_s: for a file of an earlier version, which does not say so.

    Raises:
        PermanentError: it is damaged.
    """
    return _written_s(_checked_footer(path, content)[0], otherwise_s)


def _written_s(metadata: pq.FileMetaData, otherwise_s: float) -> float:
    written_ms = (metadata.metadata or {}).get(_WRITTEN_MS)
    return int(written_ms) / 1000 if written_ms is not None else otherwise_s


def parse_name(path: Path) -> tuple[int, int, int]:
    """Give partition, first and last offset of a file of the log.

    Raises:
        PermanentError: it is none, by its name.
    """
    try:
        partition = int(path.parent.name.removeprefix("partition="))
        first, last = (int(part) for part in path.stem.split("-"))
    except ValueError:
        raise PermanentError(
            f"the click log expects files named partition=N/FIRST-LAST.parquet, found {path}; move it elsewhere"
        ) from None
    return partition, first, last


def _checked_footer(path: Path, content: bytes) -> tuple[pq.FileMetaData, int | None]:
    """Check the footer at the end of some content with the seal, and read it; give the pages' checksum if there is one.

    Args:
        path: for the message.
        content: the file, or its end from the seal on.
    """
    footer_at = _footer_at(content)
    seal = bytes(content[max(0, footer_at - _SEAL.size) : max(0, footer_at)]).rjust(_SEAL.size)
    mark, pages_digest, digest = _SEAL.unpack(seal)
    is_sealed = mark == _MARK
    if is_sealed and xxhash.xxh3_64_intdigest(memoryview(content)[footer_at:]) != digest:
        raise _damaged(path, "the checksum of its footer is another one")
    with _damage_named(path):
        metadata = pq.read_metadata(pa.BufferReader(content))
    if not is_sealed and _WRITTEN_MS in (metadata.metadata or {}):
        raise _damaged(path, "a trainer wrote it, but its checksum is not there (did another program write it anew?)")
    return metadata, pages_digest if is_sealed else None  # an earlier version seals nothing


def _footer_at(content: bytes | memoryview) -> int:
    """Tell where the footer begins in content that ends as a Parquet file does; negative if that is not among it."""
    return len(content) - _END_BYTES - int.from_bytes(content[-_END_BYTES:-4], "little")


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of bytes that are in memory: whatever the library makes of damaged ones
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, found: str) -> PermanentError:
    return PermanentError(
        f"{path} is damaged: {' '.join(found.split())}. Restore it from a copy, or remove it: if it is the newest of "
        "its partition, its clicks are read again from the topic, else they are missing from the log"
    )
