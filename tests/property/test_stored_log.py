"""A click log in an object store, two trainers that write it at once, deaths between any two requests, and requests
whose answers are lost.

One of the two was paused, say, and does not know yet that another took its place. Whatever each does, and whenever it
is paused or dies, a trainer that begins afterwards finds every click once that anyone was told is logged, apart from
those that retention may remove. One trainer alone goes on whatever the network does, and leaves nothing in the store
that is not in its log.
"""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nextclick.clicks import Click, Rejected, RejectReason
from nextclick.errors import PermanentError
from tools.kafka import TopicIdentity
from tools.object_store import ObjectStore, StoreAway
from training.service import click_log
from training.service.click_log import ClickBuffer, ClickLog, LogRow, ReadRecord
from training.service.log_owner import LogOwner
from training.service.stored_log import StoredLog

OWNER = LogOwner("shop", TopicIdentity("clicks", "id", 2))
N_ACTIONS = 60
KEPT_S = 3 * 24 * 3600.0


class Clock:
    """Says how late it is, and goes on each time: seconds, or days."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self.now_s = rng, 1e9

    def __call__(self) -> float:
        self.now_s += self._rng.choice((1.0, 30.0, 30.0, 30.0, 40_000.0))
        return self.now_s


class _Dies(Exception):
    """A trainer's end between two requests."""


class _Interrupted(ObjectStore):
    """An object store (a folder) before and after whose changes something else can happen: a `StoreAway`, for example,
    before anything was done, or after it.
    """

    interrupt: Callable[[], None] = staticmethod(lambda: None)

    def create(self, name: str, content: bytes) -> bool:
        self.interrupt()
        is_ours = super().create(name, content)
        self.interrupt()
        return is_ours

    def write(self, name: str, content: bytes | Path) -> None:
        self.interrupt()
        super().write(name, content)
        self.interrupt()

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self.interrupt()
            super().remove([name])
            self.interrupt()


def rows(first: int, end: int) -> list[LogRow]:
    """The clicks among some records of the topic: every third record is none."""
    return [LogRow(offset, Click(f"u{offset % 5}", f"i{offset % 7}", offset, 0, 0)) for offset in range(first, end)]


def clicks(first: int, end: int) -> list[LogRow]:
    return [row for row in rows(first, end) if row.offset % 3]


class Told:
    """What is known of all trainers together.

    Attributes:
        end: how far anyone was told that clicks are logged.
        removable_end: the clicks before it may have been removed for their age.
    """

    def __init__(self) -> None:
        self.end = self.removable_end = self._read_end = 0
        self._reads: list[tuple[int, float]] = []  # an offset, and when the clicks before it were first read

    def read(self, end: int, now_s: float) -> None:
        """Clicks were read; none of them is written earlier."""
        if end > self._read_end:
            self._read_end = end
            self._reads.append((end, now_s))

    def removing(self, before_s: float) -> None:
        """What was written before is about to be removed."""
        self.removable_end = max([self.removable_end, *(end for end, read_s in self._reads if read_s < before_s)])

    def kept(self, offsets: Sequence[int]) -> list[int]:
        """Those of some offsets whose clicks must be there."""
        return [offset for offset in offsets if offset >= self.removable_end]


class Trainer:
    """One trainer: does one thing after the other, dies, and begins again, sometimes on another machine."""

    def __init__(self, name: str, folder: Path, address: str, rng: random.Random, clock: Clock, told: Told) -> None:
        self._folder, self._rng, self._clock, self.told = folder / name, rng, clock, told
        self._store = _Interrupted(address, patience_s=0)
        self._store.interrupt = self._interrupt  # type: ignore[method-assign]
        self._at_work = False
        self.log: ClickLog | None = None
        self.other: Trainer | None = None
        self.share_away, self.share_dies = 0.05, 0.05

    def act(self) -> None:
        """Do one thing, unless it is being done (and the other acts in between)."""
        if self._at_work:
            return
        self._at_work = True
        try:
            if self.log is None:
                self._begin()
            else:
                self._work(self.log)
        except _Dies:
            self.log = None
        except PermanentError:
            assert self.other is not None, "nobody else writes the log"
            self.log = None
        except StoreAway:
            pass  # a trainer that has begun goes on, and one that has not begins again
        finally:
            self._at_work = False

    def _begin(self) -> None:
        if self._rng.random() < 0.5:
            shutil.rmtree(self._folder, ignore_errors=True)  # another machine
        told_before = self.told.end
        log = ClickLog(self._folder, self._clock, StoredLog(self._store))
        assert log.ends.get(0, 0) >= told_before
        log.claim(OWNER)
        self._buffer = ClickBuffer({0: log.ends.get(0, 0)})
        self._read_end = log.ends.get(0, 0)
        self.log = log

    def _work(self, log: ClickLog) -> None:
        number = self._rng.random()
        if number < 0.6:
            self._read()
            self.flush()
        elif number < 0.8:
            log.merge_small_files()
        else:
            self.remove_old()

    def _read(self) -> None:
        first, self._read_end = self._read_end, self._read_end + self._rng.choice((0, 1, 2, 5, 12))
        self.told.read(self._read_end, self._clock())
        self._buffer.add(
            ReadRecord(0, row.offset, None, (row.click,) if row.offset % 3 else Rejected(RejectReason.BAD_JSON, ""))
            for row in rows(first, self._read_end)
        )

    def flush(self) -> None:
        """Write what was read; what is not written waits for the next time."""
        assert self.log is not None
        self._buffer.write_to(self.log)
        assert self._buffer.n_clicks == 0
        assert self.log.ends.get(0, 0) == self._read_end
        self.told.end = max(self.told.end, self._read_end)

    def remove_old(self) -> None:
        assert self.log is not None
        before_s = self._clock() - KEPT_S
        self.told.removing(before_s)
        self.log.remove_old(before_s, 10**9)

    def _interrupt(self) -> None:
        number = self._rng.random()
        if number < self.share_dies:
            raise _Dies
        if number < self.share_dies + self.share_away:
            raise StoreAway("no answer")
        while number < 0.4 and self.other is not None:
            self.other.act()
            number = self._rng.random()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the log is; few files are joined."""
    monkeypatch.setattr(click_log, "_MERGE_AT_FILES", 3)
    return f"file://{tmp_path}/store"


@pytest.mark.parametrize("seed", range(20))
def test_two_trainers_at_once_lose_and_double_nothing(tmp_path: Path, address: str, seed: int) -> None:
    """Their files overlap in all ways; the next trainer takes every record from one of them."""
    rng, told = random.Random(seed), Told()
    clock = Clock(rng)
    first, second = (Trainer(name, tmp_path, address, rng, clock, told) for name in ("first", "second"))
    first.other, second.other = second, first
    for _ in range(N_ACTIONS):
        rng.choice((first, second)).act()

    log = ClickLog(tmp_path / "reader", stored=StoredLog(ObjectStore(address)))
    offsets = log.read(sorted(log.files))["offset"].to_pylist()
    everything = [row.offset for row in clicks(0, log.ends.get(0, 0))]
    assert sorted(set(offsets)) == offsets
    assert set(offsets) <= set(everything)
    assert told.kept(offsets) == told.kept(everything)
    assert log.n_clicks == len(offsets)
    assert log.ends.get(0, 0) >= told.end > 0
    again = ClickLog(tmp_path / "another", stored=StoredLog(ObjectStore(address)))
    assert [file.path.name for file in sorted(again.files)] == [file.path.name for file in sorted(log.files)]


@pytest.mark.parametrize("seed", range(20))
def test_one_trainer_goes_on_whatever_the_network_does(tmp_path: Path, address: str, seed: int) -> None:
    """Of many requests the answer is lost, or they are not made: nobody else has written, and nothing stays behind."""
    rng, told = random.Random(seed), Told()
    clock = Clock(rng)
    trainer = Trainer("one", tmp_path, address, rng, clock, told)
    trainer.share_away, trainer.share_dies = 0.2, 0.0
    for _ in range(N_ACTIONS):
        trainer.act()
    trainer.share_away = 0.0
    while trainer.log is None:
        trainer.act()
    trainer.flush()
    trainer.remove_old()

    log = trainer.log
    offsets = log.read(sorted(log.files))["offset"].to_pylist()
    everything = [row.offset for row in clicks(0, log.ends[0])]
    assert offsets == everything[len(everything) - len(offsets) :]
    assert told.kept(offsets) == told.kept(everything)
    stored = {Path(name).name for name in ObjectStore(address).list() if name.endswith(".parquet")}
    assert stored == {file.path.name for file in log.files}
    again = ClickLog(tmp_path / "another", stored=StoredLog(ObjectStore(address)))
    assert again.read(sorted(again.files))["offset"].to_pylist() == offsets
