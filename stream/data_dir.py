"""A worker's folder on the local disk: made, checked and locked before anything else starts."""

import errno
import fcntl
import os
import uuid
from pathlib import Path

from nextclick.errors import PermanentError

NEEDED_BYTES = 64 * 1024**2  # two write buffers of RocksDB and its log: with less a worker fails in minutes


class DataDir:
    """Holds the lock on a worker's folder for as long as the process lives."""

    def __init__(self, path: Path, app: str) -> None:
        """Make, check and lock the folder.

        Raises:
            PermanentError: it cannot be written, is too full, belongs to another application, or is in use.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            self._take_lock()
            self._claim(app)
            space = os.statvfs(path)
        except OSError as error:
            raise PermanentError(
                f"data_dir {path} expects a folder that can be written, found: {error.strerror}; "
                f"{'free some space' if error.errno == errno.ENOSPC else 'choose another with --set data_dir=PATH'}"
            ) from error
        free_bytes = space.f_bavail * space.f_frsize
        if free_bytes < NEEDED_BYTES:
            raise PermanentError(
                f"data_dir {path} expects {NEEDED_BYTES // 1024**2} MiB of free disk, "
                f"found {free_bytes // 1024**2} MiB; free some space or choose another with --set data_dir=PATH"
            )

    def instance_id(self) -> str:
        """Give the name of the worker in the consumer group: the same after every restart on this folder."""
        path = self.path / "instance"
        if not path.exists():
            draft = self.path / ".draft-instance"
            draft.write_text(uuid.uuid4().hex)
            draft.replace(path)
        return path.read_text()

    def release(self) -> None:
        """Let another worker use the folder."""
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermanentError(
                f"data_dir {self.path} expects one worker, found another that uses it; "
                "give each worker its own with --set data_dir=PATH"
            ) from None

    def _claim(self, app: str) -> None:
        owner = self.path / "app"
        if not owner.exists():
            draft = self.path / ".draft-app"
            draft.write_text(app)
            draft.replace(owner)  # a full disk must not leave half a name
        elif owner.read_text() != app:
            raise PermanentError(
                f"data_dir {self.path} expects the application {app!r}, found states of {owner.read_text()!r}; "
                "choose another with --set data_dir=PATH"
            )
