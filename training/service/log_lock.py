"""Lets one trainer at a time write a click log."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from nextclick.errors import PermanentError

_RETRY_S = 0.5
_log = logging.getLogger(__name__)


@contextmanager
def lock_of(folder: Path, stop: Event) -> Iterator[bool]:
    """Hold the lock of a click log; the system frees it when the process dies. Waits while another has it.

    Yields:
        Whether the lock is held; False only when `stop` was set during the wait.

    Raises:
        PermanentError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("wb")
    except OSError as error:
        raise PermanentError(
            f"expected to write the click log {folder}, found: {error.strerror or error}; correct the permissions or "
            "choose another folder with --set log_dir=PATH"
        ) from error
    with file:
        held = _try_lock(file.fileno())
        if not held:
            _log.warning("waiting: another trainer writes the click log %s", folder)
        while not held and not stop.wait(_RETRY_S):
            held = _try_lock(file.fileno())
        yield held


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
