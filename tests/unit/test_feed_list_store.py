"""The local copy of the lists."""

import logging
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from feed.list_store import ListStore
from nextclick.errors import PermanentError
from tools.kafka import TopicIdentity

CACHE = 8 * 1024**2
KEEP_S = 1e6
TOPIC = TopicIdentity("recommendations", "one", 2)


def test_lists_and_positions_are_there_again_after_a_close(tmp_path: Path) -> None:
    """Users without a list have none, whatever they are called."""
    store = ListStore(tmp_path / "lists", CACHE, KEEP_S)
    store.begin(TOPIC)
    store.write({b"ann": b"1", b"ben": b"2"}, {0: 7, 1: 9}, b"popular")
    store.write({b"ben": None}, {1: 10})
    store.close()

    store = ListStore(tmp_path / "lists", CACHE, KEEP_S)

    assert store.list_of("ann") == b"1"
    assert store.list_of("ben") is None
    assert store.positions(3) == [7, 10, None]
    assert (store.topic, store.popular, store.has_lists) == (TOPIC, b"popular", True)
    assert [store.list_of(name) for name in ("\0topic", "\0popular", "", "\ud800")] == [None] * 4
    store.close()


def test_a_new_topic_begins_with_nothing(tmp_path: Path) -> None:
    """Also users whose ids are the last there can be."""
    store = ListStore(tmp_path / "lists", CACHE, KEEP_S)
    last = ("\U0010ffff" * 64).encode()
    store.write({last: b"1", b"a": b"2"}, {0: 7}, b"popular")

    other = TopicIdentity("recommendations", "other", 2)
    store.begin(other)

    assert store.get_many([last, b"a"]) == [None, None]
    assert (store.positions(1), store.popular, store.topic) == ([None], None, other)
    store.close()


def test_what_was_written_outlives_a_kill(tmp_path: Path) -> None:
    """All of it: a list that was shown is stored."""
    program = (
        "import os, sys; from pathlib import Path; from feed.list_store import ListStore\n"
        f"store = ListStore(Path(sys.argv[1]), {CACHE}, {KEEP_S})\n"
        "for number in range(1_000): store.write({b'ann': str(number).encode()}, {0: number})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "lists")], check=False, timeout=60)

    store = ListStore(tmp_path / "lists", CACHE, KEEP_S)

    assert (store.list_of("ann"), store.positions(1)) == (b"999", [999])
    store.close()


def test_a_folder_that_another_feed_has_is_refused(tmp_path: Path) -> None:
    """With the setting that helps."""
    store = ListStore(tmp_path / "lists", CACHE, KEEP_S)

    with pytest.raises(PermanentError, match="a folder of its own"):
        ListStore(tmp_path / "lists", CACHE, KEEP_S)
    store.close()


@pytest.mark.parametrize("is_there", [True, False])
def test_damaged_files_are_removed_at_the_next_start(tmp_path: Path, is_there: bool) -> None:
    """The topic has the lists. A file that is missing is damage, too."""
    folder = tmp_path / "lists"
    store = ListStore(folder, CACHE, KEEP_S)
    store.begin(TOPIC)
    store.write({b"ann": b"1"}, {0: 7})
    store.close()
    for manifest in folder.glob("MANIFEST-*"):
        if is_there:
            manifest.write_bytes(b"x" * manifest.stat().st_size)
        else:
            manifest.unlink()

    store = ListStore(folder, CACHE, KEEP_S)

    assert (store.topic, store.list_of("ann"), store.has_lists) == (None, None, False)
    store.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "feed").write_text("")

    with pytest.raises(PermanentError, match="feed_dir"):
        ListStore(tmp_path / "feed" / "lists", CACHE, KEEP_S)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("keep_s", [1, KEEP_S])
def test_a_store_that_is_opened_again_keeps_lists_for_as_long_as_before(tmp_path: Path, keep_s: float) -> None:
    """Also when RocksDB compacts its files: no list goes before its time, and none stays longer."""
    for user in (b"ann", b"ben"):
        store = ListStore(tmp_path / "lists", CACHE, keep_s)
        store.write({user: b"1"}, {0: 7})
        store._db.rocks.flush()
        if user == b"ann":
            store.close()
            time.sleep(2.1 if keep_s == 1 else 0.0)

    store._db.rocks.compact_range(None, None)

    expected = [None if keep_s == 1 else b"1", b"1"]
    assert (store.get_many([b"ann", b"ben"]), store.positions(1)) == (expected, [7])
    store.close()


def test_what_is_not_written_again_is_removed_and_the_place_in_the_topic_is_kept(tmp_path: Path) -> None:
    """With a list, users' histories would be kept for ever."""
    store = ListStore(tmp_path / "lists", CACHE, 1)
    store.begin(TOPIC)
    store.write({b"ann": b"1"}, {0: 7}, b"popular")
    time.sleep(2.1)
    store.write({b"ben": b"2"}, {})
    store.renew(1)

    store._db.rocks.compact_range(None, None)

    assert (store.list_of("ann"), store.list_of("ben")) == (None, b"2")
    assert (store.topic, store.positions(1), store.popular) == (TOPIC, [7], b"popular")
    store.close()


# The system refuses to let a file grow beyond a limit, as it does on a disk that is full.
FULL_DISK = f"""
import os, resource, sys
from pathlib import Path
from feed.list_store import ListStore
from nextclick.errors import TemporaryError
from tools.kafka import TopicIdentity

folder, hard = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
opened = lambda: ListStore(folder, {CACHE}, {KEEP_S})
limit = lambda n_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))

def is_written(store, size):
    try:
        store.write({{b"ben": b"2" * size}}, {{0: 8}})
    except TemporaryError:
        return False
    return True
"""


def on_full_disk(folder: Path, program: str) -> str:
    """Run a program in a process of its own; gives its log."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK + program, str(folder)],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_store_that_could_not_write_is_read_and_writes_again_when_there_is_room(tmp_path: Path) -> None:
    """All the time; nothing of what was written is lost."""
    program = """
store = opened()
store.begin(TopicIdentity("recommendations", "one", 1))
store.write({b"ann": b"1"}, {0: 7}, b"popular")
limit(200_000)
for _ in range(3):
    assert not is_written(store, 1_000_000)
    assert (store.list_of("ann"), store.get_many([b"ann", b"ben"])) == (b"1", [b"1", None])
    assert (store.positions(1), store.popular, store.n_users() > 0, store.has_lists) == ([7], b"popular", True, True)
limit(hard)
assert is_written(store, 1_000_000)
assert (store.list_of("ann"), len(store.list_of("ben")), store.positions(1)) == (b"1", 1_000_000, [8])
store.close()
store = opened()
assert (store.list_of("ann"), len(store.list_of("ben"))) == (b"1", 1_000_000)
"""
    on_full_disk(tmp_path / "lists", program)


def test_readers_do_not_notice_that_the_store_is_opened_anew(tmp_path: Path) -> None:
    """Whoever reads at that moment reads again."""
    program = """
import threading
store, ended, read = opened(), threading.Event(), set()
store.begin(TopicIdentity("recommendations", "one", 1))
store.write({b"ann": b"1"}, {0: 7})

def ask():
    while not ended.is_set():
        try:
            store.n_users(), store.n_bytes()
            read.add(store.list_of("ann"))
        except Exception as error:
            read.add(repr(error))

readers = [threading.Thread(target=ask) for _ in range(3)]
for each in readers:
    each.start()
for _ in range(20):
    limit(200_000)
    is_written(store, 1_000_000)
    limit(hard)
    is_written(store, 1)
ended.set()
for each in readers:
    each.join()
assert read == {b"1"}, read
store.close()
"""
    on_full_disk(tmp_path / "lists", program)


def test_a_store_on_a_full_disk_is_opened_to_be_read(tmp_path: Path) -> None:
    """And says why, once; it is written when there is room."""
    program = """
if not os.fork():
    store = opened()
    store.begin(TopicIdentity("recommendations", "one", 1))
    store.write({b"ann": os.urandom(100_000)}, {0: 7})
    os._exit(0)
os.wait()
limit(50_000)
store = opened()
assert (len(store.list_of("ann")), store.positions(1), store.topic.topic_id) == (100_000, [7], "one")
assert not is_written(store, 1)
limit(hard)
assert is_written(store, 1)
assert (len(store.list_of("ann")), store.list_of("ben"), store.positions(1)) == (100_000, "2".encode(), [8])
store.close()
"""
    assert on_full_disk(tmp_path / "lists", program).count("what is stored is answered") == 1


def test_a_store_that_cannot_be_written_to_its_end_is_closed(tmp_path: Path) -> None:
    """A feed ends with status 0: what is missing is read again."""
    program = """
store = opened()
store.write({b"ann": os.urandom(100_000)}, {0: 7})
limit(50_000)
store.close()
"""
    assert "was closed with an error" in on_full_disk(tmp_path / "lists", program)


def test_a_store_that_is_in_use_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a moment; one that is in use for long is left to the end of the process."""
    store = ListStore(tmp_path / "lists", CACHE, KEEP_S)
    store.write({str(number).encode(): b"1" for number in range(1_000)}, {0: 7})
    users = [str(number % 1_000).encode() for number in range(300_000)]
    reading = threading.Thread(target=store.get_many, args=(users,))
    reading.start()
    time.sleep(0.01)
    with caplog.at_level(logging.WARNING):
        store.close()
    reading.join()

    assert caplog.text.count("still in use") <= 1
