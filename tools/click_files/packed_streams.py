"""Unpacks bzip2 and xz, whose files may be several streams, one behind the other.

Python's own readers end in silence at what begins no stream, and whatever stands behind it is lost.
"""

import bz2
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

_AT_ONCE = 1 << 14  # packed bytes; what is behind the end of a stream is copied, so more would not be quicker

Stream = bz2.BZ2Decompressor | lzma.LZMADecompressor


class PackedStreams(io.RawIOBase):
    """The bytes of all streams of a file.

    Args:
        path: the file.
        begin: gives the reader of a stream; what it raises for wrong bytes rises from here.
        padding: of how many zeros, or a multiple of it, may stand behind a stream; 0: none.
    """

    def __init__(self, path: Path, begin: Callable[[], Stream], padding: int = 0) -> None:
        self._file = path.open("rb")
        self._begin = begin
        self._padding = padding
        self._stream = begin()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, perhaps not wholly; 0 is the end.

        Raises:
            EOFError: the file ends inside a stream.
            OSError, lzma.LZMAError: wrong bytes.
        """
        unpacked = b""
        while not unpacked:
            packed = b""
            if self._stream.eof:
                packed = self._behind_stream()
                if not packed:
                    return 0
                self._stream = self._begin()
            elif self._stream.needs_input:
                packed = self._file.read(_AT_ONCE)
                if not packed:
                    raise EOFError("it ends before the end of its packed data")
            unpacked = self._stream.decompress(packed, len(buffer))
        buffer[: len(unpacked)] = unpacked
        return len(unpacked)

    def _behind_stream(self) -> bytes:
        """Give what follows a stream, without padding; nothing at the end of the file."""
        packed = self._stream.unused_data or self._file.read(_AT_ONCE)
        n_zeros = 0
        while self._padding and packed.startswith(b"\0"):
            following = packed.lstrip(b"\0")
            n_zeros += len(packed) - len(following)
            packed = following or self._file.read(_AT_ONCE)
        if self._padding and n_zeros % self._padding:
            raise lzma.LZMAError("the padding behind a stream has a wrong length")
        return packed

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
