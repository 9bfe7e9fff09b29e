"""Arrays in a file that is mapped: the same to the last bit, or an error; never a wrong number and never a crash."""

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import xxhash

from nextclick.array_file import DamagedFile, map_arrays, write_arrays

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "numbers": np.arange(7, dtype=np.float32),
    "none": np.zeros((0, 3), np.int32),
    "one": np.array(2.5),
    "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    "é": np.array([1, 255], np.uint8),
}


def written(path: Path, about: str = "this") -> Path:
    with path.open("wb") as file:
        write_arrays(file, about, ARRAYS)
    return path


def mapped(path: Path, about: str = "this") -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        return map_arrays(file, about)


def test_arrays_are_found_as_they_were_written(tmp_path: Path) -> None:
    """Any type and shape, without an item too; each begins where a line of memory does, and none can be written."""
    found = mapped(written(tmp_path / "file"))

    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tolist() == array.tolist()
        assert found[name].ctypes.data % 64 == 0 or array.size == 0
        assert not found[name].flags.writeable


def test_what_is_mapped_outlives_the_name_of_the_file(tmp_path: Path) -> None:
    """A bundle is removed, or another file takes its place, while it is served."""
    path = written(tmp_path / "file")
    found = mapped(path)
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").replace(path)

    assert found["numbers"].tolist() == list(range(7))


def test_every_cut_and_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    """A disk that was full, a power cut, a bit that tipped."""
    whole = written(tmp_path / "file").read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(len(whole))]
    damaged += [whole + b"\0", bytes(len(whole))]

    for content in damaged:
        (tmp_path / "damaged").write_bytes(content)
        with pytest.raises(DamagedFile):
            mapped(tmp_path / "damaged")


def test_a_file_about_something_else_is_refused(tmp_path: Path) -> None:
    """Whatever its name says."""
    with pytest.raises(DamagedFile, match="it is about that"):
        mapped(written(tmp_path / "file", "that"))


def test_a_whole_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """One that a later version writes, with a digest that is right."""
    whole = written(tmp_path / "file").read_bytes()[:-16]
    for content in (b"nxtarr2\n" + whole[8:], whole[:16] + b"no JSON" + whole[23:]):
        (tmp_path / "file").write_bytes(content + xxhash.xxh3_128_digest(content))
        with pytest.raises(DamagedFile):
            mapped(tmp_path / "file")


@pytest.mark.parametrize(
    "array",
    [
        {"kind": "O", "shape": [2], "begin": 0},
        {"kind": "no type", "shape": [2], "begin": 0},
        {"kind": "U", "shape": [2], "begin": 0},
        {"kind": "(", "shape": [2], "begin": 0},
        {"kind": "<f4", "shape": [100_000], "begin": 0},
        {"kind": "<f4", "shape": [2**70], "begin": 0},
        {"kind": "<f4", "shape": [2, 2], "begin": 2**70},
        {"kind": "<f4", "shape": [-1, -4], "begin": 0},
        {"kind": "<f4", "shape": [2], "begin": -9},
    ],
    ids=str,
)
def test_a_description_of_arrays_that_cannot_be_is_refused(tmp_path: Path, array: dict[str, Any]) -> None:
    """The digest is right, as it is for anybody who computes one."""
    description = msgspec.json.encode({"about": "this", "arrays": {"x": array}})
    content = b"nxtarr1\n" + len(description).to_bytes(8, "little") + description
    (tmp_path / "file").write_bytes(content + xxhash.xxh3_128_digest(content))

    with pytest.raises(DamagedFile):
        mapped(tmp_path / "file")


def test_a_large_array_is_written_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole copy of it would be memory that nobody has."""

    class Disk(io.BytesIO):
        longest = 0

        def write(self, piece: Any) -> int:
            self.longest = max(self.longest, len(piece))
            return super().write(piece)

    monkeypatch.setattr("nextclick.array_file._AT_ONCE_BYTES", 1_000)
    disk = Disk()
    write_arrays(disk, "this", {"large": np.zeros(10_000)})

    assert disk.longest == 1_000
