"""Items that no bundle knows: what is counted of them, within which bounds, and how they get into lists."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nextclick.advance import Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.catalogue import ShopItem
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.item_table import ItemTable
from nextclick.item_traits import ItemTraits
from nextclick.model import ServedModel
from nextclick.network_config import MAX_DISTANCE, PAIR_BACKWARD, PAIR_SHRINKAGE, SESSION_GAP_S, NetworkConfig
from nextclick.rules import Rules
from nextclick.scoring import live_counts
from nextclick.scoring.live_counts import N_NEIGHBOURS
from nextclick.updates import POPULAR, UpdateFormat, ranked_list
from nextclick.user_state import UserState, recent_clicks
from nextclick.vocabulary import Vocabulary
from tests.networks import features_and_context, random_network, served_model
from tests.unit.test_output_formats import AVRO, PROTOBUF, list_in

N_ITEMS, N_LIVE, NOW_MS = 12, 40, 1_700_000_000_000
KNOWN = [f"i{number}" for number in range(N_ITEMS)]
NETWORK = random_network(NetworkConfig(N_ITEMS, 4, skip=True, normalised=True, n_neighbours=3), seed=3)
NOTHING = ranked_list(POPULAR, [], [])
LIMITS = Limits(20, 10)
Pair = tuple[str, str]


def model_of(known: Sequence[str] = KNOWN, bundle: str = "1") -> ServedModel:
    network = NETWORK
    if len(known) != N_ITEMS:
        network = random_network(NetworkConfig(len(known), 4, skip=True, normalised=True, n_neighbours=3), seed=4)
    return served_model(bundle.zfill(16), network, Vocabulary(list(known), np.ones(len(known))))


class Stream:
    """Users who click at a worker, a click a batch unless said otherwise."""

    def __init__(self, model: ServedModel, n_live: int = N_LIVE) -> None:
        self.model, self.states, self.offset = model, dict[UserKey, UserState](), 0
        model.begin_live(n_live)

    def click(self, *clicks: tuple[str, str] | tuple[str, str, int], counts: bool = True) -> list[Advanced]:
        """Let users click together: user, item, and the time in s."""
        batch = []
        for user, item, *time_s in clicks:
            click = Click(user, item, NOW_MS + 1000 * (time_s[0] if time_s else 0), 0)
            batch.append(LoggedClick((0, user.encode()), self.offset, NOW_MS, click, item_hash(item)))
            self.offset += 1
        return self.take(batch, counts)

    def take(self, batch: Sequence[LoggedClick], counts: bool = True) -> list[Any]:
        outcomes = advance(self.model, NOTHING, self.states, batch, LIMITS)
        assert self.model.live is not None
        self.model.live.count(batch, outcomes, [counts] * len(batch))
        self.states |= {logged.user: outcome.state for logged, outcome in zip(batch, outcomes, strict=True)}
        return outcomes

    def list_of(self, user: str, k: int = 10, rules: Rules = Rules()) -> dict[str, float]:  # noqa: B008 - immutable
        state = self.states[0, user.encode()]
        (ranked,) = self.model.rank([state.hidden], [state.recent], k, rules=rules)
        return {item["item_id"]: item["score"] for item in json.loads(bytes(ranked.items))}


def ids_of(model: ServedModel) -> list[str]:
    """Give the ids of the bundle's items, and behind them those of live ones."""
    assert model.live is not None
    texts, starts, ends = model.live.texts
    live = [texts[starts[place] : ends[place]].tobytes() + b"0}" for place in range(len(model.live))]
    return [*model.item_ids, *(json.loads(text)["item_id"] for text in live)]


def counts_of(model: ServedModel) -> dict[Pair, float]:
    """Give everything that is counted, by the ids of the two items."""
    live, ids, n_items = model.live, ids_of(model), len(model.item_ids)
    assert live is not None
    held, found = live._counts, {}
    for row in [*range(len(live)), *range(len(held.hashes), int(held.used[2]))]:
        for place in range(held.sizes[row]):
            neighbour = int(held.neighbours[row, place])
            if neighbour >= n_items and held.serials[neighbour - n_items] != held.neighbour_serials[row, place]:
                continue
            found[ids[held.owners[row]], ids[neighbour]] = float(held.counts[row, place] / held.sums[1])
    return found


class Walked(NamedTuple):
    """What a user did: the items, and the pauses before each."""

    items: list[str]
    gaps_s: list[int]


def brute_force(walks: Sequence[Walked], growth: float) -> dict[Pair, float]:
    """Count pairs of clicks, in the order of the users' turns; each click weighs more than the one before."""
    counts: dict[Pair, float] = {}
    turns = max(len(walk.items) for walk in walks)
    now = 1.0
    for turn in range(turns):
        for walk in walks:
            if turn >= len(walk.items):
                continue
            now *= growth
            item = walk.items[turn]
            for distance in range(1, min(turn, MAX_DISTANCE) + 1):
                if walk.gaps_s[turn - distance + 1] > SESSION_GAP_S:
                    break
                other = walk.items[turn - distance]
                if other == item or (item in KNOWN and other in KNOWN):
                    continue
                for pair, weight in (((other, item), 1.0), ((item, other), PAIR_BACKWARD)):
                    counts[pair] = counts.get(pair, 0.0) + now * weight / distance
    return {pair: count / now for pair, count in counts.items()}


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_every_pair_of_clicks(seed: int) -> None:
    """In one session, near each other, one of both unknown to the bundle; many users at once."""
    rng = np.random.default_rng(seed)
    ids = [*KNOWN, *(f"new{number}" for number in range(8))]
    walks = []
    for _ in range(4):
        n = int(rng.integers(1, 60))
        walks.append(Walked(rng.choice(ids, n).tolist(), rng.choice([1, 30, 2_000], n, p=[0.5, 0.4, 0.1]).tolist()))
    stream, times = Stream(model_of()), [0] * len(walks)
    for turn in range(max(len(walk.items) for walk in walks)):
        together: list[tuple[str, str, int]] = []
        for user, walk in enumerate(walks):
            if turn < len(walk.items):
                times[user] += walk.gaps_s[turn]
                together.append((f"u{user}", walk.items[turn], times[user]))
        stream.click(*together)
    found = counts_of(stream.model)

    expected = brute_force(walks, live_counts._GROWTH)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[pair] for pair in expected], list(expected.values()), rtol=1e-5)


def test_clicks_that_come_together_count_as_one_by_one() -> None:
    """A user's clicks of one batch pair with each other and with those before."""
    items = ["i1", "new1", "i2", "new2", "i1", "new1"]
    apart, together = Stream(model_of()), Stream(model_of())
    for item in items:
        apart.click(("u", item))
    together.click(*(("u", item) for item in items[:2]))
    together.click(*(("u", item) for item in items[2:]))

    assert counts_of(apart.model) == pytest.approx(counts_of(together.model), rel=1e-4)


def test_a_click_counts_once_however_often_it_is_read() -> None:
    """Read again with the state of before it, as after a rebalance; skipped; what a user does again and again."""
    stream = Stream(model_of())
    stream.click(("u", "i1"))
    before = dict(stream.states)
    click = LoggedClick((0, b"u"), stream.offset, NOW_MS, Click("u", "new1", NOW_MS, 0), item_hash("new1"))
    stream.take([click])
    once = counts_of(stream.model)
    stream.take([click])
    stream.states = before
    (outcome,) = stream.take([click])
    stream.offset += 1
    stream.click(("u", "i1"), counts=False)

    assert isinstance(outcome, Advanced)
    assert once.keys() == {("i1", "new1"), ("new1", "i1")}
    assert counts_of(stream.model) == once


def test_a_new_item_is_listed_for_whoever_clicks_what_it_was_clicked_near() -> None:
    """And what was clicked near it for whoever clicks it, though the network knows nothing of this user."""
    stream = Stream(model_of())
    for user in range(20):
        stream.click((f"u{user}", "i1"))
        stream.click((f"u{user}", "new"))
    stream.click(("someone", "i1"), ("stranger", "new"), ("nobody", "newer still"))
    (outcome,) = stream.click(("stranger", "new2"))

    assert "new" in stream.list_of("someone")
    assert "i1" in stream.list_of("stranger")
    assert stream.states[0, b"stranger"].hidden == b""
    assert outcome.ranked.strategy == "rnn"
    assert outcome.is_new


def test_without_live_items_new_ones_are_in_no_list() -> None:
    stream = Stream(model_of())
    stream.model.live = None
    click = LoggedClick((0, b"u"), 0, NOW_MS, Click("u", "new", NOW_MS, 0), item_hash("new"))
    (outcome,) = advance(stream.model, NOTHING, {}, [click], LIMITS)

    assert outcome.ranked is NOTHING


def shares(model: ServedModel, item: str) -> dict[str, float]:
    """Give the live neighbours of an item with their shares, as lists are made with them."""
    ids = ids_of(model)
    assert model.live is not None
    near, _ = model.live.near(np.array([[ids.index(item)]]))
    return {ids[index]: float(share) for index, share in zip(near.items, near.shares, strict=True)}


def test_shares_are_of_what_was_clicked_since_the_item_came() -> None:
    """Of the bundle's counts as large a part as fell in that time, the live counts, and 5."""
    model = model_of()
    stream = Stream(model)
    for user in range(30):
        stream.click((f"a{user}", "i2"))
        stream.click((f"a{user}", "i3"))
    for user in range(6):
        stream.click((f"b{user}", "i1"))
        stream.click((f"b{user}", "new"))
    live = model.live
    assert live is not None
    found = shares(model, "i1")["new"]
    sums, growth = live._counts.sums, live_counts._GROWTH
    support = np.expm1(NETWORK.arrays()["mixture.support"].astype("f8"))
    since = 6 * (1 + PAIR_BACKWARD) / support.sum()

    expected = 6 / (support[1] * since + 6 + PAIR_SHRINKAGE)
    assert support[1] > 0
    assert sums[1] == pytest.approx(growth**11)
    assert found == pytest.approx(expected, rel=1e-2)
    assert shares(model, "new")["i1"] == pytest.approx(4.2 / (4.2 + PAIR_SHRINKAGE), rel=1e-2)


def test_memory_is_bounded_and_what_is_clicked_least_leaves() -> None:
    """A flood of items that are clicked once does not drive out one that is clicked all the time."""
    stream = Stream(model_of(), n_live=16)
    for number in range(300):
        user = f"u{number}"
        stream.click((user, "i1"), (user, "good"), (user, f"flood{number}"), (user, f"i{number % N_ITEMS}"))
    live = stream.model.live
    assert live is not None
    stream.click(("someone", "i1"))

    assert len(live) == 16
    assert item_hash("good") in live.hashes.tolist()
    assert "good" in stream.list_of("someone")
    assert (live._counts.sizes <= N_NEIGHBOURS).all()
    assert len(set(live.hashes.tolist())) == 16
    assert sorted(live._counts.places.rows[live._counts.places.rows >= 0].tolist()) == list(range(16))


def test_an_item_in_the_place_of_one_that_left_has_none_of_its_neighbours() -> None:
    """What others have counted of the one that left is not said of the one that came."""
    stream = Stream(model_of(), n_live=1)
    for user in range(9):
        stream.click((f"u{user}", "i1"), (f"u{user}", "first"))
    stream.click(("v", "i2"), ("v", "second"))
    live = stream.model.live
    assert live is not None

    assert shares(stream.model, "i1") == {}
    assert shares(stream.model, "i2").keys() == {"second"}
    assert shares(stream.model, "second").keys() == {"i2"}


def test_places_are_found_through_any_order_of_coming_and_leaving() -> None:
    """The table of hashes has no hole that hides an item."""
    stream = Stream(model_of(), n_live=5)
    live = stream.model.live
    assert live is not None
    rng = np.random.default_rng(1)
    for number in rng.integers(40, size=600).tolist():
        stream.click((f"u{number}", f"new{number}"))
        place = live.hashes.tolist().index(item_hash(f"new{number}"))
        recent = stream.states[0, f"u{number}".encode()].recent
        assert stream.model.histories([recent]).item_index[0, 0] == N_ITEMS + place


def test_what_a_new_bundle_knows_leaves_and_the_rest_goes_on() -> None:
    """By its ids: rows of the new bundle are others."""
    before = model_of()
    stream = Stream(before)
    for user in range(8):
        for item in ("i1", "new1", "i2", "new2", "new3"):
            stream.click((f"u{user}", item))
    counted = counts_of(before)
    known = ["new2", *reversed(KNOWN[1:]), "other"]  # i0 left; new2 is known now
    after = model_of(known, "2")
    after.begin_live(N_LIVE, before.live)
    live = after.live
    assert live is not None

    kept = {item for pair in counted for item in pair if item.startswith("new")} - {"new2"}
    expected = {pair: count for pair, count in counted.items() if not kept.isdisjoint(pair)}
    assert kept == {"new1", "new3"}
    assert len(live) == 2
    assert counts_of(after) == pytest.approx(expected)
    assert after.index_of(item_hash("new2")) == 0


def test_counts_stay_right_when_they_are_scaled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer clicks weigh more and more, until everything is divided."""
    stream = Stream(model_of())
    live = stream.model.live
    assert live is not None
    stream.click(("u", "i1"), ("u", "new"))
    live._counts.sums[1] *= 2.0**39.9999
    live._counts.sums[0] *= 2.0**39.9999
    live._counts.counts[:] *= np.float32(2.0**39.9999)
    live._counts.totals[:] *= 2.0**39.9999
    for user in range(30):
        stream.click((f"v{user}", "i1"), (f"v{user}", "new"))

    assert live._counts.sums[1] < 2.0
    assert counts_of(stream.model)["i1", "new"] == pytest.approx(31, rel=1e-3)


def by_full_sort(stream: Stream, user: str, k: int) -> list[tuple[str, float]]:
    """Rank every item, known or live, by definition."""
    model, state = stream.model, stream.states[0, user.encode()]
    features, _ = features_and_context(model, NETWORK, [state.hidden], [state.recent])
    with torch.inference_mode():
        scores = NETWORK.scores(features)[0].double().numpy()
    scores = scores * float(NETWORK.arrays()["mixture.sharpness"])
    terms, ids = model._terms(model.histories([state.recent])), ids_of(model)
    weights, clicked, counts = terms.weights[0], terms.clicked[0].tolist(), model._form.counts
    found: npt.NDArray[np.float64] = np.zeros(len(ids))
    found[:N_ITEMS] = weights[0] * np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    for age, item in enumerate(clicked):
        if item >= 0:
            found[item] += weights[1 + len(clicked) + age]
            for neighbour, share in shares(model, ids[item]).items():
                found[ids.index(neighbour)] += weights[1 + age] * share
        if 0 <= item < N_ITEMS:
            of_item = slice(*counts.starts[item : item + 2])
            np.add.at(found, counts.neighbours[of_item], weights[1 + age] * counts.shares[of_item])
    order = np.argsort(-found, kind="stable")[:k]
    return [(ids[item], float(found[item])) for item in order]


@pytest.fixture
def busy() -> Stream:
    """A stream in which many items are new, and some users know only these."""
    stream, rng = Stream(model_of()), np.random.default_rng(5)
    ids = [*KNOWN, *(f"new{number}" for number in range(15))]
    for _ in range(400):
        user = int(rng.integers(40))
        item = rng.choice(ids[N_ITEMS:] if user < 10 else ids)
        stream.click((f"u{user}", str(item)))
    return stream


def test_lists_are_those_of_a_full_sort(busy: Stream) -> None:
    """Of the network, the bundle's counts and the live ones; of users who clicked known items, new ones, or both."""
    n_live = 0
    for user in range(40):
        for k in (1, 5, N_ITEMS):
            found, expected = busy.list_of(f"u{user}", k), by_full_sort(busy, f"u{user}", k)

            assert list(found) == [item for item, _ in expected]
            np.testing.assert_allclose(list(found.values()), [score for _, score in expected], rtol=2e-4)
            n_live += len(found.keys() - set(KNOWN))
    assert n_live > 100


@pytest.mark.parametrize("output", [AVRO, PROTOBUF], ids=["avro", "protobuf"])
@pytest.mark.parametrize("explain", [False, True])
def test_all_formats_have_live_items(busy: Stream, output: UpdateFormat, explain: bool) -> None:
    """With what each is listed for: near which item, which may be a new one, too."""
    model = busy.model
    other = ServedModel.of_form("1".zfill(16), NETWORK.config, model._form, output)
    other.live = model.live
    states = list(busy.states.values())
    hidden, recent = [state.hidden for state in states], [state.recent for state in states]
    lists = [json.loads(bytes(ranked.items)) for ranked in model.rank(hidden, recent, 10, explain)]
    others = [list_in(output, bytes(ranked.items)) for ranked in other.rank(hidden, recent, 10, explain)]

    because = {
        (item["item_id"][:3], part["item_id"][:3])
        for items in lists
        for item in items
        for part in item.get("because", ())
        if part["kind"] == "neighbour"
    }
    assert [[item.item_id for item in items] for items in others] == [
        [item["item_id"] for item in items] for items in lists
    ]
    if explain:
        assert {("new", "new"), ("new", "i1"), ("i1", "new")} <= because


def test_the_state_remembers_live_items_of_a_list(busy: Stream) -> None:
    """A click on one of them is a hit."""
    busy.click(("u3", "i1"))
    new = next(item for item in busy.list_of("u3") if item.startswith("new"))
    (outcome,) = busy.click(("u3", new))

    assert outcome.hit
    assert outcome.is_new


def test_the_shop_decides_of_live_items_too(busy: Stream) -> None:
    """Withdrawn, boosted, of a full category; what it says of the bundle's items goes on."""
    table = ItemTable()
    listed = [item for item in busy.list_of("u3") if item.startswith("new")]
    before = busy.list_of("u3")
    table.say(item_hash(listed[0]), ShopItem(available=False))
    table.say(item_hash(listed[1]), ShopItem(boost=2.0))
    for item in listed[2:]:
        table.say(item_hash(item), ShopItem(categories=("shoes",)))
    busy.model.set_live_traits(table)
    after = busy.list_of("u3")
    few = busy.list_of("u3", rules=Rules(max_per_category=1))

    assert len(listed) > 3
    assert listed[0] not in after
    assert after[listed[1]] / after[listed[2]] == pytest.approx(2.0 * before[listed[1]] / before[listed[2]], rel=1e-4)
    assert listed[2] in few
    assert not few.keys() & set(listed[3:])
    busy.model.set_live_traits(ItemTable())
    assert busy.list_of("u3") == before


def test_traits_of_the_bundles_items_and_of_live_ones_hold_together(busy: Stream) -> None:
    """Whichever came last."""
    table, listed = ItemTable(), list(busy.list_of("u15"))
    new = next(item for item in listed if item.startswith("new"))
    known = next(item for item in listed if item in KNOWN)
    table.say(item_hash(new), ShopItem(available=False))
    factors = np.ones(N_ITEMS, np.float32)
    factors[KNOWN.index(known)] = 0.0
    traits = ItemTraits(factors, np.zeros(N_ITEMS + 1, np.int64), np.zeros(0, np.int32))
    for turn in range(2):
        for what in (0, 1) if turn else (1, 0):
            if what:
                busy.model.set_traits(traits)
            else:
                busy.model.set_live_traits(table)

        assert not {new, known} & busy.list_of("u15").keys()
        busy.model.set_traits(None)
        assert known in busy.list_of("u15")
        assert new not in busy.list_of("u15")
        busy.model.set_live_traits(ItemTable())


def test_rules_hold_for_live_items(busy: Stream) -> None:
    """What a user clicked is left out; places are explored without harm."""
    ids = {item_hash(item): item for item in ids_of(busy.model)}
    state = busy.states[0, b"u3"]
    clicked = {ids[click.item_hash] for click in recent_clicks(state)}
    assert any(item.startswith("new") for item in clicked & busy.list_of("u3").keys())

    assert not clicked & busy.list_of("u3", rules=Rules("recent")).keys()
    (ranked,) = busy.model.rank([state.hidden], [state.recent], 10, False, Rules(explore=0.5), [0.3])
    assert len(json.loads(bytes(ranked.items))) == 10
