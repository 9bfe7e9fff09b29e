"""Opens a file of clicks as bytes: unpacked, in UTF-8, or refused in one sentence when it is something else.

What a file is, is told from its first bytes, never from its name.
"""

import bz2
import codecs
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from nextclick.errors import PermanentError
from tools.click_files.packed_streams import PackedStreams

PARQUET = b"PAR1"
ARROW = b"ARROW1"
_TAR_MAGIC_AT = 257
_N_LOOKED_AT = 1024  # bytes
_BYTES_PER_NUL = 20  # in a text there are at most single ones
_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22  # APPNOTE, section 4.3.16; a comment follows
_XZ_PADDING = 4  # zeros, section 2.2 of the .xz format; bzip2 has none
_N_AT_ONCE = 1 << 20  # bytes that are converted to UTF-8 in one step

# What people take for a file of clicks, and what to do with it.
_REFUSED: Mapping[bytes, str] = {
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\xff\x06\x00\x00sNaPpY": "packed with snappy; unpack it",
    b"\x1f\x9d": "packed with compress; unpack it",
    b"\x02\x21\x4c\x18": "packed with lz4 in its old format; unpack it",
    b"\x5d\x00\x00": "packed with lzma in its old format; unpack it",
    b"LZIP\x01": "packed with lzip; unpack it",
    b"\x89LZO": "packed with lzop; unpack it",
    b"Obj\x01": "an Avro file; write it as JSON lines or Parquet",
    b"ORC": "an ORC file; write it as Parquet or CSV",
    b"SQLite format 3": "an SQLite database; export the table of clicks as CSV",
    b"\x89HDF": "an HDF5 file; write it as Parquet or CSV",
    b"\x93NUMPY": "an array of NumPy; write it as CSV",
    b"\x80\x02": "a pickle of Python; write it as Parquet or CSV",
    b"\x80\x03": "a pickle of Python; write it as Parquet or CSV",
    b"\x80\x04": "a pickle of Python; write it as Parquet or CSV",
    b"\x80\x05": "a pickle of Python; write it as Parquet or CSV",
    b"%PDF": "a PDF document; get the data as CSV",
    b"<!DOCTYPE": "a web page, probably of a login; download the data itself",
    b"<!doctype": "a web page, probably of a login; download the data itself",
    b"<html": "a web page, probably of a login; download the data itself",
    b"version https://git-lfs": "a pointer of Git LFS; get the data itself with git lfs pull",
}
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # RFC 1950, section 2.2, by level
_ENCODINGS: Mapping[bytes, str] = {  # the longer mark first: one begins like the other
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def _gzip(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(path))


def _bzip2(path: Path) -> BinaryIO:
    return io.BufferedReader(PackedStreams(path, bz2.BZ2Decompressor))


def _xz(path: Path) -> BinaryIO:
    return io.BufferedReader(PackedStreams(path, partial(lzma.LZMADecompressor, lzma.FORMAT_XZ), _XZ_PADDING))


def _zstd(path: Path) -> BinaryIO:
    return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


def _lz4(path: Path) -> BinaryIO:
    return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "lz4"))


def _zip(path: Path) -> BinaryIO:
    """Open the only file of a zip archive."""
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise PermanentError(f"{path.name} is a spreadsheet or another office document; save it as CSV")
    if len(names) != 1:
        found = ", ".join(names[:5]) or "nothing"
        raise PermanentError(f"{path.name}: expected one file in the archive, found {found}; unpack it and give one")
    if archive.getinfo(names[0]).flag_bits & 1:
        raise PermanentError(f"{path.name}: the archive needs a password; unpack it")
    if not _is_alone(path, archive):
        raise PermanentError(f"{path.name}: expected an archive and nothing else, found more bytes; unpack it")
    try:
        return cast(BinaryIO, archive.open(names[0]))
    except NotImplementedError as error:
        raise PermanentError(
            f"{path.name}: expected an archive in the usual way of zip, found another ({error}); unpack it"
        ) from None


def _is_alone(path: Path, archive: zipfile.ZipFile) -> bool:
    """Tell whether a zip archive is all of its file: Python's reader passes over what stands before and behind it."""
    with path.open("rb") as file:
        file.seek(-_ZIP_END_BYTES - len(archive.comment), os.SEEK_END)
        is_last = file.read(len(_ZIP_END)) == _ZIP_END
    return is_last and min(each.header_offset for each in archive.infolist()) == 0


_UNPACKED: Mapping[bytes, tuple[str, Callable[[Path], BinaryIO]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZh": ("bzip2", _bzip2),
    b"\xfd7zXZ\x00": ("xz", _xz),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    # Frames to be skipped, RFC 8878, section 3.1.2: each part of pzstd's files begins with one.
    **{bytes((number, 0x2A, 0x4D, 0x18)): ("zstd", _zstd) for number in range(0x50, 0x60)},
    b"\x04\x22\x4d\x18": ("lz4", _lz4),
    b"PK\x03\x04": ("zip", _zip),
    _ZIP_END: ("zip", _zip),
}


def table_kind(path: Path) -> bytes | None:
    """Give PARQUET or ARROW for a file that holds columns, None for text.

    Raises:
        PermanentError: it cannot be read.
    """
    with damage_as_one_line(path), path.open("rb") as file:
        magic = file.read(len(ARROW))
    return next((kind for kind in (PARQUET, ARROW) if magic.startswith(kind)), None)


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open text as bytes of UTF-8 without a byte order mark. Single bytes may still be wrong: the reader names them.

    Raises:
        PermanentError: the file is not there, damaged, or of a kind that holds no text; also while it is read.
    """
    with damage_as_one_line(path), path.open("rb") as plain:
        start = plain.read(_N_LOOKED_AT)
        _refuse(path, start)
        unpack = next((unpack for magic, unpack in _UNPACKED.items() if start.startswith(magic)), None)
        if unpack is None:
            plain.seek(0)
            yield _in_utf8(path, plain)
            return
        with unpack[1](path) as unpacked:
            yield _in_utf8(path, unpacked, is_packed_as=unpack[0])


@contextmanager
def damage_as_one_line(path: Path) -> Iterator[None]:
    """Turn what reading can raise into the error for the user."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise damaged(path, error) from None
    except UnicodeDecodeError as error:
        raise PermanentError(
            f"{path.name}: expected text in {error.encoding}, found other bytes at {error.start}; write it as UTF-8"
        ) from None
    except OSError as error:
        if error.errno is None:  # Arrow's and bz2's word for it
            raise damaged(path, error) from None
        raise PermanentError(
            f"{path}: expected a file that can be read, found: {error.strerror or error}; correct the path"
        ) from None


def damaged(path: Path, error: Exception) -> PermanentError:
    """Give the error for a file that is cut or has wrong bytes."""
    found = next(iter(str(error).splitlines()), "")
    return PermanentError(f"{path.name}: the file is damaged ({found:.100}); get it again")


def _refuse(path: Path, start: bytes, is_packed_as: str | None = None) -> None:
    """Say what a file is that cannot be read as text."""
    what = next((what for magic, what in _REFUSED.items() if start.startswith(magic)), None)
    if _is_zlib(start):
        what = "packed with zlib; unpack it"
    if start[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        what = "a tar archive; unpack it and give the file in it"
    if is_packed_as is not None and start.startswith((*_UNPACKED, PARQUET, ARROW)):
        what = f"a packed or binary file inside a file that is packed with {is_packed_as}; unpack it once"
    is_wide = _encoding_of(start) is not None
    if what is None and not is_wide and is_packed_as is None and start.startswith(tuple(_UNPACKED)):
        return
    if what is None and not is_wide and start.count(b"\0") * _BYTES_PER_NUL > len(start):
        what = "a file of bytes that are no text; write the clicks as CSV, JSON lines or Parquet"
    if what is not None:
        raise PermanentError(f"{path.name} is {what}")


def _is_zlib(start: bytes) -> bool:
    """Tell zlib's data from a text that begins alike: a column x, and one of the separators \\x01 and ^."""
    try:
        return start.startswith(_ZLIB) and bool(zlib.decompressobj().decompress(start, _N_LOOKED_AT))
    except zlib.error:
        return False


def _encoding_of(start: bytes) -> str | None:
    """Give the wide encoding of a text; None is UTF-8."""
    marked = next((encoding for mark, encoding in _ENCODINGS.items() if start.startswith(mark)), None)
    if marked is not None:
        return marked
    if len(start) >= 4 and start[0] and not start[1] and start[2] and not start[3]:
        return "utf-16-le"
    if len(start) >= 4 and start[1] and not start[0] and start[3] and not start[2]:
        return "utf-16-be"
    return None


def _in_utf8(path: Path, stream: BinaryIO, is_packed_as: str | None = None) -> BinaryIO:
    start = stream.read(_N_LOOKED_AT)
    if is_packed_as is not None:
        _refuse(path, start, is_packed_as)
    encoding = _encoding_of(start)
    if encoding is not None:
        return cast(BinaryIO, _Converted(start, stream, encoding))
    return cast(BinaryIO, _Continued(start.removeprefix(codecs.BOM_UTF8), stream))


class _Continued:
    """A stream whose first bytes were read already."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start = start
        self._stream = stream

    def read(self, n_bytes: int) -> bytes:
        """Give the next bytes, about so many; none at the end."""
        if self._start:
            start, self._start = self._start, b""
            return start + self._stream.read(n_bytes)
        return self._stream.read(n_bytes)


class _Converted:
    """A stream of another encoding as UTF-8."""

    def __init__(self, start: bytes, stream: BinaryIO, encoding: str) -> None:
        self._stream = _Continued(start, stream)
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, n_bytes: int) -> bytes:
        """Give the next bytes, about so many; none at the end."""
        text = b""
        while not text:
            raw = self._stream.read(min(n_bytes, _N_AT_ONCE))
            text = self._decoder.decode(raw, final=not raw).encode()
            if not raw:
                break
        return text
