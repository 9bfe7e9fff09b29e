"""The local copy of the lists."""

import shutil
import subprocess
import sys
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
    assert (store.topic, store.popular) == (TOPIC, b"popular")
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


def test_damaged_files_are_removed_at_the_next_start(tmp_path: Path) -> None:
    """The topic has the lists."""
    folder = tmp_path / "lists"
    store = ListStore(folder, CACHE, KEEP_S)
    store.begin(TOPIC)
    store.write({b"ann": b"1"}, {0: 7})
    store.close()
    for manifest in folder.glob("MANIFEST-*"):
        manifest.write_bytes(b"x" * manifest.stat().st_size)

    store = ListStore(folder, CACHE, KEEP_S)

    assert (store.topic, store.list_of("ann")) == (None, None)
    store.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "feed").write_text("")

    with pytest.raises(PermanentError, match="feed_dir"):
        ListStore(tmp_path / "feed" / "lists", CACHE, KEEP_S)
    shutil.rmtree(tmp_path)


def test_what_is_not_written_again_is_removed_and_the_place_in_the_topic_is_kept(tmp_path: Path) -> None:
    """With a list, users' histories would be kept for ever."""
    store = ListStore(tmp_path / "lists", CACHE, 1)
    store.begin(TOPIC)
    store.write({b"ann": b"1"}, {0: 7}, b"popular")
    time.sleep(2.1)
    store.write({b"ben": b"2"}, {})
    store.renew(1)

    store._db.compact_range(None, None)

    assert (store.list_of("ann"), store.list_of("ben")) == (None, b"2")
    assert (store.topic, store.positions(1), store.popular) == (TOPIC, [7], b"popular")
    store.close()
