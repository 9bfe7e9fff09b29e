"""The click log in an object store: what is written is read back, once, whatever happens in between."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from nextclick.errors import PermanentError
from tests.s3_server import BUCKET, FAULTS, FaultyNetwork, environment_of
from tests.unit.test_click_log import OWNER, read_rows, rows, wait_for_changes, write_aged
from tools.kafka import TopicIdentity
from tools.object_store import ObjectStore, StoreAway
from training.service import click_log
from training.service.click_log import ClickBuffer, ClickLog, ReadRecord
from training.service.log_files import path_of
from training.service.log_owner import LogOwner
from training.service.stored_log import StoredLog

pytestmark = pytest.mark.xdist_group("whole")
PATIENCE_S = 60.0
LIVES = 8


@pytest.fixture(params=["folder", "s3", "s3 with faults"])
def address(request: pytest.FixtureRequest, network: FaultyNetwork, tmp_path: Path) -> str:
    """Where objects of this test alone are."""
    if request.param == "folder":
        return f"file://{tmp_path}/objects"
    if request.param == "s3 with faults":
        network.share = FAULTS
    return f"s3://{BUCKET}/{tmp_path.name}"


def stored(address: str, patience_s: float = PATIENCE_S) -> StoredLog:
    return StoredLog(ObjectStore(address, patience_s=patience_s))


def records(first: int, count: int) -> list[ReadRecord]:
    return [ReadRecord(0, row.offset, None, (row.click,)) for row in rows(first, count)]


def test_another_machine_goes_on_where_the_log_ends(address: str, tmp_path: Path) -> None:
    """With nothing but the address: rows, ends and owner are those of the first."""
    log = ClickLog(tmp_path / "one", stored=stored(address))
    log.claim(OWNER)
    log.append(0, 0, 9, rows(0, 10))
    log.append(1, 5, 9, [])
    other = ClickLog(tmp_path / "other", stored=stored(address))

    assert other.owner == OWNER
    assert (other.ends, other.n_clicks) == ({0: 10, 1: 10}, 10)
    assert read_rows(other) == rows(0, 10)
    other.append(0, 10, 12, rows(10, 3))
    assert read_rows(ClickLog(tmp_path / "one", stored=stored(address))) == rows(0, 13)


def test_merged_removed_and_emptied_files_are_so_everywhere(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that had copies of them has what the store has, after the next start."""
    monkeypatch.setattr(click_log, "_MERGE_AT_FILES", 4)
    log = ClickLog(tmp_path / "one", stored=stored(address))
    log.claim(OWNER)
    for number in range(4):
        log.append(0, number * 10, number * 10 + 9, rows(number * 10, 10))
    log.append(1, 0, 9, rows(0, 10))
    ClickLog(tmp_path / "other", stored=stored(address))
    log.merge_small_files()
    log.append(0, 40, 49, rows(40, 10))
    sizes = [file.n_bytes for file in sorted(log.files)]
    assert log.remove_old(0, max_bytes=sizes[1]) == 50

    for folder in ("other", "new"):
        found = ClickLog(tmp_path / folder, stored=stored(address))
        assert [(file.partition, file.first, file.last, file.n_clicks) for file in sorted(found.files)] == [
            (0, 40, 49, 10),
            (1, 0, 9, 0),
        ]
        assert read_rows(found) == rows(40, 10)


def test_a_log_that_was_in_a_folder_alone_goes_on_in_the_store(address: str, tmp_path: Path) -> None:
    """With `click_log` set: its files are uploaded once, and it is the store's from then on."""
    write_aged(tmp_path / "log", [(0, 10, 3), (0, 10, 1), (1, 4, 1)]).claim(OWNER)
    log = ClickLog(tmp_path / "log", stored=stored(address))
    log.claim(OWNER)

    assert read_rows(log) == read_rows(ClickLog(tmp_path / "other", stored=stored(address))) == rows(0, 20)
    assert ClickLog(tmp_path / "other", stored=stored(address)).owner == OWNER


def test_two_logs_are_not_mixed(address: str, tmp_path: Path) -> None:
    """A folder with a log of its own, where the store has one: nothing of either is touched."""
    ClickLog(tmp_path / "one", stored=stored(address)).claim(OWNER)
    mine = ClickLog(tmp_path / "mine")
    mine.claim(OWNER)
    mine.append(0, 0, 9, rows(0, 10))

    with pytest.raises(PermanentError, match="has a click log of its own, and so has"):
        ClickLog(tmp_path / "mine", stored=stored(address))
    assert read_rows(ClickLog(tmp_path / "mine")) == rows(0, 10)


def test_a_copy_outlives_the_store(address: str, tmp_path: Path) -> None:
    """Whoever empties the bucket does not empty the folder, too: it is said, and the copy can be uploaded again."""
    log = ClickLog(tmp_path / "log", stored=stored(address))
    log.claim(OWNER)
    log.append(0, 0, 9, rows(0, 10))
    store = ObjectStore(address, patience_s=PATIENCE_S)
    for name in store.list():
        store.remove([name])

    with pytest.raises(PermanentError, match=r"is not there any more, and .* remove .*copy-of"):
        ClickLog(tmp_path / "log", stored=stored(address))
    (tmp_path / "log" / "copy-of").unlink()
    assert read_rows(ClickLog(tmp_path / "log", stored=stored(address))) == rows(0, 10)
    assert read_rows(ClickLog(tmp_path / "other", stored=stored(address))) == rows(0, 10)


def test_what_else_lies_below_the_address_is_no_log(address: str, tmp_path: Path) -> None:
    """Bundles, say, below the same bucket."""
    store = ObjectStore(address, patience_s=PATIENCE_S)
    for name in ("bundles/0123456789abcdef/vocabulary.parquet", "notes.parquet", "partition=0/x.txt"):
        store.write(name, b"?")

    assert ClickLog(tmp_path / "log", stored=stored(address)).ends == {}


def test_another_application_is_refused(address: str, tmp_path: Path) -> None:
    """Also one that looked before the first had claimed the log: of two notes one stands."""
    one, other = (ClickLog(tmp_path / name, stored=stored(address)) for name in ("one", "other"))
    one.claim(OWNER)

    with pytest.raises(PermanentError, match="'shop', and this is the application 'bank'"):
        other.claim(LogOwner("bank", OWNER.clicks))
    with pytest.raises(PermanentError, match="'shop', and this is the application 'bank'"):
        ClickLog(tmp_path / "third", stored=stored(address)).claim(LogOwner("bank", OWNER.clicks))


def test_another_applications_log_is_named_by_its_address(address: str, tmp_path: Path) -> None:
    """What to correct is the address, and not the folder of this machine; nothing of the log was fetched by then."""
    ClickLog(tmp_path / "one", stored=stored(address)).claim(OWNER)
    other = msgspec.structs.replace(OWNER, app="bank")

    with pytest.raises(PermanentError, match=r"click_log \w+:.* 'bank'.*--set click_log=ADDRESS.* remove \w+:"):
        stored(address).refuse_other_owner(other)
    with pytest.raises(PermanentError, match=r"click_log \w+:.*with --set click_log=ADDRESS"):
        stored(address).refuse_other_owner(LogOwner("shop", TopicIdentity("clicks", "another", 2)))
    stored(address).refuse_other_owner(LogOwner("shop", TopicIdentity("clicks", "id", 4)))


def test_a_trainer_that_was_paused_is_told(address: str, tmp_path: Path) -> None:
    """Its successor has written the same records: it ends, and both files say the same."""
    paused, successor = (ClickLog(tmp_path / name, stored=stored(address)) for name in ("paused", "successor"))
    successor.append(0, 0, 9, rows(0, 10))
    time.sleep(0.01)  # the files have the time of writing in them

    with pytest.raises(PermanentError, match="another trainer has written"):
        paused.append(0, 0, 9, rows(0, 10))
    paused.append(0, 0, 14, rows(0, 15))  # other names do not meet
    successor.append(0, 10, 19, rows(10, 10))
    found = ClickLog(tmp_path / "next", stored=stored(address))
    assert read_rows(found) == rows(0, 20)
    assert found.n_clicks == 20


def test_while_the_store_is_away_the_log_ends_where_it_did(network: FaultyNetwork, tmp_path: Path) -> None:
    """Clicks wait in memory, and then in the topic; what is here already can be trained on."""
    address = f"s3://{BUCKET}/{tmp_path.name}"
    log = ClickLog(tmp_path / "log", stored=stored(address, patience_s=0.3))
    buffer = ClickBuffer({0: 0})
    buffer.add(records(0, 10))
    buffer.write_to(log)
    buffer.add(records(10, 10))
    network.is_away = True
    with pytest.raises(StoreAway, match=f"{address} does not answer"):
        buffer.write_to(log)
    assert log.remove_old(1e12, max_bytes=10**9) == 0

    assert (log.ends, buffer.n_clicks) == ({0: 10}, 10)
    assert read_rows(log) == rows(0, 10)
    network.is_away = False
    buffer.add(records(20, 5))
    buffer.write_to(log)
    assert (log.ends, buffer.n_clicks) == ({0: 25}, 0)
    assert read_rows(ClickLog(tmp_path / "other", stored=stored(address))) == rows(0, 25)


def test_what_was_written_and_not_confirmed_is_no_other_trainers(network: FaultyNetwork, tmp_path: Path) -> None:
    """Of no answer anybody hears until patience ends: later the same bytes are offered, and known again."""
    address = f"s3://{BUCKET}/{tmp_path.name}"
    log = ClickLog(tmp_path / "log", stored=stored(address, patience_s=0.3))
    buffer = ClickBuffer({0: 0})
    buffer.add(records(0, 10))
    network.share = {"lost": 1.0}
    for _ in range(2):
        with pytest.raises(StoreAway):
            buffer.write_to(log)
        time.sleep(0.01)  # the files have the time of writing in them
    network.share = {}
    buffer.add(records(10, 5))
    buffer.write_to(log)

    assert (log.ends, log.n_clicks, buffer.n_clicks) == ({0: 15}, 15, 0)
    assert read_rows(ClickLog(tmp_path / "other", stored=stored(address))) == rows(0, 15)


def test_a_damaged_object_is_named(address: str, tmp_path: Path) -> None:
    """Before anything is learnt from it."""
    log = ClickLog(tmp_path / "log", stored=stored(address))
    log.append(0, 0, 9, rows(0, 10))
    name = path_of(Path(), 0, 0, 9)
    content = bytearray(log.files[0].path.read_bytes())
    content[len(content) // 3] ^= 1
    ObjectStore(address, patience_s=PATIENCE_S).write(str(name), bytes(content))

    with pytest.raises(PermanentError, match=f"{name} is damaged"):
        ClickLog(tmp_path / "other", stored=stored(address))


def test_a_copy_that_is_damaged_is_fetched_again(address: str, tmp_path: Path) -> None:
    """At a start, where the end of a file does not fit; when all of it is read, wherever the damage is."""
    log = ClickLog(tmp_path / "log", stored=stored(address))
    log.claim(OWNER)
    log.append(0, 0, 9, rows(0, 10))
    log.append(0, 10, 19, rows(10, 10))
    first, second = (file.path for file in sorted(log.files))
    damage(first, len(first.read_bytes()) - 20)
    log = ClickLog(tmp_path / "log", stored=stored(address))
    assert read_rows(log) == rows(0, 20)
    damage(second, len(second.read_bytes()) // 3)
    log = ClickLog(tmp_path / "log", stored=stored(address))
    with pytest.raises(PermanentError, match="is damaged"):
        read_rows(log)

    assert log.mend_copies() == [second]
    assert log.mend_copies() == []
    assert read_rows(log) == rows(0, 20)


def damage(path: Path, place: int) -> None:
    """Let a bit of a file be another one."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


_WRITER = """
import os, sys
from pathlib import Path
import obstore
from nextclick.clicks import Click
from nextclick.errors import PermanentError
from tools.kafka import TopicIdentity
from tools.kafka import TopicIdentity
from tools.object_store import ObjectStore
from training.service import click_log
from training.service.click_log import ClickLog, LogRow
from training.service.log_owner import LogOwner
from training.service.stored_log import StoredLog

click_log._MERGE_AT_FILES = 5

def write(folder):
    log = ClickLog(Path(folder), stored=StoredLog(ObjectStore(sys.argv[1], patience_s=60)))
    log.claim(LogOwner("shop", TopicIdentity("clicks", "id", 2)))
    begin = log.ends.get(0, 0)
    for first in range(begin, begin + 100_000, 10):
        log.append(0, first, first + 9, [LogRow(o, Click(f"user-{o % 3}", f"item-{o % 5}", 1000 + o, o % 2, o % 4))
                                         for o in range(first, first + 10)])
        log.merge_small_files()

for folder in sys.stdin:  # a life for every line; the process that is killed is a child, so that all is imported once
    child = os.fork()
    if not child:
        try:
            write(folder.strip())
        except PermanentError as error:
            print(error, file=sys.stderr)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@contextmanager
def lives(address: str, network: FaultyNetwork) -> Iterator["subprocess.Popen[str]"]:
    """A program that begins to write the log in a child process for every line, which names its folder."""
    pipe, environment = subprocess.PIPE, os.environ | environment_of(network.port)
    arguments = [sys.executable, "-c", _WRITER, address]
    with subprocess.Popen(arguments, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def begin_life(process: "subprocess.Popen[str]", folder: Path) -> int:
    """Begin one; gives the process that writes."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(folder, file=process.stdin, flush=True)
    return int(process.stdout.readline())


def end_life(process: "subprocess.Popen[str]", writer: int) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ProcessLookupError):  # it has seen that another trainer writes, and has ended
        os.kill(writer, signal.SIGKILL)
    assert process.stdout.readline() == "ended\n"


def test_a_writer_killed_at_any_moment_loses_and_doubles_nothing(network: FaultyNetwork, tmp_path: Path) -> None:
    """SIGKILL while files are written and merged, one request in six going wrong; every other life on a new machine."""
    address = f"s3://{BUCKET}/{tmp_path.name}"
    network.share = FAULTS | {"hang": 0.002}
    ended = 0
    with lives(address, network) as process:
        for number in range(LIVES):
            folder = tmp_path / f"machine-{number // 2}"
            writer = begin_life(process, folder)
            wait_for_changes(folder / "partition=0", 8 + 3 * number)  # a different moment each time
            end_life(process, writer)
            log = ClickLog(tmp_path / f"reader-{number // 3}", stored=stored(address))

            assert read_rows(log) == rows(0, log.ends[0])
            assert log.n_clicks == log.ends[0] > ended
            ended = log.ends[0]
    assert set(network.n_faults) >= set(FAULTS)


@pytest.mark.release
def test_a_writer_that_was_paused_loses_and_doubles_nothing(network: FaultyNetwork, tmp_path: Path) -> None:
    """SIGSTOP in the midst of it; its successor goes on elsewhere; then both write until they are killed."""
    address = f"s3://{BUCKET}/{tmp_path.name}"
    network.share = FAULTS
    with lives(address, network) as first, lives(address, network) as second:
        for number in range(4):
            paused = begin_life(first, tmp_path / "paused")
            wait_for_changes(tmp_path / "paused" / "partition=0", 8 + number)
            os.kill(paused, signal.SIGSTOP)
            successor = begin_life(second, tmp_path / "successor")
            wait_for_changes(tmp_path / "successor" / "partition=0", 8)
            os.kill(paused, signal.SIGCONT)
            time.sleep(0.5 + number / 4)  # not a synchronisation: both do what they do
            end_life(first, paused)
            end_life(second, successor)
            log = ClickLog(tmp_path / f"reader-{number}", stored=stored(address))

            assert read_rows(log) == rows(0, log.ends[0])
            assert log.n_clicks == log.ends[0]
