"""Which clicks of the log a round that goes on learns as new: each of them once, whatever became of the files."""

from collections import Counter
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from nextclick.clicks import Click
from training.learning.training_data import LogSegment, select_new_clicks
from training.service.click_log import ClickLog, LogRow
from training.service.log_files import read_rows

NOW_MS = 1_700_000_000_000


class Rounds:
    """A log, and the rounds that have read it, each from where the one before stood."""

    def __init__(self, folder: Path) -> None:
        self.log = ClickLog(folder, lambda: self.now_s)
        self.now_s = NOW_MS / 1000
        self.sent: Counter[str] = Counter()
        self.learnt: Counter[str] = Counter()
        self.n_older = 0
        self._seen: dict[int, int] = {}
        self._last: dict[int, Click] = {}

    def append(self, partition: int, count: int, rng: np.random.Generator) -> None:
        """Write clicks, each on an item of its own; some come late in event time, some twice."""
        first, rows = self.log.ends.get(partition, 0), []
        for offset in range(first, first + count):
            click = self._last.get(partition)
            if click is None or rng.random() > 0.2:
                name = f"{partition}-{offset}"
                late_ms = int(rng.integers(600_000)) if rng.random() < 0.2 else 0
                user = f"user-{partition}-{rng.integers(200)}"
                click = Click(user, name, int(self.now_s * 1000) + offset - late_ms, 0, crc32(name.encode()))
                self.sent[name] += 1
            self._last[partition] = click
            rows.append(LogRow(offset, click))
        self.log.append(partition, first, first + count - 1, rows)

    def run(self, rng: np.random.Generator) -> None:
        files = self.log.files
        segments = [LogSegment(file.partition, file.first, file.last, partial(read_rows, file)) for file in files]
        clicks, n_new = select_new_clicks(segments, self._seen, 100_000, 20, NOW_MS + 10**9, rng).data
        items = [clicks.item_ids[item] for item in clicks.item_index.tolist()]
        older, new = items[: len(items) - n_new], items[len(items) - n_new :]
        assert all(name in self.learnt for name in older)
        self.n_older += len(older)
        self.learnt.update(new)
        self._seen = {file.partition: file.last for file in sorted(files)}


@pytest.mark.parametrize("seed", range(4))
def test_every_click_is_learnt_as_new_once(seed: int, tmp_path: Path) -> None:
    """Late ones, a client's retries on both sides of a round, partitions that are added, merged and removed files."""
    rng, rounds = np.random.default_rng(seed), Rounds(tmp_path)
    for number in range(12):
        rounds.now_s += 3 * 3_600
        for _ in range(int(rng.integers(1, 40))):
            rounds.append(int(rng.integers(1 + number // 3)), int(rng.integers(1, 30)), rng)
        if rng.random() < 0.7:
            rounds.log.merge_small_files()
        rounds.run(rng)
        if rng.random() < 0.5:
            rounds.log.remove_old(rounds.now_s - 6 * 3_600, 10**9)

    assert rounds.learnt == rounds.sent
    assert rounds.n_older > 500


def test_clicks_that_are_removed_before_a_round_are_not_waited_for(tmp_path: Path) -> None:
    """The file that holds the end of a partition is emptied, with what was new in it."""
    rng, rounds = np.random.default_rng(0), Rounds(tmp_path)
    rounds.append(0, 500, rng)
    rounds.run(rng)
    rounds.append(0, 200, rng)
    rounds.append(1, 10, rng)
    removed = {name for name in rounds.sent if name not in rounds.learnt and name.startswith("0-")}
    rounds.log.remove_old(rounds.now_s + 1, 10**9)
    rounds.now_s += 10
    rounds.append(1, 100, rng)
    rounds.run(rng)

    assert removed
    assert not removed & rounds.learnt.keys()
    assert max(rounds.learnt.values()) == 1


def test_how_files_are_merged_does_not_decide_how_much_is_learnt(tmp_path: Path) -> None:
    """Of what is read beyond what was wanted, because it lies in the same file, old clicks are a sample, too."""
    rng, log = np.random.default_rng(0), ClickLog(tmp_path)
    for first in range(0, 9_300, 100):
        rows = [
            LogRow(n, Click(f"user-{rng.integers(900)}", f"item-{n % 70}", NOW_MS + n * 1_000, 0))
            for n in range(first, first + 100)
        ]
        log.append(0, first, first + 99, rows)

    def n_older() -> int:
        segments = [LogSegment(file.partition, file.first, file.last, partial(read_rows, file)) for file in log.files]
        new = select_new_clicks(segments, {0: 8_999}, 100_000, 20, NOW_MS + 10**9, np.random.default_rng(0))
        assert new.data.n_new == 300
        assert np.mean(new.data.clicks.timestamp_ms[: new.data.n_old] < NOW_MS + 6_000_000) > 0.01
        return new.data.n_old

    many = n_older()
    log.merge_small_files()

    assert len(log.files) < 10
    assert abs(n_older() - many) < 0.1 * many
