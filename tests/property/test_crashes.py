"""Click log and bundle store, cut off before any of their steps on the disk: by a kill, or by a power cut.

The files are real. `Disk` watches this process: before the n-th step it ends everything, and then takes back what a
power cut may take back: names that were changed in a folder that was not synchronised since, and the content of files
that were not. A kill cuts a file short that is being written.
"""

import contextlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextclick.bundle import save_bundle, verify_bundle
from nextclick.clicks import Click
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.vocabulary import Vocabulary
from tools.kafka import TopicIdentity
from training.service import click_log
from training.service.bundle_store import BundleStore
from training.service.click_log import ClickLog, LogRow
from training.service.log_owner import LogOwner

NEVER = 10_000
OWNER = LogOwner("shop", TopicIdentity("clicks", "id", 2))


class CutOff(BaseException):
    """The process ends here."""


class Disk:
    """Follows what happens to the files below a folder through the lives of several processes, and ends these."""

    watched: "Disk | None" = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps_left = 0
        self._is_cut = False
        self._half_written: Path | None = None
        self._settle()

    @contextlib.contextmanager
    def watching(self, n_steps: int) -> Iterator[None]:
        """Follow one process, and end it after so many steps; swallows the end."""
        Disk.watched = self
        self._steps_left, self._is_cut = n_steps, False
        try:
            yield
        except CutOff:
            pass
        finally:
            Disk.watched = None

    def step(self) -> None:
        """Begin one, or end; after the end every step fails, those of a clean-up too."""
        if self._is_cut or not self._steps_left:
            self._is_cut = True
            raise CutOff
        self._steps_left -= 1

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take what the interpreter tells before it does something."""
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "shutil.rmtree"):
            return
        if not isinstance(arguments[0], (str, Path)) or self._folder not in Path(arguments[0]).parents:
            return
        path = Path(arguments[0])
        if event == "open":
            if arguments[2] & (os.O_WRONLY | os.O_RDWR):
                self.step()
                self._half_written = path
            return
        self.step()
        if event == "os.rename":
            self._forget(Path(arguments[1]))
            self._unsynced_names.append((path.parent, _undo_rename(path, Path(arguments[1]))))
        elif event == "os.remove":
            self._forget(path)
            content = path.read_bytes()
            self._unsynced_names.append((path.parent, lambda: _restore(path, content)))
        elif event == "os.mkdir" and not path.exists():
            self._unsynced_names.append((path.parent, lambda: shutil.rmtree(path, ignore_errors=True)))

    def fsync(self, descriptor: int) -> None:
        """What `os.fsync` is while this disk is watched."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.step()
        self._synced.add(path.stat().st_ino)
        if path == self._half_written:
            self._half_written = None
        if path.is_dir():
            self._unsynced_names = [(folder, undo) for folder, undo in self._unsynced_names if folder != path]

    def end(self, choose: Callable[[int], int], *, loses_power: bool) -> None:
        """Leave the disk as the end of the process leaves it.

        Args:
            choose: says how much is lost, of at most so much.
            loses_power: takes back some of what was not synchronised, since the last power cut: last changes of names,
                ends of files. A kill leaves all that there is of it to the next process.
        """
        for path in sorted(self._folder.rglob("*")):
            is_whole = path.stat().st_ino in self._synced if loses_power else path != self._half_written
            if path.is_file() and path.stat().st_size and not is_whole:
                os.truncate(path, path.stat().st_size - choose(path.stat().st_size))
        for _ in range(choose(len(self._unsynced_names)) if loses_power else 0):
            self._unsynced_names.pop()[1]()
        self._half_written = None
        if loses_power:
            self._settle()

    def _settle(self) -> None:
        """What is there now stays."""
        self._synced = {path.stat().st_ino for path in self._folder.rglob("*")}
        self._unsynced_names: list[tuple[Path, Callable[[], None]]] = []  # folder, how to take the change back

    def _forget(self, path: Path) -> None:
        """The number of a file that goes may be given to a new one."""
        if path.is_file():
            self._synced.discard(path.stat().st_ino)


def _undo_rename(source: Path, target: Path) -> Callable[[], None]:
    replaced = target.read_bytes() if target.is_file() else None

    def undo() -> None:
        if target.exists():
            target.rename(source)
        if replaced is not None:
            target.write_bytes(replaced)

    return undo


def _restore(path: Path, content: bytes) -> None:
    if path.parent.exists():
        path.write_bytes(content)


@pytest.fixture(scope="module", autouse=True)
def _hook() -> Iterator[None]:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if Disk.watched is not None:
            Disk.watched.on_event(event, arguments)

    def fsync(descriptor: int) -> None:
        if Disk.watched is not None:  # else nothing is cut off, and nobody has to wait for a disk
            Disk.watched.fsync(descriptor)

    sys.addaudithook(hook)  # stays until the process ends, and then does nothing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(click_log, "_MERGE_AT_FILES", 2)
        yield


class Writer:
    """Writes a click log through several lives, and notes what was promised. Everything is by partition.

    Attributes:
        written: offsets of every click that was handed to the log, also of a file that was being written at the end.
        visible: those that the present life has found or written.
        kept: those that were promised to be there, and not removed since.
        end: where the log was promised to end, at least.
        whole_from: from here on nothing was removed.
    """

    def __init__(self) -> None:
        self.written: dict[int, set[int]] = {0: set(), 1: set()}
        self.visible: dict[int, set[int]] = {0: set(), 1: set()}
        self.kept: dict[int, set[int]] = {0: set(), 1: set()}
        self.end = {0: 0, 1: 0}
        self.whole_from = {0: 0, 1: 0}

    def act(self, log: ClickLog, action: tuple[Any, ...]) -> None:
        """Do one thing to the log."""
        if action[0] == "append":
            _, partition, n_clicks, n_rejected = action
            first = log.ends.get(partition, 0)
            new = range(first, first + n_clicks)
            self.written[partition] = {offset for offset in self.written[partition] if offset < first} | set(new)
            log.append(partition, first, first + n_clicks + n_rejected - 1, [row(offset) for offset in new])
            self.visible[partition] |= set(new)
            self.kept[partition] = set(self.visible[partition])  # with what an earlier life wrote, and was not told
            self.end[partition] = first + n_clicks + n_rejected
        elif action[0] == "merge":
            log.merge_small_files()
        else:
            self.kept = {0: set(), 1: set()}
            self.visible = {0: set(), 1: set()}
            self.whole_from = {0: 0, 1: 0} | log.ends
            log.remove_old(math.inf, 0)

    def check(self, log: ClickLog, *, is_settled: bool) -> None:
        """What was promised is there, once, and nothing that was never written.

        Args:
            log: opened anew.
            is_settled: what is there now can no longer be taken back.
        """
        for partition, promised_end in self.end.items():
            end = log.ends.get(partition, 0)
            found = log.read([file for file in sorted(log.files) if file.partition == partition])["offset"].to_pylist()
            assert end >= promised_end
            assert found == sorted(set(found)), "a row is there twice"
            assert self.kept[partition] <= set(found) <= self.written[partition]
            # A file beyond what was promised was complete, though nobody was told.
            assert {offset for offset in self.written[partition] if self.whole_from[partition] <= offset < end} <= set(
                found
            )
            self.visible[partition] = set(found)
            if is_settled:
                self.kept[partition], self.end[partition] = set(found), end
        assert log.n_clicks == sum(map(len, self.visible.values()))


def row(offset: int) -> LogRow:
    return LogRow(offset, Click(f"user-{offset % 3}", f"item-{offset % 5}", 1_000 + offset, 0))


ACTIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 1), st.integers(0, 3), st.integers(1, 2)),
    st.tuples(st.just("append"), st.just(0), st.integers(1, 3), st.just(0)),
    st.just(("merge",)),
    st.just(("remove",)),
)


@settings(max_examples=100, deadline=None)
@given(
    lives=st.lists(
        st.tuples(st.lists(ACTIONS, min_size=1, max_size=10), st.integers(0, 50), st.booleans()), min_size=1, max_size=3
    ),
    data=st.data(),
)
def test_a_click_log_that_is_cut_off_anywhere_loses_and_doubles_nothing(
    lives: list[tuple[list[tuple[Any, ...]], int, bool]], data: st.DataObject
) -> None:
    """Every append that returned is there once; the next life goes on from there, and clears what was left behind."""
    with tempfile.TemporaryDirectory() as folder:
        live(Path(folder), lives, lambda most: data.draw(st.integers(0, most)))


@pytest.mark.parametrize("n_steps", range(20))
def test_a_power_cut_after_a_kill_takes_back_nothing_that_was_promised(tmp_path: Path, n_steps: int) -> None:
    """What a process that was killed had not synchronised, the next one builds upon."""
    append = ("append", 1, 2, 1)

    live(tmp_path, [([append], n_steps, False), ([append, append], NEVER, True)], lambda most: most)


def live(folder: Path, lives: list[tuple[list[tuple[Any, ...]], int, bool]], choose: Callable[[int], int]) -> None:
    """Run processes that write a log, one after the other: what they do, after how many steps they end, and how."""
    writer, disk = Writer(), Disk(folder)
    for actions, n_steps, loses_power in lives:
        with disk.watching(n_steps):
            log = ClickLog(folder)
            log.claim(OWNER)
            for action in actions:
                writer.act(log, action)
        disk.end(choose, loses_power=loses_power)
        writer.check(ClickLog(folder), is_settled=loses_power)
    ClickLog(folder).claim(OWNER)

    assert not list(folder.rglob(".writing-*"))
    writer.check(ClickLog(folder), is_settled=True)


@settings(max_examples=60, deadline=None)
@given(n_steps=st.integers(0, 16) | st.just(NEVER), loses_power=st.booleans(), data=st.data())
def test_a_bundle_is_whole_before_it_can_be_announced(n_steps: int, loses_power: bool, data: st.DataObject) -> None:
    """What was kept outlives a power cut; a kill leaves a whole bundle or a draft, and old drafts are removed."""
    network = Network(NetworkConfig(n_items=2, hidden_size=4))
    vocabulary = Vocabulary(["a", "b"], np.ones(2))
    folder = Path(tempfile.mkdtemp())
    disk, store = Disk(folder), BundleStore(folder, "shop")
    is_kept = False
    try:
        with disk.watching(n_steps), torch.no_grad(), store.draft() as draft:
            store.keep(draft, save_bundle(draft, network, vocabulary, created_ms=1, metrics={}).bundle_id)
            is_kept = True
        disk.end(lambda most: data.draw(st.integers(0, most)), loses_power=loses_power)
        for draft in folder.glob(".draft-*"):  # two hours later
            for path in (draft, *draft.rglob("*")):
                os.utime(path, (time.time() - 7_200,) * 2)
        with store.draft():
            pass

        bundles = list(folder.iterdir())
        assert len(bundles) == 1 or not is_kept
        if is_kept or not loses_power:
            for bundle in bundles:
                assert verify_bundle(bundle).bundle_id == bundle.name
    finally:
        shutil.rmtree(folder)
