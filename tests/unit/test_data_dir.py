"""A worker's folder: made, checked and locked, or refused with one line that says what to do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import stream.states.data_dir
from nextclick.errors import PermanentError
from stream.states.data_dir import DataDir

_HOLDER = """
import sys
from pathlib import Path
from stream.states.data_dir import DataDir
held = DataDir(Path(sys.argv[1]), "shop")
print("held", flush=True)
sys.stdin.read()
"""
# Every write to a file fails as on a full disk (the system says EFBIG instead of ENOSPC); standard output is a pipe.
_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from nextclick.errors import PermanentError
from stream.states.data_dir import DataDir
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    DataDir(Path(sys.argv[1]), "shop")
except PermanentError as error:
    print(error)
"""


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    """Nothing has to be prepared."""
    path = tmp_path / "some" / "where"

    data_dir = DataDir(path, "shop")

    assert data_dir.path == path
    assert path.is_dir()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Two workers on one RocksDB would ruin it."""
    with _held_by_another_process(tmp_path), pytest.raises(PermanentError) as refused:
        DataDir(tmp_path, "shop")

    assert "expects one worker, found another that uses it" in str(refused.value)
    assert "--set data_dir=PATH" in str(refused.value)


def test_a_folder_is_free_when_its_holder_has_ended(tmp_path: Path) -> None:
    """However it ended: the lock goes with the process, and the states stay."""
    with _held_by_another_process(tmp_path):
        (tmp_path / "state").write_text("kept")

    DataDir(tmp_path, "shop")

    assert (tmp_path / "state").read_text() == "kept"


def test_a_folder_of_another_application_is_refused(tmp_path: Path) -> None:
    """Its states would be taken for this application's."""
    with _held_by_another_process(tmp_path):
        pass

    with pytest.raises(PermanentError, match="expects the application 'library', found states of 'shop'"):
        DataDir(tmp_path, "library")


def test_a_folder_with_states_of_another_changelog_is_refused(tmp_path: Path) -> None:
    """Another cluster's, or one that was created anew: its offsets and states are others."""
    first = DataDir(tmp_path, "shop")
    first.claim_changelog("states", "first-id")
    os.close(first._lock)  # as the end of its process does
    second = DataDir(tmp_path, "shop")
    second.claim_changelog("states", "first-id")

    with pytest.raises(PermanentError) as refused:
        second.claim_changelog("states", "second-id")

    message = str(refused.value)
    assert "expects the topic states of id first-id" in message
    assert "found one of id second-id" in message
    assert "Delete the folder" in message


@pytest.mark.parametrize("below", ["", "worker"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, below: str) -> None:
    """Whether it is the folder itself or a parent."""
    (tmp_path / "file").write_text("")

    with pytest.raises(PermanentError) as refused:
        DataDir(tmp_path / "file" / below, "shop")

    message = str(refused.value)
    assert "expects a folder that can be written, found: " in message
    assert "choose another with --set data_dir=PATH" in message
    assert "\n" not in message


def test_too_little_space_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better than a worker that fails after some minutes."""
    monkeypatch.setattr(stream.states.data_dir, "NEEDED_BYTES", 2**62)

    with pytest.raises(PermanentError, match=r"MiB of free disk, found .* MiB; free some space"):
        DataDir(tmp_path, "shop")


def test_a_full_disk_can_be_mended(tmp_path: Path) -> None:
    """A start on a full disk is refused, and leaves nothing that refuses the next one."""
    refused = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )

    assert refused.stdout.startswith(f"data_dir {tmp_path} expects a folder that can be written, found: ")

    data_dir = DataDir(tmp_path, "shop")

    assert data_dir.path == tmp_path


@contextmanager
def _held_by_another_process(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        assert holder.stdout.readline() == "held\n", holder.stderr.read()
        try:
            yield
        finally:
            holder.kill()
