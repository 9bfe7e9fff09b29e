"""Whose a click log is: one process at a time writes it, for one application, from one topic.

A lock keeps processes apart; a note in the folder says for which application, and from which topic, the log is written.
A trainer takes the lock, and sees that the log is its application's; then it waits for its role; and when it begins it
asks the broker whether the topic is the log's. Before it writes it asks again, each time (`ClickConsumer`).
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Event

import msgspec

from nextclick.errors import PermanentError
from tools.files import make_folder
from tools.kafka import TopicIdentity

NOTE = "owner.json"
_RETRY_S = 0.5
_log = logging.getLogger(__name__)


class LogOwner(msgspec.Struct, frozen=True):
    """For whom a click log is written.

    Attributes:
        app: the application.
        clicks: the topic that all its clicks are from.
    """

    app: str
    clicks: TopicIdentity


def read_owner(folder: Path) -> LogOwner | None:
    """Give the owner of a click log; None when it has no note yet: it is new, or an earlier version wrote it.

    Raises:
        PermanentError: the note cannot be read.
    """
    note = folder / NOTE
    try:
        return msgspec.json.decode(note.read_bytes(), type=LogOwner)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise PermanentError(
            f"{note} should say which application and topic the click log is of, but cannot be read: {found}. Restore "
            "it; or remove it, if you know that the log is of this application and this topic: it is written anew"
        ) from error


def refuse_other_owner(place: Path | str, noted: LogOwner | None, now: LogOwner) -> None:
    """Refuse to go on with the log of another application or topic. More partitions of the same topic are fine.

    Args:
        place: of the log: a folder, or an address in an object store.
        noted: whose it is.
        now: who would go on with it.

    Raises:
        PermanentError: it is another's.
    """
    if noted is not None:
        _refuse_other_app(place, noted, now.app)
        refuse_other_topic(place, noted.clicks, now.clicks)


def refuse_other_topic(place: Path | str, noted: TopicIdentity, now: TopicIdentity) -> None:
    """Refuse to write the clicks of one topic to the log of another: its offsets would be taken for the other's.

    Args:
        place: of the log: a folder, or an address in an object store.
        noted: the topic whose clicks it holds.
        now: the topic whose clicks would be written.

    Raises:
        PermanentError: it is another topic, whatever its name.
    """
    if noted.is_same_topic(now):
        return
    if noted.topic != now.topic:
        raise PermanentError(
            f"{_named(place)} holds the clicks of the topic {noted.topic}, not of {now.topic}: choose another one with "
            f"--set {_other(place)}, or correct clicks_topic"
        )
    raise PermanentError(
        f"{_named(place)} holds the clicks of the topic {noted.topic} with the id {noted.topic_id}, and the topic of "
        f"this name now has the id {now.topic_id}: it was created anew, or is in another cluster. Move the click log "
        f"away, or choose a new one with --set {_other(place)}: it begins with the clicks that the topic has now"
    )


@contextmanager
def lock_of(
    folder: Path, app: str, stop: Event, while_waiting: AbstractContextManager[None] | None = None
) -> Iterator[bool]:
    """Hold the lock of a click log; the system frees it when the process dies. Waits while another process has it.

    Args:
        folder: of the log.
        app: whose it is to be.
        stop: ends the wait.
        while_waiting: entered for the time of the wait, if there is one.

    Yields:
        Whether the lock is held; False only when `stop` was set during the wait.

    Raises:
        PermanentError: the log is another application's, or the folder cannot be written or locked.
    """
    try:
        make_folder(folder)
        file = (folder / ".lock").open("wb")
    except OSError as error:
        raise _unusable(folder, error) from error
    with file:
        held = _try_lock(folder, app, file.fileno())
        if not held:
            _log.warning("waiting: another trainer writes the click log %s", folder)
            with while_waiting or nullcontext():
                while not held and not stop.wait(_RETRY_S):
                    held = _try_lock(folder, app, file.fileno())
        yield held


def _try_lock(folder: Path, app: str, descriptor: int) -> bool:
    """Look who owns the log also while another process has the lock: it would be waited for in vain."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except BlockingIOError:
        held = False
    except OSError as error:
        raise _unusable(folder, error) from error
    noted = read_owner(folder)
    if noted is not None:
        _refuse_other_app(folder, noted, app)
    return held


def _refuse_other_app(place: Path | str, noted: LogOwner, app: str) -> None:
    if noted.app != app:
        raise PermanentError(
            f"{_named(place)} holds the clicks of the application {noted.app!r}, and this is the application {app!r}: "
            f"give each application a click log of its own with --set {_other(place)}; or, if this one was only "
            f"renamed, remove {place}/{NOTE}"
        )


def _named(place: Path | str) -> str:
    return f"log_dir {place}" if isinstance(place, Path) else f"click_log {place}"


def _other(place: Path | str) -> str:
    return "log_dir=PATH" if isinstance(place, Path) else "click_log=ADDRESS"


def _unusable(folder: Path, error: OSError) -> PermanentError:
    return PermanentError(
        f"expected to write the click log {folder} and to lock it, found: {error.strerror or error}; correct the "
        "permissions, or choose another folder with --set log_dir=PATH, on a file system that has locks"
    )
