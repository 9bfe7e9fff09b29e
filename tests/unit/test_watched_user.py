"""The user whom the demo shows: who it is, how long, and what there is to see."""

from demo.watched_user import HOLD_S, UserWatch
from nextclick.updates import POPULAR, Recommendation, RecommendationUpdate, Source


def test_the_last_clicks_are_shown_with_the_list_that_followed() -> None:
    """A star says that a click was on the list before it; only the newest clicks and the first items are shown."""
    watch = UserWatch()
    for sequence, (item_id, items) in enumerate([("a", "bcdef"), ("b", "c"), ("x", "y"), ("y", "z"), ("q", "vwxyz")]):
        _click(watch, "ann", item_id, sequence + 1, items)

    watched = watch.watched
    assert watched is not None
    assert watched.user_id == "ann"
    assert watched.clicks_text == "b* > x > y* > q"
    assert watched.items_text == "v, w, x, y, ..."


def test_nobody_is_watched_before_somebody_clicked_twice() -> None:
    """One click is not much to see."""
    watch = UserWatch()
    _click(watch, "ann", "a", 1, "b")
    first = watch.watched
    _click(watch, "ann", "b", 2, "c")

    assert first is None
    assert watch.watched is not None


def test_after_a_while_it_is_the_user_of_the_newest_update() -> None:
    """Until then it stays the same one, whoever else clicks, and what is shown follows."""
    watch = UserWatch()
    for sequence in (1, 2):
        _click(watch, "ann", "a", sequence, "b")
    for sequence in (1, 2):
        _click(watch, "bob", "c", sequence, "d", now_s=HOLD_S - 1)
    _click(watch, "ann", "e", 3, "f", now_s=HOLD_S - 1)
    before = watch.watched
    _click(watch, "bob", "g", 3, "h", now_s=HOLD_S)
    after = watch.watched

    assert before is not None
    assert after is not None
    assert (before.user_id, before.clicks[-1], before.items) == ("ann", ("e", False), ("f",))
    assert (after.user_id, after.clicks[-1], after.items) == ("bob", ("g", False), ("h",))


def test_an_update_that_comes_again_or_too_late_changes_nothing() -> None:
    """The list with the highest sequence is the one that the user sees."""
    watch = UserWatch()
    for sequence in (1, 2):
        _click(watch, "ann", "a", sequence, "new")
    watch.update(_update("ann", 1, "old"), 0)
    watch.update(_update("stranger", 1, "x"), HOLD_S)

    assert watch.watched is not None
    assert watch.watched.items == ("n", "e", "w")


def test_users_who_clicked_long_ago_are_forgotten() -> None:
    """Memory is bounded; whom nobody can see any more is not watched."""
    watch = UserWatch()
    for sequence in (1, 2):
        _click(watch, "ann", "a", sequence, "b")
    for number in range(10_000):
        watch.click(f"user-{number}", "a")

    assert watch.watched is None


def _click(watch: UserWatch, user_id: str, item_id: str, sequence: int, items: str, now_s: float = 0.0) -> None:
    watch.click(user_id, item_id)
    watch.update(_update(user_id, sequence, items), now_s)


def _update(user_id: str, sequence: int, items: str) -> RecommendationUpdate:
    return RecommendationUpdate(
        user_id=user_id,
        items=tuple(Recommendation(item_id, 0.1) for item_id in items),
        strategy=POPULAR,
        bundle_id="",
        sequence=sequence,
        source=Source(0, sequence),
        clicked_at_ms=0,
        produced_at_ms=0,
    )
