"""The pure heart: order, fence, retries, groups, rebuilding, fallback, and what is said about hits."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nextclick.advance import MAX_GROUP_USERS, Advanced, Limits, LoggedClick, Outcome, Skipped, UserKey, advance
from nextclick.clicks import Click
from nextclick.errors import CorruptStateError
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.updates import POPULAR, RNN, RankedList, Recommendation, ranked_list
from nextclick.user_state import (
    LAYOUT,
    MAX_GAP_S,
    MAX_SEQUENCE,
    NEW_USER,
    SHOWN_BY_NETWORK,
    RecentClick,
    UserState,
    decode_state,
    encode_state,
    recent_clicks,
)
from nextclick.vocabulary import Vocabulary
from tests.networks import served_model

LIMITS = Limits(recent_clicks=4, list_length=2)
POPULAR_LIST = ranked_list(POPULAR, [Recommendation("p", 0.5)], [item_hash("p") & 0xFFFFFFFF])


def test_a_first_click_makes_a_state() -> None:
    """Everything that is kept comes from the click, its record and the model."""
    model = _model()

    (outcome,) = _advance(model, {}, [_click("u", "a", 5, time_ms=1_000, partition=3, event_type=2)])

    assert isinstance(outcome, Advanced)
    state = outcome.state
    assert (state.bundle, state.sequence, state.partition, state.offset) == (model.bundle, 1, 3, 5)
    assert state.last_click_ms == 1_000
    assert recent_clicks(state) == [RecentClick(item_hash("a"), 0, 2)]
    assert state.hidden == model.run([b""], [[(0, 0, 2)]])[0]
    assert state.shown == outcome.ranked.shown == model.rank([state.hidden], [state.recent], 2)[0].shown
    assert state.flags == SHOWN_BY_NETWORK
    assert outcome.hit is None


def test_outcomes_stand_in_the_order_of_the_clicks() -> None:
    """Outcome n belongs to click n, and has its sequence; the state is the user's newest."""
    users = ["u", "v", "u", "w", "u", "v"]
    clicks = [_click(user, "a", offset) for offset, user in enumerate(users)]

    outcomes = _advance(_model(), {}, clicks)

    assert [outcome.sequence for outcome in outcomes] == [1, 1, 2, 1, 3, 2]
    assert [outcome.state.offset for outcome in outcomes] == [4, 5, 4, 3, 4, 5]


def test_clicks_of_one_user_in_a_batch_lead_to_the_same_state_as_one_by_one() -> None:
    """To the last bit, however many there are: gaps, recent clicks, hidden state and list."""
    model = _model()
    clicks = [_click("u", "abcdez"[n * n % 6], n, time_ms=n * 7_000, event_type=n % 3) for n in range(300)]

    together = _advance(model, {}, clicks)
    alone = _one_by_one(model, clicks)

    assert together[-1].state == alone[-1].state
    assert [outcome.sequence for outcome in together] == [outcome.sequence for outcome in alone]


def test_every_click_of_a_batch_is_answered_with_the_list_after_the_last_of_them() -> None:
    """The user can only ever see the newest; ranked once, it costs the same for a click and for thousands."""
    model = _model()
    ranked = _count_calls(model, "rank")

    outcomes = _advance(model, {}, [_click("u", "abcde"[n % 5], n) for n in range(50)] + [_click("v", "a", 50)])

    assert ranked == [2]  # both users at once
    assert len({bytes(outcome.ranked.items) for outcome in outcomes[:50]}) == 1
    assert outcomes[0].ranked.shown == outcomes[0].state.shown != outcomes[-1].ranked.shown


def test_more_users_than_a_group_holds_are_all_answered() -> None:
    """The bound on a group limits memory, not the batch; each user gets the answer that is theirs."""
    model = _model()
    n_users = 2 * MAX_GROUP_USERS + 3
    clicks = [_click(f"u{n}", "abcde"[n % 5], n) for n in range(n_users)]
    clicks += [_click(f"u{n}", "abcde"[n % 3], n_users + n) for n in range(n_users)]

    outcomes = _advance(model, {}, clicks)

    assert [outcome.sequence for outcome in outcomes] == [1] * n_users + [2] * n_users
    for n in (0, MAX_GROUP_USERS - 1, MAX_GROUP_USERS, n_users - 1):
        (*_, expected) = _one_by_one(model, [clicks[n], clicks[n_users + n]])
        assert outcomes[n_users + n].state == expected.state


def test_groups_may_be_computed_in_several_threads() -> None:
    """The outcomes are those of one thread, and what a thread raises is raised."""
    model, n_users = _model(), 5 * MAX_GROUP_USERS
    clicks = [_click(f"u{n}", "abcde"[n % 5], n) for n in range(n_users)]
    corrupt = {clicks[-1].user: NEW_USER._replace(bundle=model.bundle, sequence=1, hidden=b"odd")}
    with ThreadPoolExecutor(3) as pool:
        outcomes = advance(model, POPULAR_LIST, {}, clicks, LIMITS, pool.map)
        with pytest.raises(CorruptStateError):
            advance(model, POPULAR_LIST, corrupt, clicks, LIMITS, pool.map)

    assert outcomes == _advance(model, {}, clicks)


@pytest.mark.parametrize("offset", [0, 6, 7])
def test_a_click_behind_the_fence_changes_nothing_and_repeats_the_list(offset: int) -> None:
    """However often a record is read again, it is applied once."""
    model = _model()
    (first,) = _advance(model, {}, [_click("u", "a", 7, time_ms=5_000)])

    (again,) = _advance(model, _states("u", first), [_click("u", "b", offset, time_ms=99_000)])

    assert again == Skipped(1, first.state, first.ranked)


def test_a_repeated_click_in_the_same_batch_is_skipped() -> None:
    """The fence also holds inside a batch."""
    clicks = [_click("u", "a", 1), _click("u", "b", 2), _click("u", "a", 1), _click("u", "c", 3)]

    outcomes = _advance(_model(), {}, clicks)

    assert [type(outcome) for outcome in outcomes] == [Advanced, Advanced, Skipped, Advanced]
    assert [outcome.sequence for outcome in outcomes] == [1, 2, 2, 3]
    assert outcomes[3].state.sequence == 3


def test_a_click_that_is_said_to_be_applied_is_only_answered() -> None:
    """A copy of one behind another fence: offsets of its partition say nothing about it."""
    model = _model()
    (before,) = _advance(model, {}, [_click("u", "a", 4)])
    copy = _click("u", "a", 9)._replace(is_applied=True)

    (answered,) = _advance(model, _states("u", before), [copy])
    _, applied = _advance(model, _states("u", before), [copy, _click("u", "b", 10)])
    (new,) = _advance(model, {}, [copy])

    assert isinstance(answered, Skipped)
    assert answered.state == before.state
    assert (applied.state.sequence, applied.state.offset) == (2, 10)
    assert isinstance(new, Advanced)  # who has no state knows no click


def test_the_fence_counts_for_its_partition_only() -> None:
    """Offsets of two partitions cannot be compared."""
    (first,) = _advance(None, {}, [_click("u", "a", 100, partition=0)])

    (moved,) = _advance(None, {(1, b"u"): first.state}, [_click("u", "b", 3, partition=1)])

    assert isinstance(moved, Advanced)
    assert (moved.state.sequence, moved.state.partition, moved.state.offset) == (2, 1, 3)


def test_users_of_two_partitions_are_two_users() -> None:
    """A state belongs to the partition of its clicks."""
    outcomes = _advance(None, {}, [_click("u", "a", 0, partition=0), _click("u", "b", 0, partition=1)])

    assert [outcome.state.sequence for outcome in outcomes] == [1, 1]


def test_the_given_states_are_not_changed() -> None:
    """A batch that is thrown away leaves nothing behind."""
    (first,) = _advance(_model(), {}, [_click("u", "a", 0)])
    states = _states("u", first)
    before = dict(states)

    _advance(_model(), states, [_click("u", "b", 1), _click("v", "a", 2)])

    assert states == before


def test_the_gap_is_event_time_in_whole_seconds() -> None:
    """The first click has none; later ones count from the user's click before."""
    clicks = [_click("u", "a", 0, 10_000), _click("u", "b", 1, 11_999), _click("u", "c", 2, 14_000)]

    outcomes = _advance(_model(), {}, clicks)

    assert [click.gap_s for click in recent_clicks(outcomes[-1].state)] == [0, 1, 2]


def test_a_negative_gap_counts_as_none_and_the_clock_stays() -> None:
    """Clicks can arrive out of order; the next gap runs from the latest click, not from the stray one."""
    clicks = [_click("u", "a", 0, 100_000), _click("u", "b", 1, 40_000), _click("u", "c", 2, 103_000)]

    outcomes = _one_by_one(_model(), clicks)

    assert [outcome.state.last_click_ms for outcome in outcomes] == [100_000, 100_000, 103_000]
    assert [click.gap_s for click in recent_clicks(outcomes[-1].state)] == [0, 0, 3]


def test_a_gap_of_centuries_is_cut_to_what_a_state_can_hold() -> None:
    """A click of 1970 followed by one of the far future must not stop the worker."""
    clicks = [_click("u", "a", 0, 0), _click("u", "b", 1, 2**62)]

    outcomes = _advance(_model(), {}, clicks)

    assert recent_clicks(outcomes[1].state)[1].gap_s == MAX_GAP_S


def test_only_the_newest_clicks_are_kept() -> None:
    """As many as the limits say."""
    clicks = [_click("u", item, n) for n, item in enumerate("abcdeab")]

    outcomes = _advance(_model(), {}, clicks)

    kept = [click.item_hash for click in recent_clicks(outcomes[-1].state)]
    assert kept == [item_hash(item) for item in "deab"]
    assert outcomes[-1].state.sequence == 7


def test_without_a_model_everyone_gets_what_is_popular() -> None:
    """The fence, the sequence and the recent clicks are kept all the same, for the first bundle."""
    outcomes = _advance(None, {}, [_click("u", "a", 0), _click("u", "b", 1)])

    assert all(outcome.ranked is POPULAR_LIST for outcome in outcomes)
    state = outcomes[-1].state
    assert (state.bundle, state.hidden, state.flags, state.sequence) == (0, b"", 0, 2)
    assert state.shown == POPULAR_LIST.shown
    assert len(recent_clicks(state)) == 2


def test_unknown_items_are_remembered_but_do_not_move_the_network() -> None:
    """Who clicked only items that the bundle does not know gets what is popular."""
    model = _model()
    clicks = [_click("u", "new1", 0), _click("u", "a", 1), _click("u", "new2", 2)]

    outcomes = _one_by_one(model, clicks)

    assert [outcome.ranked.strategy for outcome in outcomes] == [POPULAR, RNN, RNN]
    assert outcomes[0].state.hidden == b""
    assert outcomes[0].state.bundle == model.bundle
    assert outcomes[2].state.hidden == outcomes[1].state.hidden
    assert len(recent_clicks(outcomes[2].state)) == 3


def test_a_state_of_another_bundle_is_rebuilt_from_its_recent_clicks() -> None:
    """Then the click takes its step under the new weights."""
    old, new = _model("aa", seed=1), _model("bb", seed=2)
    clicks = [_click("u", item, n, 1_000 * n) for n, item in enumerate("abc")]
    before = _advance(old, {}, clicks)[-1]

    (after,) = _advance(new, _states("u", before), [_click("u", "d", 3, 5_000)])

    (rebuilt,) = new.rebuild([recent_clicks(before.state)])
    assert after.state.bundle == new.bundle
    assert after.state.hidden == new.run([rebuilt], [[(3, 3, 0)]])[0]
    assert after.state.sequence == 4


def test_an_item_counts_as_soon_as_a_bundle_knows_it() -> None:
    """Clicks of items that were unknown come alive with the bundle that knows them."""
    old, new = _model("aa", items="a"), _model("bb", items="az")
    before = _advance(old, {}, [_click("u", "z", 0), _click("u", "q", 1)])[-1]

    (after,) = _advance(new, _states("u", before), [_click("u", "q", 2)])

    assert before.ranked is POPULAR_LIST
    assert after.ranked.strategy == RNN
    assert after.state.hidden == new.run([b""], [[(1, 0, 0)]])[0]


def test_a_repeated_click_after_a_swap_answers_under_the_new_bundle() -> None:
    """The fence keeps the sequence; the current list is the new bundle's."""
    old, new = _model("aa", seed=1), _model("bb", seed=2)
    (before,) = _advance(old, {}, [_click("u", "a", 0)])

    (again,) = _advance(new, _states("u", before), [_click("u", "a", 0)])

    assert isinstance(again, Skipped)
    assert again.state.bundle == new.bundle
    assert again.state.hidden == new.run([b""], [[(0, 0, 0)]])[0]
    assert again.state._replace(bundle=0, hidden=b"", shown=b"") == before.state._replace(
        bundle=0, hidden=b"", shown=b""
    )


def test_a_user_without_a_bundle_joins_the_first_one() -> None:
    """Clicks that were counted before there was a model are its first history."""
    model = _model()
    before = _advance(None, {}, [_click("u", "a", 0), _click("u", "b", 1)])[-1]

    (after,) = _advance(model, _states("u", before), [_click("u", "c", 2)])

    assert after.state.hidden == model.run(model.rebuild([recent_clicks(before.state)]), [[(2, 0, 0)]])[0]


def test_a_hit_is_judged_on_the_list_that_the_user_saw_before() -> None:
    """Not on the list that the click itself leads to; without a list before there is nothing to judge."""
    outcomes = _one_by_one(None, [_click("u", "p", 0), _click("u", "p", 1), _click("u", "x", 2)])

    assert [outcome.hit for outcome in outcomes if isinstance(outcome, Advanced)] == [None, True, False]
    assert not any(outcome.hit_by_network for outcome in outcomes if isinstance(outcome, Advanced))


def test_all_clicks_of_a_batch_are_judged_on_the_list_of_before_the_batch() -> None:
    """Nothing was sent to the user in between."""
    clicks = [_click("u", "p", 1), _click("u", "x", 2), _click("u", "p", 3)]
    (first,) = _advance(None, {}, [_click("u", "a", 0)])

    judged = _advance(None, _states("u", first), clicks)
    new = _advance(None, {}, clicks)

    assert [outcome.hit for outcome in judged if isinstance(outcome, Advanced)] == [True, False, True]
    assert [outcome.hit for outcome in new if isinstance(outcome, Advanced)] == [None, None, None]


def test_clicks_of_one_record_are_all_applied_and_only_once() -> None:
    """They share an offset: the fence of before the batch tells a repetition from the next click of the record."""
    model = _model()
    record = [_click("u", item, 4)._replace(place=place) for place, item in enumerate("abc")]
    before = _states("u", _advance(model, {}, [_click("u", "d", 3)])[-1])

    outcomes = _advance(model, before, record)
    again = _advance(model, _states("u", outcomes[-1]), [*record, _click("u", "e", 5)])
    twice = _advance(model, before, [*record, *record])

    assert [(type(outcome), outcome.sequence) for outcome in outcomes] == [(Advanced, 2), (Advanced, 3), (Advanced, 4)]
    assert outcomes[-1].state.offset == 4
    assert [type(outcome) for outcome in again] == [Skipped, Skipped, Skipped, Advanced]
    assert again[-1].state.sequence == 5
    assert [type(outcome) for outcome in twice] == [Advanced] * 3 + [Skipped] * 3


def test_an_older_record_in_between_does_not_let_a_record_in_twice() -> None:
    """Whatever order a chunk has."""
    record = [_click("u", item, 4)._replace(place=place) for place, item in enumerate("ab")]

    outcomes = _advance(None, {}, [*record, _click("u", "c", 3), *record])

    assert [type(outcome) for outcome in outcomes] == [Advanced, Advanced, Skipped, Skipped, Skipped]


def test_a_retry_of_a_recent_event_is_applied_once_and_the_fence_moves_on() -> None:
    """The answer is the current list; the next click counts on from there, also in one batch."""
    model = _model()
    clicks = [_event("u", "a", 0, 77), _event("u", "b", 1, 78), _event("u", "a", 2, 77), _event("u", "c", 3, 79)]

    together = _advance(model, {}, clicks)
    alone = _one_by_one(model, clicks)

    assert [type(outcome) for outcome in together] == [Advanced, Advanced, Skipped, Advanced]
    assert together[-1].state == alone[-1].state
    assert (alone[2].sequence, alone[2].state.offset, alone[2].ranked) == (2, 2, alone[1].ranked)
    assert alone[2].state == alone[1].state._replace(offset=2)
    assert [click.item_hash for click in recent_clicks(alone[-1].state)] == [item_hash(item) for item in "abc"]


def test_clicks_without_an_id_are_never_retries_and_keep_the_first_layout() -> None:
    """What a topic does not use costs it nothing."""
    outcomes = _advance(_model(), {}, [_click("u", "a", n) for n in range(3)])

    assert outcomes[-1].state.sequence == 3
    assert outcomes[-1].state.events == b""
    assert encode_state(outcomes[-1].state)[0] == LAYOUT


def test_an_event_is_forgotten_with_its_click() -> None:
    """Only as many are known as clicks are kept."""
    clicks = [_event("u", "a", n, event) for n, event in enumerate([7, 0, 0, 0, 0, 7, 7])]

    outcomes = _one_by_one(None, clicks)

    assert [type(outcome) for outcome in outcomes] == [Advanced] * 6 + [Skipped]


def test_a_hit_belongs_to_the_strategy_that_made_the_list_before() -> None:
    """Before and after a swap the two must not be mixed up."""
    model = _model()
    (popular,) = _advance(None, {}, [_click("u", "a", 0)])
    (first,) = _advance(model, _states("u", popular), [_click("u", "p", 1)])
    shown = _items(first.ranked)
    (second,) = _advance(model, _states("u", first), [_click("u", shown[0], 2)])
    (third,) = _advance(model, _states("u", second), [_click("u", "nowhere", 3)])

    assert isinstance(first, Advanced)
    assert isinstance(second, Advanced)
    assert isinstance(third, Advanced)
    assert (first.hit, first.hit_by_network) == (True, False)
    assert (second.hit, second.hit_by_network) == (True, True)
    assert (third.hit, third.hit_by_network) == (False, True)


def test_a_user_of_4_billion_clicks_is_counted_no_further() -> None:
    """A count that the state cannot hold would stop the worker at the same record for ever."""
    before = NEW_USER._replace(sequence=MAX_SEQUENCE, partition=0, offset=0)

    (outcome,) = _advance(_model(), {(0, b"u"): before}, [_click("u", "a", 1)])

    assert (outcome.state.sequence, outcome.state.offset) == (MAX_SEQUENCE, 1)
    assert decode_state(encode_state(outcome.state)) == outcome.state


def test_lists_say_why_when_they_are_asked_to_and_states_stay_as_they_are() -> None:
    """Lists of the network alone: what is popular is there for no user's clicks."""
    model, limits = _model(), LIMITS._replace(explain=True)
    clicks = [_click("u", "a", 0), _click("u", "b", 1), _click("v", "nowhere", 2)]

    explained = advance(model, POPULAR_LIST, {}, clicks, limits)

    plain = _advance(model, {}, clicks)
    assert [outcome.state for outcome in explained] == [outcome.state for outcome in plain]
    assert [_items(outcome.ranked) for outcome in explained] == [_items(outcome.ranked) for outcome in plain]
    items = [json.loads(bytes(outcome.ranked.items)) for outcome in explained]
    assert [[part["kind"] for part in item["because"]] for item in items[1]] == [["network"]] * LIMITS.list_length
    assert all("because" not in item for item in items[2])
    assert all(b"because" not in bytes(outcome.ranked.items) for outcome in plain)


def test_no_clicks_are_no_outcomes() -> None:
    """An empty batch is a batch."""
    assert _advance(_model(), {}, []) == []


def _model(bundle_id: str = "aa", items: str = "abcde", seed: int = 1) -> ServedModel:
    torch.manual_seed(seed)
    network = Network(NetworkConfig(len(items), hidden_size=4))
    with torch.no_grad():
        network.event_embedding.weight.normal_()
        network.gap_embedding.weight.normal_()
    return served_model(bundle_id, network, Vocabulary(items, np.ones(len(items))))


def _click(user: str, item: str, offset: int, time_ms: int = 0, partition: int = 0, event_type: int = 0) -> LoggedClick:
    click = Click(user, item, time_ms, event_type)
    return LoggedClick((partition, user.encode()), offset, time_ms, click, item_hash(item))


def _event(user: str, item: str, offset: int, event_hash: int) -> LoggedClick:
    logged = _click(user, item, offset)
    return logged._replace(click=logged.click._replace(event_hash=event_hash))


def _count_calls(model: ServedModel, name: str) -> list[int]:
    """Note for how many users each call of a method is."""
    calls: list[int] = []
    method = getattr(model, name)

    def noted(users: list[bytes], *arguments: object) -> object:
        calls.append(len(users))
        return method(users, *arguments)

    setattr(model, name, noted)
    return calls


def _advance(model: ServedModel | None, states: dict[UserKey, UserState], clicks: list[LoggedClick]) -> list[Outcome]:
    return advance(model, POPULAR_LIST, states, clicks, LIMITS)


def _one_by_one(model: ServedModel | None, clicks: list[LoggedClick]) -> list[Outcome]:
    states: dict[UserKey, UserState] = {}
    outcomes = []
    for click in clicks:
        (outcome,) = _advance(model, states, [click])
        states[click.user] = outcome.state
        outcomes.append(outcome)
    return outcomes


def _states(user: str, outcome: Outcome) -> dict[UserKey, UserState]:
    return {(0, user.encode()): outcome.state, (0, b"somebody else"): NEW_USER}


def _items(ranked: RankedList) -> list[str]:
    return [item["item_id"] for item in json.loads(bytes(ranked.items))]
