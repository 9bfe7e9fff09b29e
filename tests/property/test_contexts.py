"""What the mixture sees of a user is the same when it is trained and when it is served, whatever the log."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextclick.advance import Limits, LoggedClick, UserKey, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.mixture import Context
from nextclick.network_config import MAX_SESSION_CLICKS, SESSION_GAP_S, NetworkConfig
from nextclick.updates import POPULAR, ranked_list
from nextclick.user_state import UserState
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network, served_model
from training.learning.sequences import ClickColumns, group_by_user
from training.learning.validation import Contexts

KNOWN, UNKNOWN = "abcdef", "yz"
MODEL = served_model(
    "00000000000000ff",
    random_network(NetworkConfig(len(KNOWN), hidden_size=4, n_neighbours=3), 1),
    Vocabulary(KNOWN, np.ones(len(KNOWN))),
)
bounded = settings(max_examples=100, deadline=None, derandomize=True)

pauses_ms = st.sampled_from(
    [0, 1, 999, 1_000, 60_000, 1_000 * SESSION_GAP_S, 1_000 * SESSION_GAP_S + 999, 1_000 * (SESSION_GAP_S + 1), 10**13]
) | st.integers(-5_000, 5_000_000)


def logs(items: str) -> st.SearchStrategy[list[tuple[str, str, int]]]:
    """Clicks (user, item, pause in ms since the click before, of whichever user)."""
    return st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from(items), pauses_ms), max_size=60)


def served(log: list[tuple[str, str, int]], keep: int) -> list[Context]:
    """Give what the served model sees after each click."""
    states: dict[UserKey, UserState] = {}
    contexts, time_ms = [], 10**6
    for offset, (user, item, pause_ms) in enumerate(log):
        time_ms = max(0, time_ms + pause_ms)
        click = Click(user, item, time_ms, 0)
        logged = LoggedClick((0, user.encode()), offset, time_ms, click, item_hash(item))
        (outcome,) = advance(MODEL, ranked_list(POPULAR, [], []), states, [logged], Limits(keep, 1))
        states[logged.user] = outcome.state
        contexts.append(Context(*(torch.from_numpy(part) for part in MODEL.histories([outcome.state.recent])[:3])))
    return contexts


def check(log: list[tuple[str, str, int]], keep: int) -> None:
    """Compare for every click but users' first ones: what was seen before it."""
    item_ids = KNOWN + UNKNOWN
    user, item = (
        np.array(["uvw".index(click[0]) for click in log]),
        np.array([item_ids.index(click[1]) for click in log]),
    )
    time_ms = np.zeros(len(log), dtype=np.int64)
    now_ms = 10**6
    for place, (_, _, pause_ms) in enumerate(log):
        now_ms = time_ms[place] = max(0, now_ms + pause_ms)
    sequences = group_by_user(ClickColumns(user, item, time_ms, item * 0, list(item_ids)))
    sequences = sequences.renumbered(np.array([*range(len(KNOWN)), *[-1] * len(UNKNOWN)]))
    after = served(log, keep)
    rows = np.flatnonzero(np.arange(len(log)) != sequences.first_row_of_user())

    trained = Contexts(sequences).of(rows)

    for place, row in enumerate(rows):
        seen = after[sequences.age_rank[row - 1]]
        for name, found, expected in zip(Context._fields, seen, trained, strict=True):
            assert torch.equal(found[0], expected[place]), (name, int(row))
            assert found.dtype == expected.dtype


@bounded
@given(logs(KNOWN + UNKNOWN).filter(len))
def test_a_history_is_the_same_in_training_and_in_serving(log: list[tuple[str, str, int]]) -> None:
    """With unknown items between, pauses that end a session and some that just do not, and late clicks."""
    check(log, keep=255)


@bounded
@given(logs(KNOWN).filter(len))
def test_a_state_remembers_enough_for_it(log: list[tuple[str, str, int]]) -> None:
    """As many clicks as a session's length is told apart up to: also how old the oldest ones are."""
    check(log, keep=MAX_SESSION_CLICKS)
