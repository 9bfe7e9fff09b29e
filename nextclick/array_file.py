"""Arrays in one file that processes map, and so share: written from front to back, read whole and checked before use.

    magic, length of the description | description | array | array | ... | xxh3-128 of all before

The description is JSON: what the file is about, and of each array its name, type, shape and place. Nothing here makes a
file appear or disappear; who does must never change one in place: what a file that is mapped has lost ends the process.
"""

import math
import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

Arrays = dict[str, npt.NDArray[Any]]

_MAGIC = b"nxtarr1\n"
_LENGTH_BYTES = 8
_ALIGNED_BYTES = 64  # a line of memory
_DIGEST_BYTES = 16
_AT_ONCE_BYTES = 64 * 1024**2

_Number = Annotated[int, msgspec.Meta(ge=0)]


class DamagedFile(ValueError):
    """A file that is cut, changed, about something else, or none of these at all."""


class _Array(msgspec.Struct, frozen=True):
    kind: str
    shape: tuple[_Number, ...]
    begin: _Number

    @property
    def end(self) -> int:
        return self.begin + np.dtype(self.kind).itemsize * math.prod(self.shape)


class _Description(msgspec.Struct, frozen=True):
    about: str
    arrays: dict[str, _Array]


def write_arrays(file: BinaryIO, about: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays.

    Raises:
        OSError: the disk is full, or worse.
    """
    digest = xxhash.xxh3_128()
    for part in _parts(about, arrays):
        for first in range(0, len(part), _AT_ONCE_BYTES):
            piece = part[first : first + _AT_ONCE_BYTES]
            digest.update(piece)
            file.write(piece)
    file.write(digest.digest())


def map_arrays(file: BinaryIO, about: str) -> Arrays:
    """Map the arrays of a file, read-only; the file itself may be closed, renamed or removed then.

    Reads all of it once: about a second for 4 GB that are in memory.

    Raises:
        DamagedFile: it is not what `write_arrays` wrote, or is about something else.
        OSError: it cannot be read.
    """
    if os.fstat(file.fileno()).st_size < len(_MAGIC) + _LENGTH_BYTES + _DIGEST_BYTES:
        raise DamagedFile("it is too short")
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    whole = memoryview(mapped)
    content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
    if xxhash.xxh3_128_digest(content) != digest:
        raise DamagedFile("its bytes are not those that were written")
    begin = len(_MAGIC) + _LENGTH_BYTES
    if content[: len(_MAGIC)] != _MAGIC:
        raise DamagedFile("it is of another kind")
    length = int.from_bytes(content[len(_MAGIC) : begin], "little")
    try:
        description = msgspec.json.decode(content[begin : begin + length], type=_Description)
    except (ValueError, msgspec.DecodeError) as error:
        raise DamagedFile(f"its description cannot be read: {error}") from error
    if description.about != about:
        raise DamagedFile(f"it is about {description.about}")
    try:
        return {
            name: np.frombuffer(content[array.begin : array.end], array.kind).reshape(array.shape)
            for name, array in description.arrays.items()
        }
    except (ValueError, TypeError, OverflowError, SyntaxError) as error:  # what numpy says of types and shapes
        raise DamagedFile(f"its description fits no arrays: {error}") from error


def _parts(about: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[memoryview]:
    """Give the file's content but for its digest, in order."""
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = _Array(array.dtype.str, array.shape, _aligned(end))
        end = places[name].end
    # Places are counted from where the arrays begin, which depends on the description's length: so it is padded.
    fixed = len(_MAGIC) + _LENGTH_BYTES
    longest = len(msgspec.json.encode(_Description(about, _moved(places, 2**62))))
    begin = _aligned(fixed + longest)
    description = msgspec.json.encode(_Description(about, _moved(places, begin))).ljust(begin - fixed)
    yield memoryview(_MAGIC + len(description).to_bytes(_LENGTH_BYTES, "little") + description)
    end = 0
    for name, array in arrays.items():
        yield memoryview(bytes(places[name].begin - end))
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        end = places[name].end


def _moved(places: Mapping[str, _Array], by: int) -> dict[str, _Array]:
    return {name: _Array(array.kind, array.shape, array.begin + by) for name, array in places.items()}


def _aligned(place: int) -> int:
    return -(-place // _ALIGNED_BYTES) * _ALIGNED_BYTES
