"""Yesterday's click logs still load, and go on. For their bytes see make_click_log_v1.py and make_click_log_v2.py."""

import shutil
from pathlib import Path

import pytest

from nextclick.clicks import Click
from tools.kafka import TopicIdentity
from training.service.click_log import ClickLog, LogRow
from training.service.log_owner import LogOwner

FOLDER = Path(__file__).parent / "click-log-v1"
SECOND = Path(__file__).parent / "click-log-v2"
OWNER = LogOwner("shop", TopicIdentity("clicks", "id", 2))
ROWS = [(0, offset, "Zoë", f"item-{offset}", 1_000 + offset, 0) for offset in range(10, 20)] + [
    (1, 5, "user-1", "élan", 2_000, 1),
    (1, 7, "user-2", "élan", 1_500, 255),
]
ROWS_OF_SECOND = [
    (0, 0, "Zoë", "item-0", 1_000, 0, 0),
    (0, 1, "Zoë", "item-1", 1_001, 0, 0),
    (1, 5, "user-1", "élan", 2_000, 1, 1),
    (1, 5, "user-1", "élan", 2_001, 1, 2**32 - 1),
    (1, 7, "user-2", "élan", 1_500, 255, 0),
]


def rows_of(log: ClickLog, *more: str) -> list[tuple[object, ...]]:
    """Every row, by partition and offset."""
    columns = ("partition", "offset", "user_id", "item_id", "timestamp_ms", "event_type", *more)
    return [tuple(row[name] for name in columns) for row in log.read(sorted(log.files)).to_pylist()]


@pytest.fixture
def log(tmp_path: Path) -> ClickLog:
    """A log of the first version, copied: it is written to."""
    shutil.copytree(FOLDER, tmp_path / "log")
    return ClickLog(tmp_path / "log")


def test_a_log_of_the_first_version_is_read(log: ClickLog) -> None:
    """Its rows, its positions, and the range without clicks."""
    assert rows_of(log) == ROWS
    assert (log.ends, log.n_clicks, log.owner) == ({0: 20, 1: 8}, len(ROWS), None)


def test_a_log_of_the_first_version_goes_on(log: ClickLog) -> None:
    """It is claimed, written to, merged and opened again without a row more or less."""
    log.claim(OWNER)
    for offset in range(20, 55):
        log.append(0, offset, offset, [LogRow(offset, Click("new", "item", offset, 0))])
    log.merge_small_files()

    again = ClickLog(log.folder)

    new_rows = [(0, offset, "new", "item", offset, 0) for offset in range(20, 55)]
    assert rows_of(again) == ROWS[:10] + new_rows + ROWS[10:]
    assert again.ends == {0: 55, 1: 8}
    assert again.owner == OWNER


def test_a_log_with_hashes_of_event_ids_is_read() -> None:
    """Its files have seals and a time, and the hashes where a click has one."""
    log = ClickLog(SECOND)

    assert rows_of(log, "event_hash") == ROWS_OF_SECOND
    assert (log.ends, log.n_clicks, log.owner) == ({0: 5, 1: 8}, 5, OWNER)
    assert {file.written_s for file in log.files} == {1_700_000_000.25}


def test_clicks_of_the_first_version_have_no_hashes(log: ClickLog) -> None:
    """And are merged with those that have some."""
    log.claim(OWNER)
    for offset in range(20, 55):
        log.append(0, offset, offset, [LogRow(offset, Click("new", "item", offset, 0, 7))])
    log.merge_small_files()

    hashes = [row[-1] for row in rows_of(ClickLog(log.folder), "event_hash")]
    assert hashes == 10 * [0] + 35 * [7] + 2 * [0]
