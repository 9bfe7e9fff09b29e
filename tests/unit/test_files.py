"""Files appear whole or not at all, however their writing ends. `tests/property/test_crashes.py` cuts the power."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.files import HIDDEN_PREFIX, make_folder, move_whole, whole_file, write_whole


def test_a_file_appears_when_its_writing_is_complete(tmp_path: Path) -> None:
    """With the folders that it needs; until then nobody sees it under its name."""
    path = tmp_path / "some" / "where" / "file"

    with whole_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()

    assert path.read_bytes() == b"all of it"
    assert list(path.parent.iterdir()) == [path]


def test_what_is_interrupted_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    """Also by Ctrl-C; nothing else is left in the folder."""
    path = tmp_path / "file"
    write_whole(path, b"old")

    with contextlib.suppress(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_killed_leaves_a_hidden_file_at_worst(tmp_path: Path) -> None:
    """Its name tells whoever owns the folder that it may go."""
    path = tmp_path / "file"
    write_whole(path, b"old")
    code = "import os, sys, tools.files, pathlib\nwith tools.files.whole_file(pathlib.Path(sys.argv[1])): os._exit(9)"

    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 9

    assert path.read_bytes() == b"old"
    assert [other.name.startswith(HIDDEN_PREFIX) for other in tmp_path.iterdir() if other != path] == [True]


def test_two_that_write_one_file_leave_one_of_two_whole_ones(tmp_path: Path) -> None:
    """The last one wins."""
    path = tmp_path / "file"
    other = "import sys, tools.files as f\nfrom pathlib import Path\nf.write_whole(Path(sys.argv[1]), b'theirs')"

    with whole_file(path) as file:
        file.write(b"ours")
        subprocess.run([sys.executable, "-c", other, path], check=True)
        assert path.read_bytes() == b"theirs"

    assert path.read_bytes() == b"ours"


def test_everyone_may_read_what_everyone_may_read(tmp_path: Path) -> None:
    """Trainer and worker may be different users: the rights are those of any new file."""
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "whole", b"")

    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_moves_into_the_place_of_another(tmp_path: Path) -> None:
    """In one step."""
    made, path = tmp_path / "made", tmp_path / "file"
    made.write_bytes(b"new")
    path.write_bytes(b"old")

    move_whole(made, path)

    assert path.read_bytes() == b"new"
    assert not made.exists()


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """And a folder that is there is none."""
    (tmp_path / "file").write_bytes(b"")
    make_folder(tmp_path)

    with pytest.raises(OSError, match=os.strerror(17)):
        make_folder(tmp_path / "file")
