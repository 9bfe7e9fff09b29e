"""What the feed answers from a bundle: neighbours, popular items, lists for sessions."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from feed.neighbours import neighbours
from feed.popular import PopularItems, popular_list, popular_of_bundle, younger
from feed.problems import ProblemError
from feed.sessions import Ranking, SessionRules, session_list
from feed.user_lists import Choice
from nextclick.advance import Advanced, Limits, LoggedClick, advance
from nextclick.feed_types import SessionClick
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network_config import NetworkConfig
from nextclick.popularity import MAX_LIST, Popularity, prepare_seed
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import (
    POPULAR,
    RNN,
    AnsweredClick,
    RankedList,
    Recommendation,
    ServedBy,
    encode_update,
    ranked_list,
)
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network, served_model

N_ITEMS = 300  # more than a popular list has
IDS = [f"shop/item {number}" for number in range(N_ITEMS)]
NOW_MS = 1_764_000_000_000
HOUR_MS = 3_600_000
SETTINGS = Settings()
RULES = SessionRules.of(SETTINGS)
POPULAR_ITEMS = PopularItems([Recommendation(f"p{number}", 0.1) for number in range(5)], "00000000000000bb", 5)


def made_model(n_neighbours: int = 4, popularity: Sequence[float] | None = None) -> ServedModel:
    config = NetworkConfig(N_ITEMS, 8, skip=True, normalised=True, n_neighbours=n_neighbours)
    weights = np.array(popularity if popularity is not None else range(N_ITEMS), dtype=np.float64)
    return served_model("00000000000000aa", random_network(config, 1), Vocabulary(IDS, weights))


MODEL = made_model()
RANKING = Ranking(MODEL, POPULAR_ITEMS)


def choice(limit: int = 20, *excluded: str) -> Choice:
    return Choice(limit, frozenset(excluded), False)


def session(*clicks: Any) -> list[SessionClick]:
    return [msgspec.convert(click, SessionClick) for click in clicks]


def workers_list(settings: Settings, clicks: list[SessionClick], list_length: int) -> RankedList:
    """Give what a worker answers the last click of a new user with: from records, as it reads them."""
    schema = ClickSchema.of(settings)
    decode, logged = click_decoder(schema), []
    for offset, click in enumerate(clicks):
        assert isinstance(click.timestamp_ms, int)
        record = encode_click(schema, "somebody", click.item_id, click.timestamp_ms, click.event_type)
        decoded = decode(record.key, record.value, record.headers, NOW_MS, NOW_MS)
        assert isinstance(decoded, tuple)
        logged += [LoggedClick((2, b"somebody"), offset, NOW_MS, each, item_hash(each.item_id)) for each in decoded]
    nothing = ranked_list(POPULAR, [], [])
    outcomes = advance(MODEL, nothing, {}, logged, Limits(settings.recent_clicks, list_length))
    assert isinstance(outcomes[-1], Advanced)
    return outcomes[-1].ranked


@pytest.mark.parametrize("n_clicks", [1, 3, 60])
def test_a_session_gets_the_list_that_a_worker_gives_a_new_user(n_clicks: int) -> None:
    """To the last bit, by the same network: unknown items, pauses, types of events, more clicks than are remembered."""
    kinds = ("view", "cart", "purchase", "a type of theirs")
    clicks = session(
        *(
            {
                "item_id": IDS[n * 7 % N_ITEMS] if n % 5 != 4 else "unknown",
                "timestamp_ms": NOW_MS - HOUR_MS + n * n * 1_000,
                "event_type": kinds[n % 4],
            }
            for n in range(n_clicks)
        )
    )
    found = session_list(RANKING, clicks, choice(20), RULES, NOW_MS)
    expected = workers_list(SETTINGS, clicks, 20)

    assert (found.strategy, found.sequence, found.bundle_id) == (RNN, n_clicks, MODEL.bundle_id)
    assert len(found.items) == 20
    assert msgspec.json.encode(found.items) == bytes(expected.items)


def test_as_many_clicks_are_remembered_as_a_worker_remembers() -> None:
    """The setting is the worker's."""
    settings = Settings(recent_clicks=2)
    clicks = session(*({"item_id": item, "timestamp_ms": NOW_MS} for item in IDS[40:46]))
    few = session_list(RANKING, clicks, choice(), SessionRules.of(settings), NOW_MS)
    more = session_list(RANKING, clicks, choice(), RULES, NOW_MS)

    assert msgspec.json.encode(few.items) == bytes(workers_list(settings, clicks, 20).items)
    assert few.items != more.items


def test_a_click_without_a_time_was_now() -> None:
    """After one of an hour ago there is then an hour's gap."""
    before = {"item_id": IDS[3], "timestamp_ms": NOW_MS - HOUR_MS}
    without = session_list(RANKING, session(before, {"item_id": IDS[9]}), choice(), RULES, NOW_MS)
    now = {"item_id": IDS[9], "timestamp_ms": NOW_MS}
    at_once = {"item_id": IDS[9], "timestamp_ms": NOW_MS - HOUR_MS}

    assert without == session_list(RANKING, session(before, now), choice(), RULES, NOW_MS)
    assert without != session_list(RANKING, session(before, at_once), choice(), RULES, NOW_MS)


def test_a_click_of_the_future_is_refused() -> None:
    """A worker would reject it, and a client that takes microseconds for milliseconds wants to know."""
    late_ms = NOW_MS + 25 * HOUR_MS
    clicks = session({"item_id": "a"}, {"item_id": "a", "timestamp_ms": late_ms})

    with pytest.raises(ProblemError, match=rf"clicks\[1\].timestamp_ms is {late_ms}") as raised:
        session_list(RANKING, clicks, choice(), RULES, NOW_MS)
    assert raised.value.kind == "click-refused"


def test_events_that_are_no_clicks_are_not_used() -> None:
    """Those that the setting does not name; and a wish to be forgotten, which has nothing to forget here."""
    rules = SessionRules.of(Settings(events="add_to_cart:cart"))
    carted = {"item_id": IDS[3], "timestamp_ms": NOW_MS, "event_type": "add_to_cart"}
    seen = {"item_id": IDS[9], "timestamp_ms": NOW_MS}
    found = session_list(RANKING, session(seen, carted, seen), choice(), rules, NOW_MS)
    as_cart = session_list(RANKING, session(carted | {"event_type": "cart"}), choice(), RULES, NOW_MS)
    forgetting = session(seen | {"event_type": "forget"})

    assert (found.items, found.sequence) == (as_cart.items, 1)
    assert session_list(RANKING, forgetting, choice(), RULES, NOW_MS).sequence == 0


@pytest.mark.parametrize("clicks", [[], [{"item_id": "unknown"}, {"item_id": "unknown too"}]], ids=["none", "unknown"])
@pytest.mark.parametrize("model", [MODEL, None], ids=["a bundle", "no bundle"])
def test_of_whom_nothing_is_known_gets_the_popular_items(clicks: list[Any], model: ServedModel | None) -> None:
    """Nobody gets an empty page."""
    found = session_list(Ranking(model, POPULAR_ITEMS), session(*clicks), choice(3, "p1"), RULES, NOW_MS)

    assert [item.item_id for item in found.items] == ["p0", "p2", "p3"]
    assert (found.strategy, found.sequence) == (POPULAR, len(clicks))
    assert found.bundle_id == (model.bundle_id if model is not None else "")


def test_a_list_is_full_though_items_are_excluded() -> None:
    """Those that come next move up, with the scores that they have."""
    clicks = session({"item_id": IDS[3], "timestamp_ms": NOW_MS})
    whole = session_list(RANKING, clicks, choice(30), RULES, NOW_MS)
    excluded = [item.item_id for item in whole.items[:20:2]]
    found = session_list(RANKING, clicks, choice(20, *excluded, "unknown"), RULES, NOW_MS)

    expected = [item for item in whole.items if item.item_id not in excluded][:20]
    assert len(expected) == 20
    assert [item.item_id for item in found.items] == [item.item_id for item in expected]
    # The sum of all powers is a little different with more items that are looked at exactly.
    assert [item.score for item in found.items] == pytest.approx([item.score for item in expected], rel=1e-4)


def test_a_session_is_told_what_its_items_are_there_for_where_it_asks() -> None:
    """Parts that add up to the score; the items and scores are the same without."""
    clicks = session(*({"item_id": item, "timestamp_ms": NOW_MS} for item in IDS[40:46]))
    without = session_list(RANKING, clicks, choice(), RULES, NOW_MS)
    found = session_list(RANKING, clicks, Choice(20, frozenset(), True), RULES, NOW_MS)

    assert [(item.item_id, item.score) for item in found.items] == [
        (item.item_id, item.score) for item in without.items
    ]
    for item in found.items:
        assert item.because is not msgspec.UNSET
        assert sum(reason.share for reason in item.because) == pytest.approx(item.score, rel=1e-5)
    assert {item.because for item in without.items} == {msgspec.UNSET}


def test_neighbours_are_those_that_the_bundle_counted_most_often_first() -> None:
    """With their shares, as many as were asked for."""
    network = random_network(NetworkConfig(N_ITEMS, 8, n_neighbours=4), 1)
    assert network.mixture is not None
    network.mixture.neighbours[7] = network.mixture.neighbours.new_tensor([5, 8, 2, 0])
    network.mixture.shares[7] = network.mixture.shares.new_tensor([0.125, 0.5, 0.25, 0.0])
    model = served_model("00000000000000aa", network, Vocabulary(IDS, np.ones(N_ITEMS)))
    found, two = neighbours(model, IDS[7], choice(20)), neighbours(model, IDS[7], choice(2))

    assert found is not None
    assert two is not None
    assert (found.item_id, found.bundle_id) == (IDS[7], model.bundle_id)
    assert [(item.item_id, item.score) for item in found.items] == [(IDS[8], 0.5), (IDS[2], 0.25), (IDS[5], 0.125)]
    assert two.items == found.items[:2]


def test_the_neighbours_of_every_item_are_its_own() -> None:
    """The first, the last, and those that have none."""
    network = random_network(NetworkConfig(N_ITEMS, 8, n_neighbours=4), 1)
    model = served_model("00000000000000aa", network, Vocabulary(IDS, np.ones(N_ITEMS)))
    assert network.mixture is not None
    for item_index in range(N_ITEMS):
        pairs = zip(
            network.mixture.neighbours[item_index].tolist(), network.mixture.shares[item_index].tolist(), strict=True
        )
        expected = sorted([pair for pair in pairs if pair[1] > 0], key=lambda pair: -pair[1])
        assert model.neighbours_of(item_index, 20) == expected


def test_an_item_that_the_bundle_does_not_know_has_no_list_of_neighbours() -> None:
    """One that it knows and has not counted has an empty one; so has every item of a bundle that counts nothing."""
    rare = neighbours(MODEL, IDS[3], choice(20))
    uncounted = neighbours(made_model(n_neighbours=0), IDS[4], choice(20))

    assert neighbours(MODEL, "unknown", choice(20)) is None
    assert rare is not None
    assert rare.items == []
    assert uncounted is not None
    assert uncounted.items == []


def test_popular_items_of_a_bundle_are_those_that_a_worker_begins_with() -> None:
    """The same shares, the same order where two are as popular, and not more than a list can have."""
    weights = [float(number % 50) for number in range(N_ITEMS)]
    model = made_model(popularity=weights)
    popularity = Popularity(86_400.0)
    popularity.seed(prepare_seed(model.item_ids, model.popularity))
    found = popular_of_bundle(model, 17)

    assert (found.bundle_id, found.produced_at_ms) == (model.bundle_id, 17)
    assert len(found.items) == MAX_LIST
    assert msgspec.json.encode(found.items) == bytes(popularity.ranked(MAX_LIST).items)
    assert [item.score for item in found.items[:6]] == pytest.approx([49 / sum(weights)] * 6)


def update(produced_at_ms: int) -> bytes:
    ranked = ranked_list(POPULAR, [Recommendation("a", 0.5), Recommendation("b", 0.25)], [1, 2])
    return encode_update("u", ranked, ServedBy("00000000000000cc"), 3, AnsweredClick(0, 1, 2), produced_at_ms)


@pytest.mark.parametrize(("produced_at_ms", "is_update"), [(4, False), (5, True), (6, True)])
def test_the_younger_of_two_popular_lists_is_shown(produced_at_ms: int, is_update: bool) -> None:
    """A worker's goes on where the bundle's began; a bundle that is newer has counted more."""
    found = younger(update(produced_at_ms), POPULAR_ITEMS)

    assert found is not None
    assert found.bundle_id == ("00000000000000cc" if is_update else POPULAR_ITEMS.bundle_id)
    assert found.produced_at_ms == max(5, produced_at_ms)


def test_the_bundle_fills_up_a_workers_popular_list() -> None:
    """A worker lists a few, and one may ask for more. No item twice, and none above one that is more popular."""
    items = [Recommendation("x", 0.9), Recommendation("b", 0.8), Recommendation("y", 0.1)]
    found = younger(update(5), PopularItems(items, "00000000000000bb", 5))

    assert found is not None
    scores = [(item.item_id, item.score) for item in found.items]
    assert scores == [("a", 0.5), ("b", 0.25), ("x", 0.25), ("y", 0.1)]


def test_where_there_is_one_popular_list_it_is_shown() -> None:
    """Before the first bundle, and before the first update."""
    assert younger(None, None) is None
    assert younger(None, POPULAR_ITEMS) is POPULAR_ITEMS
    of_update = younger(update(1), None)
    assert of_update is not None
    assert of_update.items == [Recommendation("a", 0.5), Recommendation("b", 0.25)]


def test_a_popular_list_says_how_old_it_is() -> None:
    """Never less than nothing: the clock of who made it may be ahead."""
    found = popular_list(POPULAR_ITEMS, choice(2), 25)

    assert [item.item_id for item in found.items] == ["p0", "p1"]
    assert (found.bundle_id, found.produced_at_ms, found.age_ms) == (POPULAR_ITEMS.bundle_id, 5, 20)
    assert popular_list(POPULAR_ITEMS, choice(2), 1).age_ms == 0
