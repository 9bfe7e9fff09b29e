"""Where a chunk is computed: on the event loop only what is known to be quick. And what is counted of it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from nextclick.advance import MAX_GROUP_USERS, Limits, LoggedClick, UserKey, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.network_config import NetworkConfig
from nextclick.schema.usage import FEW_CLICKS, Usage
from nextclick.updates import POPULAR, ranked_list
from nextclick.user_state import NEW_USER, UserState
from nextclick.vocabulary import Vocabulary
from stream.agent import ClickAgent, ReadChunk
from stream.metrics import WorkerMetrics
from stream.protocol.chunk_rules import Pace
from tests.networks import random_network, served_model

LIMITS = Limits(recent_clicks=5, list_length=3)
ITEMS = Vocabulary([str(number) for number in range(20)], np.ones(20))
MODEL = served_model("1".zfill(16), random_network(NetworkConfig(n_items=20, hidden_size=4), seed=1), ITEMS)
MODEL.warm_up()
NOTHING = ranked_list(POPULAR, [], [])


class _Watched(ThreadPoolExecutor):
    """An executor that counts what it is given."""

    n_given = 0

    def submit(self, *args: Any, **options: Any) -> Any:
        self.n_given += 1
        return super().submit(*args, **options)


def is_on_the_loop(n_users: int, states: dict[UserKey, UserState] | None = None) -> bool:
    """Compute a few chunks of so many users; tells whether the last one was computed on the event loop."""
    agent = object.__new__(ClickAgent)
    agent._groups, agent._limits = ThreadPoolExecutor(2), LIMITS
    clicks = [
        LoggedClick((0, b"u%d" % user), user, 1_000, Click("u", "1", 1_000, 0, 0), item_hash("1"))
        for user in range(n_users)
    ]
    pace = Pace()
    for _ in range(4):
        agent._inference = watched = _Watched(1)
        asyncio.run(agent._advance(pace, MODEL, NOTHING, ReadChunk(0, clicks, states or {})))
    return watched.n_given == 0


def test_a_few_users_are_computed_on_the_event_loop() -> None:
    assert is_on_the_loop(3)


@pytest.mark.parametrize("n_users", [MAX_GROUP_USERS + 1, 2 * MAX_GROUP_USERS])
def test_users_of_several_groups_never_are(n_users: int) -> None:
    """The thread that waits for the others has used no time of its own."""
    assert not is_on_the_loop(n_users)


def test_states_of_another_bundle_are_computed_anew_in_a_thread() -> None:
    states = {(0, b"u1"): NEW_USER._replace(bundle=7, sequence=1)}

    assert not is_on_the_loop(3, states)


def test_repeats_of_an_event_are_counted_and_said_and_what_is_read_again_is_not() -> None:
    """After a crash many are read again, and nothing is wrong with their ids."""
    registry, agent = CollectorRegistry(), object.__new__(ClickAgent)
    agent._metrics, agent._usage = WorkerMetrics(registry), Usage("clicks", 1)
    clicks = [
        LoggedClick((0, b"u"), offset, 1_000, Click("u", "1", 1_000, 0, event_hash=7), item_hash("1"))
        for offset in range(FEW_CLICKS)
    ]
    outcomes = advance(None, NOTHING, {}, clicks, LIMITS)
    read_again = advance(None, NOTHING, {(0, b"u"): outcomes[-1].state}, clicks, LIMITS)
    for each in (outcomes, read_again):
        agent._measure(ReadChunk(0, clicks), each, NOTHING, 0.0)

    counted = {
        outcome: registry.get_sample_value("nextclick_clicks_total", {"outcome": outcome})
        for outcome in ("applied", "repeated", "skipped")
    }
    assert counted == {"applied": 1, "repeated": FEW_CLICKS - 1, "skipped": FEW_CLICKS}
    assert [line.split(" clicks")[0] for line in agent._usage.lines(0.0)] == ["999 of 1,000"]
