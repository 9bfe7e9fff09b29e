"""The shop's rules as settings say them, which clicks exclude an item, and which places are explored."""

import itertools
import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from nextclick.advance import Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.clicks import Click
from nextclick.errors import PermanentError
from nextclick.hashing import item_hash
from nextclick.item_traits import ItemTraits
from nextclick.model import ServedModel
from nextclick.network_config import SESSION_GAP_S, NetworkConfig
from nextclick.popular_lists import PopularItem, PopularLists
from nextclick.popularity import MAX_LIST, Popularity, prepare_seed
from nextclick.rules import (
    NO_RULES,
    PURCHASE,
    Exclude,
    Rules,
    excluded_hashes,
    explored_from,
    is_explored,
    pinned_items,
    popular_rules_of,
    rules_of,
)
from nextclick.settings import Settings
from nextclick.shop import Shop as ShopOfBundle
from nextclick.updates import Recommendation, decode_items, encode_items
from nextclick.user_state import UserState, with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network, served_model

N_ITEMS = 60
IDS = [f"i{number}" for number in range(N_ITEMS)]
# Oldest first: item, gap in s, event type.
CLICKS = [("i1", 0, 0), ("i2", 60, PURCHASE), ("i3", SESSION_GAP_S + 1, 0), ("i1", 5, 1), ("nobody knows", 5, PURCHASE)]
EXCLUDED: dict[Exclude, set[str]] = {
    "none": set(),
    "last": {"nobody knows"},
    "session": {"i3", "i1", "nobody knows"},
    "recent": {"i1", "i2", "i3", "nobody knows"},
    "purchased": {"i2", "nobody knows"},
}


@pytest.fixture(scope="module")
def model() -> ServedModel:
    """A bundle with a mixture, in which clicked items are ranked high."""
    config = NetworkConfig(N_ITEMS, 8, n_neighbours=6, skip=True, normalised=True)
    return served_model("1".zfill(16), random_network(config, 3), Vocabulary(IDS, np.arange(N_ITEMS) + 1.0))


def recent() -> bytes:
    packed = b""
    for item_id, gap_s, event_type in CLICKS:
        packed = with_recent(packed, item_hash(item_id), gap_s, event_type, 20)
    return packed


def listed(model: ServedModel, rules: Rules, k: int = 20) -> list[str]:
    """The ids of a list of whoever made `CLICKS`."""
    (ranked,) = model.rank([b""], [recent()], k, rules=rules, offsets=[0.3])
    low = [int.from_bytes(ranked.shown[at : at + 4], "little") for at in range(0, len(ranked.shown), 4)]
    ids = [item.item_id for item in decode_items(ranked.items)]
    assert low == [item_hash(item_id) & 0xFFFFFFFF for item_id in ids]
    return ids


@pytest.mark.parametrize("exclude", EXCLUDED)
def test_what_was_clicked_is_left_out_and_others_come(model: ServedModel, exclude: Exclude) -> None:
    """The list without the rule, without these items, and as long as it was."""
    everything = listed(model, NO_RULES, N_ITEMS)

    found = listed(model, Rules(exclude))

    assert found == [item_id for item_id in everything if item_id not in EXCLUDED[exclude]][:20]
    assert excluded_hashes(recent(), exclude) == {item_hash(item_id) for item_id in EXCLUDED[exclude]}


def test_an_item_just_bought_is_not_first_any_more(model: ServedModel) -> None:
    """Whoever bought it has it: a re-click of it was the most probable of all."""
    bought = [with_recent(b"", item_hash(item_id), 0, PURCHASE, 20) for item_id in IDS]
    users = [b""] * N_ITEMS, bought
    before, after = (
        [[item.item_id for item in decode_items(ranked.items)] for ranked in model.rank(*users, 5, rules=rules)]
        for rules in (NO_RULES, Rules("purchased"))
    )

    assert sum(ids[0] == item_id for item_id, ids in zip(IDS, before, strict=True)) > N_ITEMS // 10
    assert not any(item_id in ids for item_id, ids in zip(IDS, after, strict=True))
    assert {len(ids) for ids in after} == {5}


def test_pinned_items_stand_first_in_their_order_with_their_own_scores(model: ServedModel) -> None:
    """Unless the bundle does not know them, they are withdrawn, or the user's clicks exclude them."""
    everything = {item.item_id: item.score for item in decode_items(model.rank([b""], [recent()], N_ITEMS)[0].items)}
    rules = Rules("session", pinned=("i40", "unknown", "i3", "i7", "i41"))
    factors = np.ones(N_ITEMS, "f4")
    factors[41] = 0.0
    shop = served_model("1".zfill(16), random_network(NetworkConfig(N_ITEMS, 8), 3), Vocabulary(IDS, np.ones(N_ITEMS)))
    shop.set_traits(ItemTraits(factors, np.zeros(N_ITEMS + 1, np.int64), np.zeros(0, np.int32)))

    items = decode_items(model.rank([b""], [recent()], 6, rules=rules)[0].items)
    of_shop = decode_items(shop.rank([b""], [recent()], 6, rules=rules)[0].items)

    assert [item.item_id for item in items][:3] == ["i40", "i7", "i41"]
    assert [item.placed for item in items if item.placed] == ["pinned"] * 3
    assert [item.score for item in items] == pytest.approx([everything[item.item_id] for item in items], rel=1e-4)
    assert len({item.item_id for item in items}) == 6
    assert [item.item_id for item in of_shop if item.placed] == ["i40", "i7"]


def test_traits_change_the_next_list_and_are_forgotten_with_none(model: ServedModel) -> None:
    """A withdrawn item is in no list, a boosted one comes further up, and without traits everything is as it was."""
    before = listed(model, NO_RULES, N_ITEMS)
    factors = np.ones(N_ITEMS, "f4")
    factors[IDS.index(before[0])], factors[IDS.index(before[30])] = 0.0, 1e6
    try:
        model.set_traits(ItemTraits(factors, np.zeros(N_ITEMS + 1, np.int64), np.zeros(0, np.int32)))
        during = listed(model, NO_RULES, N_ITEMS)
    finally:
        model.set_traits(None)

    assert before[0] not in during
    assert len(during) == N_ITEMS - 1
    assert during.index(before[30]) < 5
    assert listed(model, NO_RULES, N_ITEMS) == before


def test_only_a_few_may_be_listed(model: ServedModel) -> None:
    """The list is shorter then, down to nothing: never an item that may not be listed."""
    for n_left in (3, 1, 0):
        factors = np.where(np.arange(N_ITEMS) < n_left, 1, 0).astype("f4")
        try:
            model.set_traits(ItemTraits(factors, np.zeros(N_ITEMS + 1, np.int64), np.zeros(0, np.int32)))
            assert sorted(listed(model, NO_RULES)) == IDS[:n_left]
            assert sorted(listed(model, Rules("last", 1))) == IDS[:n_left]
        finally:
            model.set_traits(None)


@given(share=st.floats(0.001, 0.5), sequence=st.integers(1, 2**32 - 1), k=st.integers(1, 255))
def test_the_share_of_places_is_explored(share: float, sequence: int, k: int) -> None:
    """To the nearest place in every list, and which ones the user and the sequence say alone."""
    offset = explored_from(b"ann", sequence)
    n_explored = sum(is_explored(place, share, offset) for place in range(k))

    assert 0.0 <= offset <= 1.0
    assert offset == explored_from(b"ann", sequence)
    assert abs(n_explored - share * k) <= 1.0


def test_every_place_is_explored_as_often() -> None:
    """Over users and sequences: neither the first nor the last place is spared."""
    counts = np.zeros(20)
    for number in range(20_000):
        offset = explored_from(b"user-%d" % (number % 100), number // 100)
        counts += [is_explored(place, 0.05, offset) for place in range(20)]

    assert counts.sum() == pytest.approx(20_000, abs=1)
    assert counts.min() > 0.85 * 1_000
    assert counts.max() < 1.15 * 1_000


def test_settings_say_the_rules() -> None:
    """Ids with commas between them, each once; nothing is off the list by itself."""
    settings = Settings.load(
        {}, {"exclude": "session", "pinned": " a, b ,a,,c", "explore": ".05", "max_per_category": "3"}
    )

    assert rules_of(settings) == Rules("session", 3, ("a", "b", "c"), 0.05)
    assert rules_of(Settings()) == NO_RULES
    assert pinned_items("") == ()
    assert popular_rules_of(Settings()) == ((), 0, 0)
    assert popular_rules_of(settings).n_excluded == settings.recent_clicks
    with pytest.raises(PermanentError, match="exclude"):
        Settings.load({}, {"exclude": "everything"})


def test_popular_lists_obey_the_same_rules() -> None:
    """A user of whom the network knows nothing gets the popular list without what his clicks exclude."""
    popularity = Popularity(3600.0, rules=popular_rules_of(Settings(exclude="last", pinned="new", list_length=3)))
    for number, item_id in enumerate(["a", "a", "a", "b", "b", "c", "d"]):
        popularity.add(number, item_id, 1_000_000_000_000)
    logged = [
        LoggedClick((0, user), offset, 0, Click(user.decode(), item_id, 1_000_000_000_000, 0), item_hash(item_id))
        for offset, (user, item_id) in enumerate([(b"ann", "a"), (b"ben", "nothing popular"), (b"cem", "new")])
    ]

    outcomes = advance(None, popularity.lists(3), {}, logged, Limits(20, 3, rules=Rules("last", pinned=("new",))))

    lists = [[item.item_id for item in decode_items(outcome.ranked.items)] for outcome in outcomes]
    assert lists == [["new", "b", "c"], ["new", "a", "b"], ["a", "b", "c"]]
    assert [decode_items(outcome.ranked.items)[0].placed for outcome in outcomes[:2]] == ["pinned", "pinned"]
    assert decode_items(outcomes[0].ranked.items)[0].score == 0.0
    assert outcomes[1].ranked is popularity.ranked(3)  # shared


@pytest.mark.parametrize("most", [0, 1])
def test_the_place_of_an_item_is_that_in_the_list_without_what_a_user_knows(most: int) -> None:
    """Found without making the list, of any item that can be in one."""
    categories = {"b": (1,), "c": (1,), "e": (1, 2)}
    items = [PopularItem(each, 0.1, item_hash(each), categories.get(each, ())) for each in "abcdefg"]
    lists = PopularLists(items, 3, most, encode_items)
    for n_known in range(4):
        for known in itertools.combinations("abcdz", n_known):
            excluded = {item_hash(each) for each in known}
            listed = [item.item_id for item in decode_items(lists.without(excluded).items)]
            places = {each: lists.place(item_hash(each), excluded) for each in "abcdefgz"}

            assert {each: place for each, place in places.items() if place is not None} == {
                each: place for place, each in enumerate(listed)
            }
    assert item_hash("g") in lists
    assert item_hash("z") not in lists


def test_popular_lists_of_users_are_made_in_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when so many are kept that they are forgotten: by another thread, between any two lines of this one."""
    monkeypatch.setattr("nextclick.popular_lists._MOST_KEPT", 1)
    lists = PopularLists([PopularItem(item_id, 0.1, item_hash(item_id)) for item_id in "abcd"], 2, 0, encode_items)
    before = lists.without({item_hash("a")})

    def between_lines(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is PopularLists.without.__code__:
            sys.settrace(None)
            lists.without({item_hash("b")})
            lists.without({item_hash("c")})
            sys.settrace(between_lines)
            return between_lines
        return None

    sys.settrace(between_lines)
    try:
        found = lists.without({item_hash("a")})
    finally:
        sys.settrace(None)

    assert [item.item_id for item in decode_items(before.items)] == ["b", "c"]
    assert found == before


class Shop:
    """What a shop says, by item id."""

    def __init__(self, factors: dict[str, float], categories: dict[str, tuple[int, ...]]) -> None:
        self.version, self.is_empty = 1, False
        self._factors = {item_hash(item_id): factor for item_id, factor in factors.items()}
        self._categories = {item_hash(item_id): numbers for item_id, numbers in categories.items()}

    def factors_of(self, hashes: Sequence[int]) -> list[float]:
        return [self._factors.get(hashed, 1.0) for hashed in hashes]

    def categories_of(self, hashes: Sequence[int]) -> list[tuple[int, ...]]:
        return [self._categories.get(hashed, ()) for hashed in hashes]


def test_popular_items_of_full_categories_make_room() -> None:
    """Also where the items that lead are all in one category, or withdrawn: all others are looked at then."""
    ids = [f"p{number}" for number in range(400)]
    shop = Shop({"p399": 0.0, "p0": 0.0}, {item_id: (7,) for item_id in ids[20:]})
    popularity = Popularity(3600.0, stock=shop, rules=popular_rules_of(Settings(max_per_category=2)))
    for number, item_id in enumerate(ids):
        for user in range(1 + number // 4):
            popularity.add(user, item_id, 1_000_000_000_000)

    found = [item.item_id for item in decode_items(popularity.ranked(5).items)]

    assert found == ["p396", "p397", "p16", "p17", "p18"]


@pytest.mark.parametrize("n_withdrawn", [250, 4_500], ids=["nearly all that lead", "all of many"])
@pytest.mark.parametrize("most", [0, 2])
def test_popular_lists_are_full_where_those_that_lead_may_not_be_listed(n_withdrawn: int, most: int) -> None:
    """Withdrawn, or excluded by the user's own clicks: what comes behind them is listed, in its order."""
    ids = [f"p{number:04}" for number in range(5_000)]
    shop = Shop(dict.fromkeys(ids[:n_withdrawn], 0.0), {item_id: (number // 7,) for number, item_id in enumerate(ids)})
    rules = popular_rules_of(Settings(exclude="recent", recent_clicks=20, max_per_category=most))
    popularity = Popularity(3600.0, stock=shop, rules=rules)
    weights = np.arange(len(ids), 0, -1, dtype=np.float64)
    popularity.seed(prepare_seed(ids, weights))
    excluded = ids[n_withdrawn : n_withdrawn + 20]

    listed = [
        decode_items(ranked.items)
        for ranked in (popularity.ranked(5), popularity.lists(5).without({item_hash(item_id) for item_id in excluded}))
    ]

    for items, left_out in zip(listed, [[], excluded], strict=True):
        taken: list[str] = []
        for number, item_id in enumerate(ids):
            n_of_category = sum(ids.index(other) // 7 == number // 7 for other in taken)
            is_there = number >= n_withdrawn and item_id not in left_out and (not most or n_of_category < most)
            if is_there and len(taken) < 5:
                taken.append(item_id)
        assert [item.item_id for item in items] == taken


def test_what_overtakes_behind_those_that_lead_is_seen_in_time() -> None:
    """All that lead are withdrawn: of the others another one becomes the most popular, and nothing else changes."""
    now_s = 0.0
    ids = [f"p{number:04}" for number in range(1_000)]
    shop = Shop(dict.fromkeys(ids[:300], 0.0), {})
    popularity = Popularity(3600.0, stock=shop, clock_s=lambda: now_s)
    popularity.seed(prepare_seed(ids, np.arange(len(ids), 0, -1, dtype=np.float64)))
    first = [item.item_id for item in decode_items(popularity.ranked(3).items)]
    for user in range(110):  # too few to lead
        popularity.add(user, ids[400], 1_000_000_000_000)
    now_s = 60.0
    shop.version += 1

    then = [item.item_id for item in decode_items(popularity.ranked(3).items)]

    assert first == ids[300:303]
    assert then == [ids[400], *ids[300:302]]


def test_a_popular_list_that_no_search_fills_is_not_searched_for_at_every_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two items of each of five categories are all there are: a shop that says much would hold up all clicks."""
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 0.1  # what looking at many takes
        return now_s

    ids = [f"p{number}" for number in range(600)]
    shop = Shop({}, {item_id: (number % 4 if number < 300 else 4,) for number, item_id in enumerate(ids)})
    popularity = Popularity(3600.0, stock=shop, rules=popular_rules_of(Settings(max_per_category=2)), clock_s=clock)
    for number, item_id in enumerate(ids):
        for user in range(20 - number // 30):
            popularity.add(user, item_id, 1_000_000_000_000)
    n_asked, factors_of = 0, shop.factors_of

    def counted(hashes: Sequence[int]) -> list[float]:
        nonlocal n_asked
        n_asked += len(hashes)
        return factors_of(hashes)

    monkeypatch.setattr(shop, "factors_of", counted)
    lists = []
    for _ in range(20):
        lists.append([item.item_id for item in decode_items(popularity.ranked(20).items)])
        shop.version += 1

    assert len(lists[0]) == 10
    assert all(each == lists[0] for each in lists)
    assert n_asked < 600 + 20 * (MAX_LIST + 2)


def test_shares_add_up_digit_by_digit_under_rules_and_boosts(model: ServedModel) -> None:
    """Of pinned and explored items, too; and the list is the same as without reasons."""
    rng = np.random.default_rng(2)
    factors = rng.choice(np.array([0, 0.01, 1, 7, 300], "f4"), size=N_ITEMS)
    traits = ItemTraits(factors, np.arange(N_ITEMS + 1), rng.integers(9, size=N_ITEMS).astype("i4"))
    rules = Rules("last", 3, ("i40", "i41"), 0.2)
    users = [b""] * 5, [with_recent(recent(), item_hash(f"i{number}"), 9, 0, 20) for number in range(5)]
    try:
        model.set_traits(traits)
        plain = model.rank(*users, 15, False, rules, [0.5] * 5)
        model.set_traits(traits)
        explained = model.rank(*users, 15, True, rules._replace(explore=0.0), [0.5] * 5)
        unexplored = model.rank(*users, 15, False, rules._replace(explore=0.0), [0.5] * 5)
    finally:
        model.set_traits(None)

    items = [item for ranked in explained for item in json.loads(ranked.items, parse_float=Decimal)]
    assert all(sum(part["share"] for part in item["because"]) == item["score"] for item in items)
    assert {part["kind"] for item in items for part in item["because"]} == {"network", "neighbour", "reclick"}
    assert all(0 < item["score"] <= 1 for item in items)
    assert [ranked.shown for ranked in explained] == [ranked.shown for ranked in unexplored]
    assert {item.placed for ranked in plain for item in decode_items(ranked.items)} == {UNSET, "pinned", "explore"}


def test_what_is_explored_is_little_shown_and_counted_apart(model: ServedModel) -> None:
    """A click on an explored item is no hit of the ranking; who clicked can be told without any new state."""
    limits = Limits(20, 10, rules=Rules(explore=0.1, pinned=("i59",)))
    states: dict[UserKey, UserState] = {}
    shown_items: dict[UserKey, list[Recommendation]] = {}
    n_explored = n_hits = n_apart = 0
    for step in range(30):
        before = dict(states)
        logged = []
        for user in range(8):
            key, shown = (0, b"user-%d" % user), before[0, b"user-%d" % user].shown if step else b""
            low = [int.from_bytes(shown[at : at + 4], "little") for at in range(0, len(shown), 4)]
            wanted = low[(step + user) % len(low)] if low else item_hash("i1") & 0xFFFFFFFF
            item_id = next(item_id for item_id in IDS if item_hash(item_id) & 0xFFFFFFFF == wanted)
            click = Click(f"user-{user}", item_id, 1_000_000_000_000 + step, 0)
            logged.append(LoggedClick(key, 8 * step + user, 0, click, item_hash(item_id)))
        outcomes = advance(model, PopularLists([], 10, 0, encode_items), before, logged, limits)
        for entry, outcome in zip(logged, outcomes, strict=True):
            assert isinstance(outcome, Advanced)
            items = decode_items(outcome.ranked.items)
            assert sum(item.placed == "explore" for item in items) <= 1
            if step:
                placed = {item.item_id: item.placed for item in shown_items[entry.user]}
                is_explored_hit = placed[entry.click.item_id] == "explore"
                assert outcome.explored_hit == is_explored_hit
                assert outcome.hit == (not is_explored_hit)
                assert outcome.n_explored == sum(value == "explore" for value in placed.values())
                n_explored, n_hits = n_explored + outcome.n_explored, n_hits + bool(outcome.hit)
                n_apart += outcome.explored_hit
            states[entry.user] = outcome.state
        shown_items = {
            entry.user: decode_items(outcome.ranked.items) for entry, outcome in zip(logged, outcomes, strict=True)
        }

    assert n_explored == pytest.approx(0.1 * 9 * 8 * 29, rel=0.15)  # the pinned item's place is never explored
    assert n_apart > 0
    assert n_hits + n_apart == 8 * 29


def test_where_every_category_is_full_the_search_ends(model: ServedModel) -> None:
    """A bound that no list can fill costs what others cost: four items are all that there can be."""
    categories = ItemTraits(np.ones(N_ITEMS, "f4"), np.arange(N_ITEMS + 1), (np.arange(N_ITEMS) % 2).astype("i4"))
    try:
        model.set_traits(categories)
        found = listed(model, Rules(max_per_category=2))
    finally:
        model.set_traits(None)

    everything = listed(model, NO_RULES, N_ITEMS)
    even = [item_id for item_id in everything if int(item_id[1:]) % 2 == 0][:2]
    odd = [item_id for item_id in everything if int(item_id[1:]) % 2 == 1][:2]
    assert found == [item_id for item_id in everything if item_id in {*even, *odd}]


def test_shares_are_the_sources_parts_under_boosts(model: ServedModel) -> None:
    """The network's parts of items that are not boosted keep their ratios: none has taken over what counts say."""
    factors = np.where(np.arange(N_ITEMS) % 2, 1, 40).astype("f4")

    def network_shares() -> dict[str, tuple[float, float]]:
        (ranked,) = model.rank([b""], [recent()], N_ITEMS, explain=True)
        return {
            item.item_id: (part.share, part.share / item.score)
            for item in decode_items(ranked.items)
            for part in (item.because or ())
            if part.kind == "network"
        }

    before = network_shares()
    try:
        model.set_traits(ItemTraits(factors, np.zeros(N_ITEMS + 1, np.int64), np.zeros(0, np.int32)))
        after = network_shares()
    finally:
        model.set_traits(None)

    ratios = [
        after[item_id][0] / share
        for item_id, (share, part) in before.items()
        if item_id in after and int(item_id[1:]) % 2 and min(part, after[item_id][1]) > 0.1
    ]
    assert len(ratios) > 10
    assert any(part < 0.9 for _, part in after.values())  # counts have a say
    assert max(ratios) / min(ratios) < 1.05


def test_what_was_shown_is_counted_with_room_for_live_items_whenever_these_begin() -> None:
    """Lists of a shadow are made in another thread: counts without that room would be written beyond their end."""
    network = random_network(NetworkConfig(n_items=N_ITEMS, hidden_size=4), seed=1)
    model = served_model("1".zfill(16), network, Vocabulary(IDS, np.ones(N_ITEMS)))
    for begins_at in range(99):
        shop, n_steps = ShopOfBundle(model._form, model.index_of), 0
        beginning = Thread(target=shop.begin_live, args=(5,))

        def at_step(frame: Any, event: str, _: Any, began: Thread = beginning, at: int = begins_at) -> Any:
            nonlocal n_steps
            if frame.f_code is not ShopOfBundle._counted.__code__:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                n_steps += 1
                if n_steps == at + 1:
                    began.start()
                    began.join(0.05)
            return at_step

        sys.settrace(at_step)
        try:
            shop._counted()
        finally:
            sys.settrace(None)
        if beginning.ident is None:
            assert begins_at > 5
            break
        beginning.join()
        assert len(shop._counted()) == N_ITEMS + 5
    else:
        pytest.fail("some steps were not tried")
