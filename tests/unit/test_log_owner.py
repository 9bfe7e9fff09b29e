"""Whose a click log is: another application's, or another topic's, is refused with the way out."""

import errno
import fcntl
import logging
from pathlib import Path
from threading import Event

import pytest

from nextclick.errors import PermanentError
from tools.kafka import TopicIdentity
from training.service.click_log import ClickLog
from training.service.log_files import path_of
from training.service.log_owner import NOTE, LogOwner, lock_of, read_owner

CLICKS = TopicIdentity("clicks", "first", 4, "cluster")
OWNER = LogOwner("shop", CLICKS)


def test_the_owner_stays_the_owner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Claimed once, the log says so in every later process; a new one is claimed without a word."""
    ClickLog(tmp_path).claim(OWNER)

    ClickLog(tmp_path).claim(OWNER)

    assert ClickLog(tmp_path).owner == read_owner(tmp_path) == OWNER
    assert caplog.messages == []


def test_more_partitions_are_the_same_topic(tmp_path: Path) -> None:
    """A topic that grows goes on where its log ends."""
    ClickLog(tmp_path).claim(OWNER)

    ClickLog(tmp_path).claim(LogOwner("shop", TopicIdentity("clicks", "first", 8, "cluster")))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (LogOwner("bank", CLICKS), ["'shop'", "'bank'", "--set log_dir=PATH"]),
        (LogOwner("shop", TopicIdentity("orders", "other", 4, "cluster")), ["clicks", "orders", "clicks_topic"]),
        (LogOwner("shop", TopicIdentity("clicks", "second", 4, "cluster")), ["first", "second", "--set log_dir=PATH"]),
        (LogOwner("shop", TopicIdentity("clicks", "first", 4, "elsewhere")), ["cluster", "--set log_dir=PATH"]),
    ],
)
def test_another_owner_is_refused(tmp_path: Path, other: LogOwner, words: list[str]) -> None:
    """One line says what the log is, what was asked for, and which setting to change; the note stays."""
    ClickLog(tmp_path).claim(OWNER)

    with pytest.raises(PermanentError) as error:
        ClickLog(tmp_path).claim(other)

    assert [word for word in (*words, str(tmp_path)) if word not in str(error.value)] == []
    assert "\n" not in str(error.value)
    assert read_owner(tmp_path) == OWNER


def test_a_log_of_an_earlier_version_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says nothing of its topic: one warning. Files of no bytes become whole ones; from then on they are damage."""
    ClickLog(tmp_path).append(0, 0, 9, [])
    empty = path_of(tmp_path, 0, 0, 9)
    empty.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        ClickLog(tmp_path).claim(OWNER)

    assert [message for message in caplog.messages if "shop" in message and str(tmp_path) in message]
    assert len(caplog.messages) == 1
    assert ClickLog(tmp_path).ends == {0: 10}
    assert empty.stat().st_size > 0
    empty.write_bytes(b"")
    with pytest.raises(PermanentError, match="is damaged"):
        ClickLog(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"app": "shop"', b"\xff"])
def test_a_note_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    """It is not passed over: then the log would be anyone's."""
    (tmp_path / NOTE).write_bytes(content)

    with pytest.raises(PermanentError, match=NOTE) as error:
        ClickLog(tmp_path)

    assert "\n" not in str(error.value)


def test_one_process_at_a_time_has_the_lock(tmp_path: Path) -> None:
    """Another waits, until it is stopped; with the lock free again it gets it."""
    stop = Event()
    with lock_of(tmp_path, "shop", stop) as first:
        stop.set()
        with lock_of(tmp_path, "shop", stop) as second:
            held_beside = second
    with lock_of(tmp_path, "shop", Event()) as after:
        held_after = after

    assert (first, held_beside, held_after) == (True, False, True)


def test_who_waits_for_another_application_is_told(tmp_path: Path) -> None:
    """That one may hold the log for years; its note may come only while the other waits already."""
    with lock_of(tmp_path, "shop", Event()):
        ClickLog(tmp_path).claim(OWNER)
        with pytest.raises(PermanentError, match="'bank'"), lock_of(tmp_path, "bank", Event()):
            pass


@pytest.mark.parametrize("name", ["", ".lock"])
def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path: Path, name: str) -> None:
    """Something else is in the place of the folder or of the lock."""
    folder = tmp_path / "log"
    if name:
        (folder / name).mkdir(parents=True)
    else:
        folder.write_text("in the way")

    with pytest.raises(PermanentError, match="--set log_dir=PATH"), lock_of(folder, "shop", Event()):
        pass


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network file systems are; no such one can be had here, so the error is handed in."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    with pytest.raises(PermanentError, match="No locks available") as error, lock_of(tmp_path, "shop", Event()):
        pass

    assert "\n" not in str(error.value)
