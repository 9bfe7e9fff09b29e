"""Where a chunk is computed: on the event loop only what is known to be quick. And what is counted of it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from nextclick.advance import MAX_GROUP_USERS, Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.catalogue import ShopItem
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.network_config import NetworkConfig
from nextclick.popularity import Popularity
from nextclick.schema.usage import FEW_CLICKS, Usage
from nextclick.updates import POPULAR, ServedBy, decode_items, ranked_list
from nextclick.user_state import NEW_USER, UserState
from nextclick.vocabulary import Vocabulary
from stream.agent import ClickAgent, Computed, ReadChunk, Server
from stream.live_items import LiveCounting
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignment, Partition, Phase
from stream.protocol.chunk_rules import Pace
from stream.protocol.publisher import RunResults
from stream.shop_view import ShopView
from tests.networks import random_network, served_model
from tools.items.follower import ItemRecord

LIMITS = Limits(recent_clicks=5, list_length=3)
ITEMS = Vocabulary([str(number) for number in range(20)], np.ones(20))
MODEL = served_model("1".zfill(16), random_network(NetworkConfig(n_items=20, hidden_size=4), seed=1), ITEMS)
MODEL.warm_up()
MANY_CHUNKS = 40
NOTHING = ranked_list(POPULAR, [], [])


class _Watched(ThreadPoolExecutor):
    """An executor that counts what it is given."""

    n_given = 0

    def submit(self, *args: Any, **options: Any) -> Any:
        self.n_given += 1
        return super().submit(*args, **options)


def is_on_the_loop(n_users: int, states: dict[UserKey, UserState] | None = None) -> bool:
    """Compute chunks of so many users; tells whether one was computed on the event loop.

    Many, because the first ones may be slow on a busy machine, and are believed.
    """
    agent = object.__new__(ClickAgent)
    agent._groups, agent._limits = ThreadPoolExecutor(2), LIMITS
    agent._live = LiveCounting(0, WorkerMetrics(CollectorRegistry()), None)
    clicks = [
        LoggedClick((0, b"u%d" % user), user, 1_000, Click("u", "1", 1_000, 0, 0), item_hash("1"))
        for user in range(n_users)
    ]
    pace = Pace()
    agent._inference = watched = _Watched(1)
    for n_before in range(MANY_CHUNKS):
        asyncio.run(agent._advance(pace, MODEL, NOTHING, ReadChunk(0, clicks, states or {})))
        if watched.n_given == n_before:
            return True
    return False


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
        agent._measure(each, sum(isinstance(outcome, Advanced) for outcome in each), 0.0)

    counted = {
        outcome: registry.get_sample_value("nextclick_clicks_total", {"outcome": outcome})
        for outcome in ("applied", "repeated", "skipped")
    }
    assert counted == {"applied": 1, "repeated": FEW_CLICKS - 1, "skipped": FEW_CLICKS}
    assert [line.split(" clicks")[0] for line in agent._usage.lines(0.0)] == ["999 of 1,000"]


def test_a_list_with_an_item_that_was_withdrawn_while_it_was_made_is_made_again() -> None:
    """Of those users alone; their states remember the new list. Popular lists, too."""
    metrics = WorkerMetrics(CollectorRegistry())
    shop, agent = ShopView(metrics), object.__new__(ClickAgent)
    agent._groups, agent._limits, agent._shop, agent._inference = None, LIMITS, shop, ThreadPoolExecutor(1)
    agent._live, agent._popularity = LiveCounting(0, metrics, shop), Popularity(3_600.0, stock=shop.stock)
    for number in range(6):
        agent._popularity.add("somebody", f"new{number}", 1_000)
    assignment = Assignment(10.0, 0.0)
    assignment.enter(Phase.SERVING, 0.0)
    assignment.partitions = {0: Partition(0)}
    model = served_model("2".zfill(16), random_network(NetworkConfig(n_items=20, hidden_size=4), seed=1), ITEMS)
    shop.stock.prepare(model)
    shop.heard(time.monotonic())
    users = [(b"u%d" % number, "1" if number < 9 else "unknown") for number in range(10)]
    clicks = [
        LoggedClick((0, key), offset, 1_000, Click(key.decode(), item, 1_000 * offset, offset % 3, 0), item_hash(item))
        for offset, (key, item) in enumerate(users)
    ]
    read = ReadChunk(0, clicks, results={0: RunResults(0, 0, 10)})
    popular = agent._popularity.ranked(3)
    shop.take_lost()
    outcomes = asyncio.run(agent._advance(Pace(), model, popular, read))
    server = Server(model, ServedBy(model.bundle_id))
    before = [[item.item_id for item in decode_items(outcome.ranked.items)] for outcome in outcomes]
    gone = {before[0][0], "new0"}
    shop.take([ItemRecord(item_id, ShopItem(available=False), b"") for item_id in gone], 1)
    settled = asyncio.run(agent._settle(assignment, read, Computed(outcomes, [server] * len(outcomes))))
    after = [[item.item_id for item in decode_items(outcome.ranked.items)] for outcome in settled.outcomes]

    assert before[9] == ["new0", "new1", "new2"]
    for was, now, old, new in zip(before, after, outcomes, settled.outcomes, strict=True):
        assert len(now) == 3
        assert not gone & set(now)
        assert (now == was) == (not gone & set(was))
        assert new.state._replace(shown=b"") == old.state._replace(shown=b"")
        assert new.state.shown == new.ranked.shown
    assert read.results[0].states.keys() == {key for key, _ in users}
    assert abs(read.produced_ms / 1000 - time.time()) < 60


def test_a_chunk_waits_with_its_time_until_it_is_known_what_was_withdrawn() -> None:
    """Its lists count as made when they are handed on, and not when they were begun."""
    agent, shop = object.__new__(ClickAgent), ShopView(WorkerMetrics(CollectorRegistry()))
    agent._shop, read = shop, ReadChunk(0)
    assignment = Assignment(10.0, 0.0)
    assignment.enter(Phase.SERVING, 0.0)

    async def settle() -> float:
        settling = asyncio.create_task(agent._settle(assignment, read, Computed((), ())))
        await asyncio.sleep(0.3)
        assert not settling.done()
        heard_s = time.time()
        shop.heard(time.monotonic())
        await asyncio.wait_for(settling, 5.0)
        return heard_s

    heard_ms = int(asyncio.run(settle()) * 1000)

    assert read.produced_ms >= heard_ms
