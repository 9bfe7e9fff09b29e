"""Opens files of clicks, plain or gzipped (seen by content), and says in one line what is wrong with them."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from nextclick.errors import PermanentError

_FIRST_LINE_CHARACTERS = 64 * 1024  # a session in JSON can be long; its beginning tells the format


def first_line(path: Path) -> str:
    """Give the first line that is not empty, or its beginning; empty for an empty file."""
    with damage_as_one_line(path), open_text(path) as lines:
        while line := lines.readline(_FIRST_LINE_CHARACTERS):
            if line.strip():
                return line
    return ""


def open_text(path: Path) -> TextIO:
    """Open as text. Bytes that are not UTF-8 are kept, so that the line of an id that holds them can be named."""
    if _is_gzip(path):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def open_bytes(path: Path) -> BinaryIO:
    """Open as bytes."""
    return cast(BinaryIO, gzip.open(path, "rb")) if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def damage_as_one_line(path: Path) -> Iterator[None]:
    """Turn what reading can raise into the error for the user."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PermanentError(
            f"{path.name}: expected a whole gzip file, found a damaged one ({error}); get it again"
        ) from None
    except OSError as error:
        raise PermanentError(
            f"{path}: expected a file that can be read, found: {error.strerror or error}; correct the path"
        ) from None


def bad_line(path: Path, line: int, expected: str, found: str) -> PermanentError:
    """Give the error for a line that cannot be read."""
    return PermanentError(f"{path.name}, line {line}: expected {expected}, found {found}; correct or remove the line")
