"""The judge of what was really sent: which list is judged, what is passed over, and how memory stays bounded."""

import msgspec
import pytest

import demo.live_score
from demo.live_score import LiveScore
from nextclick.popularity import Popularity
from nextclick.updates import POPULAR, RNN, Recommendation, RecommendationUpdate, Source

BUNDLE = "00000000000000aa"


def test_a_click_is_judged_by_the_list_before_it() -> None:
    """Not by the list that it leads to; a first click has none before it."""
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="bc")
    _send(score, 1, "u", "b", sequence=2, shown="xy")
    _send(score, 2, "u", "b", sequence=3, shown="b")

    assert (score.overall.judged, score.overall.hits) == (2, 1)
    assert score.overall.rate == 0.5


def test_only_the_first_k_items_count() -> None:
    """A hit at 2 is a hit among the first two."""
    score = _score(k=2)
    _send(score, 0, "u", "a", sequence=1, shown="xyb")
    _send(score, 1, "u", "b", sequence=2, shown="")

    assert (score.overall.judged, score.overall.hits) == (1, 0)


def test_users_are_judged_apart() -> None:
    """Another user's list is no list of one's own."""
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="b")
    _send(score, 1, "v", "b", sequence=1, shown="c")
    _send(score, 2, "u", "b", sequence=2, shown="")

    assert (score.overall.judged, score.overall.hits) == (1, 1)


def test_popularity_is_judged_on_the_same_clicks_before_it_counts_them() -> None:
    """Both answers are given the same question, and neither knows the click."""
    score = _score(k=1)
    _send(score, 0, "u", "a", sequence=1, shown="z")
    _send(score, 1, "u", "a", sequence=2, shown="z")  # popular by then: a
    _send(score, 2, "u", "b", sequence=3, shown="z")  # popular by then: a, b was never seen

    assert score.overall.judged == 2
    assert score.overall.popularity_hits == 1
    assert score.overall.popularity_rate == 0.5


def test_association_is_judged_on_the_same_clicks_before_it_counts_them() -> None:
    """From the user's last item, with what all users did before."""
    score = _score(k=1)
    _send(score, 0, "u", "a", sequence=1, shown="z")
    _send(score, 1, "u", "b", sequence=2, shown="z")  # the first pair: nothing is known yet
    _send(score, 2, "v", "a", sequence=1, shown="z")
    _send(score, 3, "v", "b", sequence=2, shown="z")

    assert score.overall.judged == 2
    assert score.overall.association_hits == 1
    assert score.overall.association_rate == 0.5
    assert score.after_swap.association_rate == 0.0


def test_clicks_and_updates_may_come_in_any_order_between_the_two() -> None:
    """They are read from two topics."""
    score = _score()
    for offset, (sequence, shown) in enumerate([(1, "b"), (2, "c")]):
        score.update(_update(offset, "u", sequence, shown), 0.0)
    for offset, item_id in enumerate("ab"):
        score.click((0, offset), "u", item_id, 0)

    assert (score.overall.judged, score.overall.hits) == (1, 1)


def test_a_repeated_update_is_not_judged_again() -> None:
    """After a crash the worker sends a user's current list once more."""
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="b")
    _send(score, 1, "u", "b", sequence=2, shown="c")
    score.update(_update(1, "u", 2, "c"), 0.0)
    _send(score, 2, "u", "c", sequence=3, shown="")

    assert (score.overall.judged, score.overall.hits) == (2, 2)
    assert score.n_updates == 4


def test_a_list_that_was_not_seen_is_not_judged() -> None:
    """Between sequence 1 and 3 the user saw a list that we did not: nothing can be said."""
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="b")
    _send(score, 2, "u", "b", sequence=3, shown="c")
    _send(score, 3, "u", "c", sequence=4, shown="")

    assert (score.overall.judged, score.overall.hits) == (1, 1)


def test_clicks_of_one_batch_are_judged_by_the_list_before_the_batch() -> None:
    """Their own updates carry a list that knows all of them; the user has not seen it yet."""
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="b", at_ms=1)
    for offset, item_id in enumerate("xby", start=1):
        _send(score, offset, "u", item_id, sequence=1 + offset, shown="xby", at_ms=2)
    _send(score, 4, "u", "y", sequence=5, shown="", at_ms=3)

    assert (score.overall.judged, score.overall.hits) == (4, 2)  # b in the batch, y after it


def test_a_users_first_batch_is_not_judged() -> None:
    """There was no list before it."""
    score = _score()
    for offset, item_id in enumerate("aba"):
        _send(score, offset, "u", item_id, sequence=1 + offset, shown="ab", at_ms=1)

    assert score.overall.judged == 0


def test_clicks_after_the_swap_are_counted_apart() -> None:
    """By the bundle of the list that is judged, not of the update that judges it."""
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="b")
    _send(score, 1, "u", "b", sequence=2, shown="c", bundle_id=BUNDLE)
    _send(score, 2, "u", "x", sequence=3, shown="d", bundle_id=BUNDLE)

    assert (score.overall.judged, score.overall.hits) == (2, 1)
    assert (score.after_swap.judged, score.after_swap.hits) == (1, 0)


def test_bundles_and_strategies_are_counted() -> None:
    """Bundles in the order of their appearance, each once; popularity has none."""
    score = _score()
    for offset, (strategy, bundle_id) in enumerate(
        [(POPULAR, ""), (POPULAR, "02"), (RNN, "02"), (RNN, "01"), (RNN, "02")]
    ):
        score.update(_update(offset, f"u{offset}", 1, "a", bundle_id, strategy), 0.0)

    assert score.bundles == ["02", "01"]
    assert (score.n_updates, score.n_network) == (5, 3)


def test_latency_runs_from_the_record_to_the_receipt() -> None:
    """Percentiles over the newest updates; 0 before the first one."""
    score = _score()

    assert score.latency_ms([0.5, 0.99]) == [0.0, 0.0]

    for milliseconds in range(100, 0, -1):
        score.update(_update(milliseconds, "u", 1, "a"), received_ms=1_000.0 + milliseconds)

    assert score.latency_ms([0.0, 0.5, 0.99, 1.0]) == [1.0, 51.0, 100.0, 100.0]


def test_nothing_judged_is_a_rate_of_zero() -> None:
    """No division by zero on the first screen."""
    score = _score()

    assert score.overall.rate == score.overall.popularity_rate == score.overall.association_rate == 0.0


def test_what_never_finds_its_other_half_does_not_block_what_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejected clicks have no update, repeated updates have no click left: the memory for both is bounded."""
    monkeypatch.setattr(demo.live_score, "_MAX_WAITING", 3)
    score = _score()
    _send(score, 0, "u", "a", sequence=1, shown="b")
    for offset in range(100, 110):
        score.click((0, offset), "u", "rejected", 0)
        score.update(_update(0, "u", 1, "b"), 0.0)
        score.update(_update(offset + 100, "stray", 1, "b"), 0.0)

    score.update(_update(1, "u", 2, "c"), 0.0)
    score.click((0, 1), "u", "b", 0)
    _send(score, 2, "u", "c", sequence=3, shown="")

    assert (score.overall.judged, score.overall.hits) == (2, 2)


def _score(k: int = 20) -> LiveScore:
    return LiveScore(Popularity(half_life_s=1_000_000.0), k)


def _send(
    score: LiveScore,
    offset: int,
    user_id: str,
    item_id: str,
    sequence: int,
    shown: str,
    bundle_id: str = "",
    at_ms: int | None = None,
) -> None:
    score.click((0, offset), user_id, item_id, 0)
    update = _update(offset, user_id, sequence, shown, bundle_id)
    score.update(update if at_ms is None else msgspec.structs.replace(update, produced_at_ms=at_ms), 0.0)


def _update(
    offset: int, user_id: str, sequence: int, shown: str, bundle_id: str = "", strategy: str = POPULAR
) -> RecommendationUpdate:
    """An update of a batch of its own."""
    items = [Recommendation(item_id, 0.1) for item_id in shown]
    return RecommendationUpdate(user_id, items, strategy, bundle_id, sequence, Source(0, offset), 1_000, 1_001 + offset)
