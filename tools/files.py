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

    Raises:
        OSError: the disk is full, or the folder cannot be written. Then nothing has changed.
    """
    is_new_folder = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(HIDDEN_PREFIX + path.name)
    try:
        with hidden.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise
    sync(path.parent)
    if is_new_folder:
        sync(path.parent.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole.

    Raises:
        OSError: as `whole_file` does.
    """
    with whole_file(path) as file:
        file.write(content)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
