"""Files that appear whole or not at all, also after a power cut: a hidden name, fsync, rename, fsync of the folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HIDDEN_PREFIX = ".writing-"  # a crash leaves a file of such a name at worst: whoever owns the folder may remove it


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name, or that of the file that it replaces, when the block ends.

    Of two processes that write the same path the last one wins.

    Raises:
        OSError: the disk is full, or the folder cannot be written. Then nobody sees the new file, unless only the
            last step failed, which makes its name outlive a power cut.
    """
    make_folder(path.parent)
    hidden = path.with_name(f"{HIDDEN_PREFIX}{path.name}.{os.getpid()}")
    try:
        with hidden.open("wb") as file:
            yield file
        move_whole(hidden, path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole.

    Raises:
        OSError: as `whole_file` does.
    """
    with whole_file(path) as file:
        file.write(content)


def move_whole(source: Path, path: Path) -> None:
    """Give a file that is complete its final name, in the place of one that has it. On the same disk.

    Raises:
        OSError: as `whole_file` does.
    """
    sync(source)
    source.replace(path)
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that they outlive a power cut.

    Raises:
        OSError: it cannot be made, or a file is in its place.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
