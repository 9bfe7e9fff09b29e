"""Which clicks a training takes from the log."""

from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest

from nextclick.clicks import Click
from training.learning.log_rows import MAX_USER_CLICKS
from training.learning.training_data import LogSegment, TrainingData, select_training_data
from training.service.click_log import ClickLog, LogRow

NOW_MS = 1_800_000_000_000


def log_of(folder: Path, files: list[tuple[int, list[tuple[str, int]]]]) -> ClickLog:
    """Write files (partition, [(user, time in s)]); the item is unique."""
    log = ClickLog(folder)
    for partition, clicks in files:
        first = log.ends.get(partition, 0)
        rows = [
            LogRow(first + n, Click(user, f"item-{partition}-{first + n}", time_s * 1_000, 0))
            for n, (user, time_s) in enumerate(clicks)
        ]
        log.append(partition, first, first + len(rows) - 1, rows)
    return log


def select(log: ClickLog, recent: int, replay_share: float = 0.0, seed: int = 0) -> TrainingData:
    segments = [LogSegment(file.partition, file.first, file.last, partial(log.read, [file])) for file in log.files]
    return select_training_data(segments, recent, replay_share, 20, NOW_MS, np.random.default_rng(seed))


def items_of(data: TrainingData) -> list[str]:
    return [data.clicks.item_ids[item] for item in data.clicks.item_index]


def test_clicks_of_all_partitions_come_in_order_of_time(tmp_path: Path) -> None:
    """And a partition's clicks stay in log order, late ones too."""
    log = log_of(tmp_path, [(0, [("a", 1), ("a", 5), ("b", 2), ("a", 7)]), (1, [("c", 0), ("c", 4), ("c", 6)])])

    data = select(log, 100)

    assert items_of(data) == ["item-1-0", "item-0-0", "item-1-1", "item-0-1", "item-0-2", "item-1-2", "item-0-3"]
    assert data.n_recent == 7


def test_only_the_newest_clicks_are_recent(tmp_path: Path) -> None:
    """However they are spread over partitions and files."""
    log = log_of(
        tmp_path,
        [(0, [("a", 0), ("a", 1)]), (1, [("b", 2), ("b", 10)]), (0, [("a", 11), ("a", 12)]), (1, [("b", 13)])],
    )

    data = select(log, 4)

    assert items_of(data) == ["item-1-1", "item-0-2", "item-0-3", "item-1-2"]
    assert data.log_range(4) == {"0": (2, 3), "1": (1, 2)}
    assert data.log_range(2) == {"0": (2, 2), "1": (1, 1)}


def test_old_files_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    """A long log costs no more than a short one."""
    log = log_of(tmp_path, [(0, [("a", number)] * 5) for number in range(10)])
    for file in log.files[:8]:
        file.path.write_bytes(b"would fail if it were read")

    assert len(select(log, 10).clicks.item_index) == 10


def test_replay_adds_whole_users_of_older_times(tmp_path: Path) -> None:
    """A share of the recent clicks, older ones first; the same seed takes the same."""
    old = [(f"old-{number % 40}", number) for number in range(200)]
    log = log_of(tmp_path, [(0, old), (0, [("new", 1_000 + number) for number in range(100)])])

    data = select(log, 100, replay_share=0.2)
    again, other = select(log, 100, replay_share=0.2), select(log, 100, replay_share=0.2, seed=1)

    replayed = data.clicks.user[: -data.n_recent]
    assert (data.n_recent, 20 <= len(replayed) <= 25) == (100, True)
    assert (np.bincount(replayed)[np.unique(replayed)] == 5).all()
    assert items_of(data)[-100:] == [f"item-0-{offset}" for offset in range(200, 300)]
    assert items_of(again) == items_of(data)
    assert items_of(other) != items_of(data)


def crawled(first_s: int, n_visits: int, n_crawled: int) -> list[tuple[str, int]]:
    """Visits by 50 people, and the clicks of one crawler among them."""
    visits = [(f"visitor-{(first_s + number) % 50}", first_s + number) for number in range(n_visits)]
    return sorted(
        [*visits, *[("crawler", first_s + number % n_visits) for number in range(n_crawled)]], key=itemgetter(1)
    )


def test_a_crawler_does_not_fill_what_is_read(tmp_path: Path) -> None:
    """Before its clicks there are the visitors', in older files."""
    log = log_of(tmp_path, [(0, crawled(0, 500, 0)), (0, crawled(500, 100, 900)), (0, crawled(600, 100, 900))])

    data = select(log, 800)

    n_clicks = sorted(np.bincount(data.clicks.user).tolist())
    assert (len(n_clicks), data.n_recent, sum(n_clicks)) == (51, 800, 800)
    assert n_clicks[-1] <= MAX_USER_CLICKS
    assert n_clicks[0] >= 11


def test_a_log_of_a_crawler_is_not_read_to_its_beginning(tmp_path: Path) -> None:
    """Eight times what is wanted, and no more: time and memory stay bounded."""
    log = log_of(tmp_path, [(0, crawled(number * 25, 25, 400)) for number in range(40)])
    for file in log.files[:10]:
        file.path.write_bytes(b"would fail if it were read")

    data = select(log, 1_000)

    assert np.bincount(data.clicks.user).max() <= MAX_USER_CLICKS


@pytest.mark.parametrize(
    ("files", "recent", "expected"),
    [
        ([[("u", 1)], [("u", 1), ("u", 2), ("v", 1)]], 4, [0, 2, 3]),
        ([[("old", 5), ("old", 5)], [("u", 1), ("v", 1)]], 2, [0, 2, 3]),
    ],
    ids=["in another file", "among older clicks"],
)
def test_a_retry_is_no_second_click(
    tmp_path: Path, files: list[list[tuple[str, int]]], recent: int, expected: list[int]
) -> None:
    """Of recent and of older clicks; the time of a click is its offset."""
    log = ClickLog(tmp_path)
    for clicks in files:
        first = log.ends.get(0, 0)
        rows = [
            LogRow(first + n, Click(user, f"item-{first + n}", (first + n) * 1_000, 0, event))
            for n, (user, event) in enumerate(clicks)
        ]
        log.append(0, first, first + len(rows) - 1, rows)

    assert items_of(select(log, recent, replay_share=1.0)) == [f"item-{offset}" for offset in expected]


@pytest.mark.parametrize("wrong_s", [0, 4_070_908_800])
def test_one_wrong_time_does_not_decide_what_is_read(tmp_path: Path, wrong_s: int) -> None:
    """The first click of a file says when it begins, unless it is of 1970 or of 2099: then it is one click."""
    files = []
    for begin_s in range(0, 800, 200):
        clicks = [(f"u{number % 20}", 1_700_000_000 + begin_s + number) for number in range(200)]
        files += [(0, clicks[::2]), (1, [("u0", wrong_s), *clicks[3::2]])]
    log = log_of(tmp_path, files)
    for file in log.files[:4]:
        file.path.write_bytes(b"would fail if it were read")

    assert len(select(log, 400).clicks.item_index) == 400


def test_an_empty_log_gives_no_clicks(tmp_path: Path) -> None:
    """Ranges without clicks only."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 9, [])

    assert len(select(log, 10, replay_share=0.5).clicks.item_index) == 0
