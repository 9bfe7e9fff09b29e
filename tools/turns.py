"""One process of a machine after the other: a lock on a file, which the system frees when its holder dies."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

_LOOK_EVERY_S = 0.05


@contextlib.contextmanager
def turn(lock_file: Path, wait_s: float) -> Iterator[bool]:
    """Let one process after the other do what the block does; one that hangs does not hold up the others for ever.

    Args:
        lock_file: that all of them name. Where it cannot be written, nobody waits.
        wait_s: for another process; after it the block begins all the same.

    Yields:
        Whether this process is alone with it: else what another one is about to write must stay.
    """
    is_alone = False
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that is only to be read may have what is needed
            lock = stack.enter_context(lock_file.open("ab"))
            end_s = time.monotonic() + wait_s
            while not (is_alone := locked(lock.fileno(), fcntl.LOCK_EX)) and time.monotonic() < end_s:
                time.sleep(_LOOK_EVERY_S)
        yield is_alone


def locked(descriptor: int, kind: int) -> bool:
    """Take a lock (`fcntl.LOCK_SH`, `fcntl.LOCK_EX`) if nobody has one that is in the way; tells whether it is held.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
