"""Recency-weighted popularity: how clicks fade, how items are ordered, how memory stays bounded."""

import json
import struct

import pytest

import nextclick.popularity
from nextclick.hashing import item_hash
from nextclick.popularity import Popularity
from nextclick.updates import POPULAR

DAY_MS = 86_400_000


def test_a_click_one_half_life_later_weighs_twice() -> None:
    """That is what a half-life means, whichever came first."""
    popularity = Popularity(half_life_s=10.0)
    popularity.add("now", 1_000_000)
    popularity.add("later", 1_010_000)
    popularity.add("before", 990_000)

    weights = popularity.weights()
    assert weights["later"] == pytest.approx(2 * weights["now"])
    assert weights["before"] == pytest.approx(weights["now"] / 2)


def test_clicks_of_an_item_add_up() -> None:
    """Two clicks now equal one click a half-life later."""
    popularity = Popularity(half_life_s=10.0)
    popularity.add("twice", 0)
    popularity.add("twice", 0)
    popularity.add("later", 10_000)

    weights = popularity.weights()
    assert weights["twice"] == pytest.approx(weights["later"])


@pytest.mark.parametrize(
    ("half_life_s", "first_ms", "now_ms"),
    [
        (1.0, 0, 650_000),  # 650 half-lives after the first click
        (1.0, 0, 3_600_000),
        (86_400.0, 0, 1_700_000_000_000),  # one click that claims to be from 1970, then today's
    ],
)
def test_clicks_fade_however_far_apart(half_life_s: float, first_ms: int, now_ms: int) -> None:
    """A worker runs for years, and a single click of long ago must not stop the clock."""
    half_life_ms = int(half_life_s * 1000)
    popularity = Popularity(half_life_s)
    popularity.add("long ago", first_ms)
    popularity.add("a half-life ago", now_ms - half_life_ms)
    popularity.add("now", now_ms)

    weights = popularity.weights()
    assert weights["now"] == pytest.approx(2 * weights["a half-life ago"])
    assert weights["long ago"] < 1e-9 * weights["now"]
    assert _ranked(popularity, 3)[0][0] == "now"


def test_a_click_of_long_ago_weighs_nothing_and_breaks_nothing() -> None:
    """Time may go back by any distance."""
    popularity = Popularity(half_life_s=1.0)
    popularity.add("now", 1_700_000_000_000)
    popularity.add("long ago", 0)

    assert popularity.weights()["long ago"] < 1e-9 * popularity.weights()["now"]


def test_years_of_clicks_keep_every_number_finite() -> None:
    """The growing weights are brought back before they overflow; shares stay shares."""
    popularity = Popularity(half_life_s=1.0)
    for step in range(3_000):
        popularity.add(f"i{step % 7}", step * 1_000)

    shares = [share for _, share in _ranked(popularity, 7)]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.5, rel=0.02)


def test_the_most_popular_come_first_with_their_share() -> None:
    """The score is the share of all weight: the chance that the next click is this item's."""
    popularity = Popularity(half_life_s=DAY_MS)
    for item_id in "cbbaaaa":
        popularity.add(item_id, 0)

    ranked = popularity.ranked(2)

    assert ranked.strategy == POPULAR
    assert [item_id for item_id, _ in _ranked(popularity, 2)] == ["a", "b"]
    assert [share for _, share in _ranked(popularity, 2)] == pytest.approx([4 / 7, 2 / 7])
    assert ranked.shown == struct.pack("<2I", *(item_hash(item_id) & 0xFFFFFFFF for item_id in "ab"))


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_equal_items_are_ordered_by_id(order: str) -> None:
    """Two workers that saw the same clicks show the same list."""
    popularity = Popularity(half_life_s=1.0)
    for item_id in order:
        popularity.add(item_id, 0)

    assert [item_id for item_id, _ in _ranked(popularity, 3)] == ["a", "b", "c"]


def test_nothing_seen_gives_an_empty_list() -> None:
    """Not an error: the first click of all has nothing before it."""
    ranked = Popularity(half_life_s=1.0).ranked(5)

    assert json.loads(bytes(ranked.items_json)) == []
    assert ranked.shown == b""


def test_a_list_is_as_long_as_there_are_items() -> None:
    """Asking for more is no error, and another length is another list."""
    popularity = Popularity(half_life_s=1.0)
    popularity.add("a", 0)
    popularity.add("b", 0)

    assert len(_ranked(popularity, 20)) == 2
    assert len(_ranked(popularity, 1)) == 1
    assert len(_ranked(popularity, 2)) == 2


def test_a_list_is_shared_until_enough_has_changed() -> None:
    """With 100 items the list is made anew after every 5th click."""
    popularity = Popularity(half_life_s=DAY_MS)
    for number in range(100):
        popularity.add(f"i{number:02}", 0)
    before = popularity.ranked(1)
    lists = []
    for _ in range(5):
        popularity.add("i99", 0)
        lists.append(popularity.ranked(1))

    assert lists[3] is before
    assert json.loads(bytes(lists[4].items_json))[0]["item_id"] == "i99"


def test_a_seed_is_what_is_shown_until_clicks_take_over() -> None:
    """A worker that starts with a bundle begins with the popularity that the bundle knows."""
    popularity = Popularity(half_life_s=1.0)
    popularity.seed({"known": 3.0, "rare": 1.0})

    assert _ranked(popularity, 2) == [("known", 0.75), ("rare", 0.25)]

    popularity.add("new", 5_000)
    popularity.add("new", 10_000)

    assert _ranked(popularity, 2)[0][0] == "new"


def test_a_seed_replaces_an_empty_list() -> None:
    """The list that was made before the seed is not served after it."""
    popularity = Popularity(half_life_s=1.0)
    popularity.ranked(2)

    popularity.seed({"known": 1.0})

    assert [item_id for item_id, _ in _ranked(popularity, 2)] == ["known"]


def test_a_seed_never_takes_back_what_was_counted() -> None:
    """A bundle that arrives later knows less of the present than the worker."""
    popularity = Popularity(half_life_s=1.0)
    popularity.add("counted", 0)

    popularity.seed({"known": 1_000.0})

    assert set(popularity.weights()) == {"counted"}


def test_a_newer_seed_replaces_one_that_nothing_was_added_to() -> None:
    """Until the first click the newest bundle knows best."""
    popularity = Popularity(half_life_s=1.0)
    popularity.seed({"older": 1.0})

    popularity.seed({"newer": 1.0})

    assert set(popularity.weights()) == {"newer"}


def test_the_caller_cannot_change_the_weights() -> None:
    """What is handed in or out is a copy."""
    popularity = Popularity(half_life_s=1.0)
    seed = {"a": 1.0}
    popularity.seed(seed)
    seed["b"] = 9.0
    popularity.weights()["c"] = 9.0

    assert popularity.weights() == {"a": 1.0}


def test_beyond_the_bound_the_least_popular_half_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded however many item ids come along, and what is popular survives."""
    monkeypatch.setattr(nextclick.popularity, "MAX_ITEMS", 10)
    popularity = Popularity(half_life_s=DAY_MS)
    for _ in range(3):
        popularity.add("popular", 0)
    for number in range(100):
        popularity.add(f"i{number}", 0)

        assert len(popularity) <= 10

    item_id, share = _ranked(popularity, 1)[0]
    assert item_id == "popular"
    assert share == pytest.approx(3 / sum(popularity.weights().values()))


def _ranked(popularity: Popularity, k: int) -> list[tuple[str, float]]:
    items = json.loads(bytes(popularity.ranked(k).items_json))
    return [(item["item_id"], item["score"]) for item in items]
