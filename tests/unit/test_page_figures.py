"""What the demo's page shows: the curve of a whole run in bounded memory, speeds, the lag, and the JSON."""

from itertools import pairwise

import msgspec
import pytest

import demo.live_score
from demo.answer_lag import AnswerLag
from demo.demo_view import DemoFigures
from demo.live_score import HitRate, Rates, RecentHitRate
from demo.page_figures import CurveRecorder, PageRecorder
from demo.watched_user import WatchedUser

RATES = Rates(0.3, 0.1, 0.2)


def test_a_curve_of_a_day_is_short_even_and_ends_now() -> None:
    """Every second point goes when it is full; the newest one is never older than the distance of points."""
    recorder = CurveRecorder()
    for second in range(86_400):
        recorder.add(float(second), RATES, 0.6)
    times = [point[0] for point in recorder.curve.points]
    gaps = [later - earlier for earlier, later in pairwise(times)]

    assert times[0] == 0
    assert 100 < len(times) < 240
    assert max(gaps) <= 2 * min(gaps)
    assert 86_400 - times[-1] <= 2 * max(gaps)


def test_a_curve_begins_when_something_was_judged() -> None:
    """A rate of nothing is no zero."""
    recorder = CurveRecorder()
    recorder.add(1.0, None, 0.6)
    recorder.add(2.0, RATES, 0.6)

    assert recorder.curve.points == [(2.0, 0.3, 0.1, 0.2, 0.6)]


def test_a_new_bundle_is_marked_when_it_comes_and_once() -> None:
    """The first one, too."""
    recorder = PageRecorder(k=20)
    recorder.take(_figures(1.0))
    recorder.take(_figures(2.0, bundle="aa", n_bundles=1))
    recorder.take(_figures(3.0, bundle="aa", n_bundles=1))
    page = recorder.take(_figures(4.0, bundle="bb", n_bundles=2))

    assert page.curve.swaps == [(2.0, "aa"), (4.0, "bb")]


def test_marks_are_bounded() -> None:
    """A demo that runs for days has thousands of bundles; the newest are marked."""
    recorder = CurveRecorder()
    for number in range(1_000):
        recorder.swap(float(number), str(number))

    assert len(recorder.curve.swaps) == 100
    assert recorder.curve.swaps[-1] == (999.0, "999")


def test_speeds_are_of_the_last_seconds() -> None:
    """What was long ago does not slow them down, and one look is no speed."""
    recorder = PageRecorder(k=20)
    first = recorder.take(_figures(0.0, clicks=0, updates=0))
    for second in range(1, 60):
        recorder.take(_figures(float(second), clicks=100 * max(0, second - 50), updates=50 * max(0, second - 50)))
    page = recorder.take(_figures(60.0, clicks=1_000, updates=500))

    assert (first.clicks_per_s, first.updates_per_s) == (0, 0)
    assert (page.clicks_per_s, page.updates_per_s) == pytest.approx((100, 50))


def test_the_page_gets_objects_and_not_rows() -> None:
    """It reads them by name."""
    watched = WatchedUser("user-1", (("a", False), ("b", True)), ("c",))
    page = msgspec.json.decode(msgspec.json.encode(PageRecorder(k=20).take(_figures(1.0, watched=watched))))

    assert page["watched"] == {"user_id": "user-1", "clicks": [["a", False], ["b", True]], "items": ["c"]}
    assert page["curve"] == {"points": [[1.0, 0.3, 0.1, 0.2, 0.6]], "swaps": []}


def test_the_lag_is_what_was_clicked_and_not_answered() -> None:
    """By partition; an answer that comes before its click is no debt, and one that comes again changes nothing."""
    lag = AnswerLag()
    for offset in range(5):
        lag.click(0, offset)
    lag.update(0, 2)
    lag.update(0, 1)
    lag.click(1, 0)
    lag.update(1, 3)

    assert lag.clicks == 2


def test_recent_rates_forget_what_was_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of the newest clicks alone; of none, there are none."""
    monkeypatch.setattr(demo.live_score, "_RECENT_CLICKS", 4)
    recent = RecentHitRate()
    nothing = recent.rates
    click = demo.live_score._JudgedClick("a", popularity_hit=True, association_hit=False)
    for hit in (False, False, False, True, True, True):
        recent.count(hit, click)

    assert nothing is None
    assert recent.rates == Rates(0.75, 1, 0)


def _figures(elapsed_s: float, **changed: object) -> DemoFigures:
    figures = DemoFigures(
        elapsed_s=elapsed_s,
        clicks=0,
        updates=0,
        network_updates=0,
        first_update_s=None,
        p50_ms=0,
        p99_ms=0,
        bundle="",
        n_bundles=0,
        bundle_age_s=None,
        overall=HitRate(),
        after_swap=HitRate(),
        recent=RATES,
        ceiling=0.6,
        lag=0,
        cores=0,
        median_cores=0,
        watched=None,
    )
    return figures._replace(**changed)
