"""When the trainer trains, over its restarts."""

import logging
import os
import time
from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.service.schedule import NOTE, Schedule

SETTINGS = Settings(min_clicks=1_000, train_every_s=3_600)


def schedule(folder: Path, n_clicks: int, settings: Settings = SETTINGS) -> Schedule:
    found = Schedule(folder, settings)
    found.log_has(n_clicks)
    return found


def test_a_restart_without_a_new_click_trains_nothing(tmp_path: Path) -> None:
    """However long the trainer was away; with a new click it counts from the training before the restart."""
    schedule(tmp_path, 5_000).begin(5_000)
    quick = Settings(min_clicks=1_000, train_every_s=1, train_least_clicks=1)
    time.sleep(1.1)  # the setting's smallest value has passed

    again = schedule(tmp_path, 5_000, quick)

    assert not again.is_due(5_000)
    assert again.is_due(5_001)
    assert not schedule(tmp_path, 5_000).is_due(5_001)
    assert schedule(tmp_path, 5_000).is_due(10_000)


def test_the_first_training_is_due_with_enough_clicks(tmp_path: Path) -> None:
    """There is no note yet, or an earlier version wrote none."""
    assert not schedule(tmp_path, 0).is_due(999)
    assert schedule(tmp_path, 0).is_due(1_000)


def test_a_training_that_was_stopped_never_was(tmp_path: Path) -> None:
    """Neither for this process nor for the next."""
    first = schedule(tmp_path, 2_000)
    first.begin(2_000)
    first.take_back()

    assert first.is_due(2_000)
    assert schedule(tmp_path, 2_000).is_due(2_000)


def test_clicks_that_are_removed_are_no_lost_count(tmp_path: Path) -> None:
    """Else as many new ones would have to come before the next training."""
    first = schedule(tmp_path, 5_000)
    first.begin(5_000)
    first.removed(4_000)

    assert not schedule(tmp_path, 1_000).is_due(1_999)
    assert schedule(tmp_path, 1_000).is_due(2_000)


def test_a_log_that_was_restored_from_an_older_copy_is_trained_on_when_it_has_grown(tmp_path: Path) -> None:
    """The note knows of more clicks than there are."""
    schedule(tmp_path, 5_000).begin(5_000)

    restored = schedule(tmp_path, 1_000)

    assert not restored.is_due(1_000)
    assert restored.is_due(2_000)


def test_a_clock_that_was_set_back_does_not_stop_training(tmp_path: Path) -> None:
    """What began in the future began just now."""
    (tmp_path / NOTE).write_text(f'{{"began_ms":{int(time.time() * 1000) + 10**10},"n_clicks":2000}}')
    again = schedule(tmp_path, 2_000, Settings(min_clicks=1_000, train_every_s=1, train_least_clicks=1))

    assert not again.is_due(2_001)
    time.sleep(1.1)  # the setting's smallest value passes
    assert again.is_due(2_001)


def test_a_damaged_note_is_said_and_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A training too many does no harm."""
    (tmp_path / NOTE).write_bytes(b'{"began')
    with caplog.at_level(logging.WARNING):
        assert schedule(tmp_path, 1_000).is_due(1_000)

    assert NOTE in caplog.text


def test_a_note_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """As the log itself; running as root, a folder in its place does what a full disk does."""
    os.mkdir(tmp_path / NOTE)

    with pytest.raises(PermanentError, match="make room") as error:
        schedule(tmp_path, 1_000).begin(1_000)

    assert "\n" not in str(error.value)
