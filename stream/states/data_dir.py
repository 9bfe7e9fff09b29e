"""A worker's folder on the local disk: made, checked and locked before anything else starts."""

import errno
import fcntl
import os
import uuid
from pathlib import Path

from nextclick.errors import PermanentError
from tools.files import make_folder, write_whole

NEEDED_BYTES = 64 * 1024**2  # two write buffers of RocksDB and its log: with less a worker fails in minutes


def read_note(path: Path, name: str) -> str:
    """Give what a worker's folder notes of whose it is; empty if nothing: a power failure can leave a name alone.

    Args:
        path: the folder.
        name: `app`, or `changelog`.

    Raises:
        OSError: it cannot be read.
    """
    note = path / name
    return note.read_text() if note.exists() else ""


def refuse_other_app(path: Path, noted: str, app: str) -> None:
    """Refuse a folder that holds states of another application.

    Raises:
        PermanentError: it does.
    """
    if noted != app:
        raise PermanentError(
            f"data_dir {path} expects the application {app!r}, found states of {noted!r}; "
            "choose another with --set data_dir=PATH"
        )


def refuse_other_changelog(path: Path, noted: str, topic: str, topic_id: str) -> None:
    """Refuse a folder that holds a copy of another changelog.

    Args:
        path: the folder.
        noted: the id of the changelog that it is a copy of.
        topic: the changelog's name, for the message.
        topic_id: Kafka's.

    Raises:
        PermanentError: it does.
    """
    if noted != topic_id:
        raise PermanentError(
            f"data_dir {path} expects the topic {topic} of id {noted} that its states are a copy of, found "
            f"one of id {topic_id}: it was created anew, or is in another cluster. Delete the folder (the states "
            "are restored from the topic), or choose another with --set data_dir=PATH"
        )


class DataDir:
    """Holds the lock on a worker's folder for as long as the process lives."""

    def __init__(self, path: Path, app: str) -> None:
        """Make, check and lock the folder.

        Raises:
            PermanentError: it cannot be written, is too full, belongs to another application, or is in use.
        """
        self.path = path
        try:
            make_folder(path)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            self._take_lock()
            self._claim(app)
            space = os.statvfs(path)
        except OSError as error:
            raise self._unusable(error) from error
        free_bytes = space.f_bavail * space.f_frsize
        if free_bytes < NEEDED_BYTES:
            raise PermanentError(
                f"data_dir {path} expects {NEEDED_BYTES // 1024**2} MiB of free disk, "
                f"found {free_bytes // 1024**2} MiB; free some space or choose another with --set data_dir=PATH"
            )

    def instance_id(self) -> str:
        """Give the name of the worker in the consumer group: the same after every restart on this folder.

        Raises:
            PermanentError: the folder cannot be written.
        """
        try:
            return self._note("instance", uuid.uuid4().hex)
        except OSError as error:
            raise self._unusable(error) from error

    def claim_changelog(self, topic: str, topic_id: str) -> None:
        """Note which changelog the folder's states are a copy of; one that holds another's is refused.

        Args:
            topic: the changelog's name, for the message.
            topic_id: Kafka's, which is another one in another cluster and when the topic is created anew.

        Raises:
            PermanentError: the folder is a copy of another changelog, or cannot be written.
        """
        try:
            noted = self._note("changelog", topic_id)
        except OSError as error:
            raise self._unusable(error) from error
        refuse_other_changelog(self.path, noted, topic, topic_id)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermanentError(
                f"data_dir {self.path} expects one worker, found another that uses it; "
                "give each worker its own with --set data_dir=PATH"
            ) from None

    def _claim(self, app: str) -> None:
        refuse_other_app(self.path, self._note("app", app), app)

    def _note(self, name: str, text: str) -> str:
        """Write a note unless there is one; gives what is noted."""
        if not read_note(self.path, name):
            write_whole(self.path / name, text.encode())  # a full disk must not leave half a name
        return read_note(self.path, name)

    def _unusable(self, error: OSError) -> PermanentError:
        remedy = "free some space" if error.errno == errno.ENOSPC else "choose another with --set data_dir=PATH"
        return PermanentError(
            f"data_dir {self.path} expects a folder that can be written, found: {error.strerror}; {remedy}"
        )
