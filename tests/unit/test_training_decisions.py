"""The pure decisions of the trainer: when to train, what to publish, where to begin reading."""

from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.click_consumer import Span
from training.click_log import ClickLog
from training.evaluate import Quality
from training.gate import judge
from training.schedule import Progress, training_is_due
from training.start_position import start_positions


def quality(recall: float, n_predictions: int = 100) -> Quality:
    return Quality(recall, recall / 2, recall / 2, n_predictions)


@pytest.mark.parametrize(
    ("new", "current", "popularity", "publish"),
    [
        (0.30, None, 0.20, True),
        (0.20, None, 0.20, False),
        (0.30, 0.30, 0.20, True),
        (0.29, 0.30, 0.20, False),
        (0.19, 0.10, 0.20, False),
        (0.31, 0.30, 0.32, False),
    ],
)
def test_published_is_what_beats_popularity_and_is_not_worse_than_the_current_bundle(
    new: float, current: float | None, popularity: float, publish: bool
) -> None:
    """A tie with popularity is not better; a tie with the current bundle is not worse."""
    decision = judge(quality(new), None if current is None else quality(current), quality(popularity))

    assert decision.publish is publish
    assert decision.reason


def test_nothing_is_published_that_could_not_be_judged() -> None:
    """Without predictions all figures are 0."""
    assert not judge(quality(0.0, 0), None, quality(0.0, 0)).publish


@pytest.mark.parametrize(
    ("progress", "due"),
    [
        (Progress(2_999, 0, 1e6), False),
        (Progress(3_000, 0, 0.0), True),
        (Progress(50_000, 40_000, 599.0), False),
        (Progress(50_000, 40_000, 600.0), True),
        (Progress(40_000, 40_000, 1e6), False),
        (Progress(5_999, 3_000, 1.0), False),
        (Progress(6_000, 3_000, 1.0), True),
        (Progress(5_999_999, 5_000_000, 1.0), False),
        (Progress(6_000_000, 5_000_000, 1.0), True),
    ],
)
def test_training_is_due_by_clicks_by_time_and_when_the_log_has_doubled(progress: Progress, due: bool) -> None:
    """First at min_clicks; never without a new click."""
    assert training_is_due(progress, Settings()) is due


def test_reading_goes_on_where_the_log_ends_and_new_partitions_begin_where_the_settings_say(tmp_path: Path) -> None:
    """The file names are the position, whatever `start` says."""
    log = ClickLog(tmp_path)
    log.append(0, 3, 9, [])
    spans = {0: Span(5, 20), 1: Span(4, 8)}

    assert start_positions(log, spans, "clicks", "earliest") == {0: 10, 1: 4}
    assert start_positions(log, spans, "clicks", "latest") == {0: 10, 1: 8}


def test_clicks_that_were_removed_before_they_were_logged_are_an_error_that_names_them(tmp_path: Path) -> None:
    """And the remedy in it works: the empty file closes the gap."""
    ClickLog(tmp_path).append(2, 0, 9, [])
    spans = {2: Span(15, 20)}

    with pytest.raises(PermanentError, match=r"partition 2 of clicks.* clicks 10 to 14 were removed") as error:
        start_positions(ClickLog(tmp_path), spans, "clicks", "earliest")

    Path(str(error.value).rsplit("touch ", 1)[1]).touch()
    assert start_positions(ClickLog(tmp_path), spans, "clicks", "earliest") == {2: 15}


def test_a_topic_that_ends_before_the_log_does_is_another_topic(tmp_path: Path) -> None:
    """Offsets that count anew would be taken for clicks that are known."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 9, [])

    with pytest.raises(PermanentError, match="created anew; move the click log away"):
        start_positions(log, {0: Span(0, 3)}, "clicks", "earliest")
