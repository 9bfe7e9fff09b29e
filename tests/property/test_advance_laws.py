"""The laws of the pure heart, for any stream of clicks: applied once, in order, alone as in a batch."""

import json
from collections.abc import Iterable, Sequence
from functools import cache

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nextclick.advance import Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.updates import POPULAR, RankedList, Recommendation, ranked_list
from nextclick.user_state import UserState, recent_clicks, with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import probabilities, random_network, served_model

bounded = settings(max_examples=60, deadline=None, derandomize=True)

LIMITS = Limits(recent_clicks=5, list_length=3)
POPULAR_LIST = ranked_list(POPULAR, [Recommendation("p", 0.5)], [item_hash("p") & 0xFFFFFFFF])
KNOWN, UNKNOWN = "abcdef", "yz"

States = dict[UserKey, UserState]

Records = list[list[LoggedClick]]  # what stands at an offset, and is applied as a whole or not at all

# (item, event time in s, event type, hash of the event's id, of which there are few: retries are frequent)
raw_clicks = st.tuples(
    st.sampled_from(KNOWN + UNKNOWN),
    st.integers(0, 10_000_000),
    st.sampled_from([0, 1, 255]),
    st.sampled_from([0, 0, 1, 2, 2**32 - 1]),
)
raw_records = st.tuples(st.sampled_from("uvw"), st.lists(raw_clicks, min_size=1, max_size=3))
records = st.lists(raw_records, max_size=15).map(
    lambda raw: [
        [_logged(offset, place, user, *click) for place, click in enumerate(clicks)]
        for offset, (user, clicks) in enumerate(raw)
    ]
)
logs = records.map(lambda log: _clicks(log))
cells = st.sampled_from(["gru", "lstm", "rnn"])


def _packed(clicks: list[tuple[str, int, int]]) -> bytes:
    recent = b""
    for item, gap_s, event_type in clicks:
        recent = with_recent(recent, item_hash(item), gap_s, event_type, keep=255)
    return recent


recents = st.lists(
    st.tuples(st.sampled_from(KNOWN + UNKNOWN), st.integers(0, 10_000), st.sampled_from([0, 1, 255])), max_size=15
).map(_packed)


@bounded
@given(records, cells, st.data())
def test_batches_equal_single_records(log: Records, cell: str, draw: st.DataObject) -> None:
    """However the log is cut into batches, to the last bit."""
    model = _model(cell)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    batches = [_clicks(log[start:end]) for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True)]

    in_batches = _run(model, {}, batches)
    alone = _run(model, {}, log)

    assert in_batches == alone


@bounded
@given(records, cells)
def test_a_record_of_several_clicks_equals_a_record_for_each(log: Records, cell: str) -> None:
    """But for the offset, which is that of their record."""
    model = _model(cell)
    clicks = _clicks(log)
    apart = [click._replace(offset=number, place=0) for number, click in enumerate(clicks)]

    together = _run(model, {}, [clicks])
    alone = _run(model, {}, ([click] for click in apart))

    assert {user: state._replace(offset=0) for user, state in together.items()} == {
        user: state._replace(offset=0) for user, state in alone.items()
    }
    assert all(state.offset == max(c.offset for c in clicks if c.user == user) for user, state in together.items())


@bounded
@given(records, cells, st.data())
def test_a_replayed_record_changes_nothing(log: Records, cell: str, draw: st.DataObject) -> None:
    """After any number of crashes, each going back to any record, the states are those of an uninterrupted run."""
    model = _model(cell)
    batches, position = [], 0
    for _ in range(draw.draw(st.integers(0, 6))):
        end = draw.draw(st.integers(position, len(log)))
        batches.append(_clicks(log[position:end]))
        position = draw.draw(st.integers(0, end))
    batches.append(_clicks(log[position:]))

    replayed = _run(model, {}, batches)

    assert replayed == _run(model, {}, [_clicks(log)])


@bounded
@given(logs, cells)
def test_a_click_that_is_known_leaves_the_very_same_state(log: list[LoggedClick], cell: str) -> None:
    """To the last bit, and it is not counted as applied."""
    model = _model(cell)
    states = _run(model, {}, [log])

    outcomes = advance(model, POPULAR_LIST, states, log, LIMITS)

    assert not any(isinstance(outcome, Advanced) for outcome in outcomes)
    assert _after(states, log, [outcome.state for outcome in outcomes]) == states


@bounded
@given(logs, cells)
def test_other_users_clicks_do_not_matter(log: list[LoggedClick], cell: str) -> None:
    """A user's state is that of a log with only this user in it."""
    model = _model(cell)

    together = _run(model, {}, [log])

    for user in {click.user for click in log}:
        alone = _run(model, {}, [[click for click in log if click.user == user]])
        assert alone == {user: together[user]}


@bounded
@given(logs, st.data())
def test_the_order_between_users_does_not_matter(log: list[LoggedClick], draw: st.DataObject) -> None:
    """Any interleaving that keeps each user's own order leads to the same states."""
    model = _model("gru")
    by_user: dict[UserKey, list[LoggedClick]] = {}
    for click in log:
        by_user.setdefault(click.user, []).append(click)
    order = draw.draw(st.permutations([click.user for click in log]))
    remaining = {user: iter(clicks) for user, clicks in by_user.items()}
    interleaved = [next(remaining[user]) for user in order]

    assert _run(model, {}, [interleaved]) == _run(model, {}, [log])


@bounded
@given(records, cells, st.data())
def test_a_swap_keeps_everything_but_the_hidden_state(log: Records, cell: str, draw: st.DataObject) -> None:
    """Fence, sequence and recent clicks never depend on which bundle was served when."""
    cut = draw.draw(st.integers(0, len(log)))
    models = draw.draw(st.permutations([None, _model(cell), _model(cell, seed=2)]))[:2]

    before = _run(models[0], {}, [_clicks(log[:cut])])
    after = _run(models[1], before, [_clicks(log[cut:])])

    expected = _run(_model("gru"), {}, [_clicks(log)])
    assert {user: _kept(state) for user, state in after.items()} == {
        user: _kept(state) for user, state in expected.items()
    }


@bounded
@given(logs, cells)
def test_every_sequence_counts_up_by_one(log: list[LoggedClick], cell: str) -> None:
    """Each click has an outcome, in its place, and the user's sequence says how many came before; a retry adds none."""
    outcomes = advance(_model(cell), POPULAR_LIST, {}, log, LIMITS)

    seen: dict[UserKey, int] = {}
    assert len(outcomes) == len(log)
    for click, outcome in zip(log, outcomes, strict=True):
        seen[click.user] = seen.get(click.user, 0) + isinstance(outcome, Advanced)
        assert outcome.sequence == seen[click.user]
        assert isinstance(outcome, Advanced) or click.click.event_hash
    for click, outcome in zip(log, outcomes, strict=True):
        assert outcome.state.sequence == seen[click.user]
        assert outcome.state.offset == max(other.offset for other in log if other.user == click.user)


@bounded
@given(logs)
def test_an_event_is_known_as_long_as_its_click_is_remembered(log: list[LoggedClick]) -> None:
    """Neither longer nor shorter, whatever stands between; clicks without an id are never taken for known."""
    states: States = {}
    recent: dict[UserKey, list[int]] = {}
    for click in log:
        event_hash, known = click.click.event_hash, recent.setdefault(click.user, [])
        is_retry = bool(event_hash) and event_hash in known[-LIMITS.recent_clicks :]
        (outcome,) = advance(
            None, POPULAR_LIST, states, [click._replace(offset=click.offset * 9 + click.place)], LIMITS
        )
        states[click.user] = outcome.state
        known += [] if is_retry else [event_hash]

        assert isinstance(outcome, Advanced) != is_retry
        assert len(outcome.state.events) in (0, 4 * len(recent_clicks(outcome.state)))
        assert bool(outcome.state.events) == any(known[-LIMITS.recent_clicks :])


@bounded
@given(
    st.lists(st.tuples(st.lists(st.floats(-1, 1, width=16), min_size=4, max_size=4), recents), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_a_list_is_sorted_and_unique(users: list[tuple[list[float], bytes]], k: int) -> None:
    """The best of all items, each once, with probabilities that fall."""
    model = _model("gru")
    hidden = [np.array(row, np.float16).tobytes() for row, _ in users]
    recent = [clicks for _, clicks in users]

    lists = model.rank(hidden, recent, k)

    expected = probabilities(model, _network("gru"), hidden, recent)
    for row, ranked in enumerate(lists):
        ids, scores = _items(ranked)
        best = np.sort(expected[row])[::-1][:k]
        assert len(ids) == len(set(ids)) == min(k, len(KNOWN))
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 1 for score in scores)
        assert sum(scores) <= 1 + 1e-5
        found = [expected[row][model.index_of(item_hash(item_id))] for item_id in ids]
        np.testing.assert_allclose(found, best, rtol=1e-6)


@cache
def _model(cell: str, seed: int = 1) -> ServedModel:
    return served_model(f"{seed:016x}", _network(cell, seed), Vocabulary(KNOWN, np.ones(len(KNOWN))))


@cache
def _network(cell: str, seed: int = 1) -> Network:
    fields = {"n_items": len(KNOWN), "hidden_size": 4, "cell": cell, "skip": True, "n_neighbours": 3}
    return random_network(msgspec.convert(fields, NetworkConfig), seed)


def _logged(
    offset: int, place: int, user: str, item: str, time_s: int, event_type: int, event_hash: int
) -> LoggedClick:
    click = Click(user, item, 1_000 * time_s, event_type, event_hash)
    return LoggedClick((0, user.encode()), offset, click.timestamp_ms, click, item_hash(item), place=place)


def _clicks(log: Records) -> list[LoggedClick]:
    return [click for record in log for click in record]


def _run(model: ServedModel | None, states: States, batches: Iterable[Sequence[LoggedClick]]) -> States:
    for batch in batches:
        outcomes = advance(model, POPULAR_LIST, states, batch, LIMITS)
        states = _after(states, batch, [outcome.state for outcome in outcomes])
    return states


def _after(states: States, clicks: Sequence[LoggedClick], after: Sequence[UserState]) -> States:
    return states | {click.user: state for click, state in zip(clicks, after, strict=True)}


def _kept(state: UserState) -> tuple[object, ...]:
    return state.sequence, state.partition, state.offset, state.last_click_ms, state.recent, state.events


def _items(ranked: RankedList) -> tuple[list[str], list[float]]:
    items = json.loads(bytes(ranked.items))
    return [item["item_id"] for item in items], [item["score"] for item in items]
