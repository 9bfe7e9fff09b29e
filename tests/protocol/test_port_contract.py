"""What every `stream.protocol.port.Port` promises, on Kafka in memory and on an Apache Kafka: the same tests on both.

The test takes the steps that a Membership takes. Partition 0 is looked at; the worker has all of them.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from demo.local_kafka import LocalKafka
from nextclick.errors import PermanentError
from nextclick.user_state import NEW_USER, encode_state
from stream.protocol.assignment import Assignment
from stream.protocol.port import BrokerAway, Delivery, Dropped, Place, Record, Run, StalledChangelog
from tests.protocol.worlds import DEADLINE_S, HandHeldLease, KafkaWorld, MemoryWorld, World, settings_for

SESSION_S = 20.0  # a machine that is busy with other tests does not lose its partitions
BOUNDED_S = 10.0  # what is bounded in time, with time to spare
A_WHILE_S = 0.5  # for what must not happen


@pytest.fixture(scope="module")
def own_broker() -> Iterator[LocalKafka]:
    """A broker that may be paused."""
    with LocalKafka() as kafka:
        yield kafka


@pytest.fixture(params=["in memory", "Apache Kafka"])
def make_world(request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> Callable[..., World]:
    """Gives the place in which a port is tested; with settings of its own and a broker to be paused, if wanted."""

    def make(*, may_be_paused: bool = False, **changes: Any) -> World:
        if request.param == "in memory":
            settings = settings_for("memory", "nowhere:9092", tmp_path, SESSION_S)
            return MemoryWorld(dataclasses.replace(settings, **changes))
        kafka = request.getfixturevalue("own_broker") if may_be_paused else None
        broker = kafka.bootstrap if kafka is not None else request.getfixturevalue("broker")
        settings = settings_for(topic_prefix, broker, tmp_path, SESSION_S)
        return KafkaWorld(dataclasses.replace(settings, **changes), kafka)

    return make


def contract(**options: Any) -> Callable[[Callable[[Any, World], Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Make a test of a scenario, on both implementations; the options are those of `make_world`."""

    def decorate(scenario: Callable[[Any, World], Coroutine[Any, Any, None]]) -> Callable[..., None]:
        def test(self: Any, make_world: Callable[..., World]) -> None:
            world = make_world(**options)
            world.run(scenario(self, world))

        test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
        return pytest.mark.xdist_group("own_broker")(test) if "may_be_paused" in options else test

    return decorate


def records(*texts: str) -> list[Record]:
    """Give a record for each text, with that as key and value."""
    return [(text.encode(), text.encode(), []) for text in texts]


def state(fence: int) -> bytes:
    """Give the bytes of a user's state in partition 0 that knows the click at an offset."""
    return encode_state(NEW_USER._replace(sequence=1, partition=0, offset=fence))


def written(key: str, fence: int | None) -> Record:
    """Give a record of the changelog: a state, or its removal."""
    return key.encode(), state(fence) if fence is not None else None, []


async def read_up_to(world: World, assignment: Assignment, end: int) -> list[Run]:
    """Fetch until the runs of partition 0 reach an offset."""
    runs: list[Run] = []

    async def reached() -> bool:
        fetched = await world.port.fetch(assignment)
        runs.extend([fetched[0]] if 0 in fetched else [])
        return bool(runs) and runs[-1].end >= end

    await world.until(reached, f"fetched up to {end}")
    return runs


def offsets(runs: Sequence[Run]) -> list[int]:
    """Give the offsets of all records."""
    return [record.offset for run in runs for record in run.records]


async def outcomes(deliveries: Sequence[Delivery]) -> list[Any]:
    """Wait for deliveries; gives what became of each."""
    return await asyncio.wait_for(asyncio.gather(*deliveries, return_exceptions=True), DEADLINE_S)


def progress_of_nothing(left: int) -> None:
    """Whatever is told."""


class TestPortContract:
    """The rules of a port."""

    # Clicks.

    @contract()
    async def test_nothing_is_fetched_before_a_seek(self, world: World) -> None:
        """Wherever the client of an earlier assignment, or the committed offset, stands."""
        await world.produce(world.settings.clicks_topic, 0, records("a", "b"))
        assignment = await world.assignment()
        await world.port.resume(assignment)
        before = await world.port.fetch(assignment)
        await world.port.seek(assignment, {0: 0, 1: 0})
        runs = await read_up_to(world, assignment, 2)

        assert before == {}
        assert offsets(runs) == [0, 1]

    @contract(max_chunk_records=10)
    async def test_a_backlog_in_one_partition_does_not_hold_up_the_others(self, world: World) -> None:
        """Both have one, and both move on."""
        backlog = records(*map(str, range(300)))
        for partition in (0, 1):
            await world.produce(world.settings.clicks_topic, partition, backlog)
        assignment = await world.serving({0: 0, 1: 0})
        ends = {0: 0, 1: 0}

        async def both_have_begun() -> bool:
            fetched = await world.port.fetch(assignment)
            ends.update({partition: run.end for partition, run in fetched.items()})
            return min(ends.values()) > 0

        await world.until(both_have_begun, "both partitions are read")

        assert max(ends.values()) < 200

    @contract(max_chunk_records=2_000)
    async def test_large_records_come_in_more_fetches(self, world: World) -> None:
        """A record can hold hundreds of clicks: 3 MB of them are not one chunk."""
        large = [(b"u", bytes(15_000), []) for _ in range(200)]
        await world.produce(world.settings.clicks_topic, 0, large)
        assignment = await world.serving({0: 0, 1: 0})
        runs = await read_up_to(world, assignment, 200)

        assert offsets(runs) == list(range(200))
        assert max(run.end - run.first for run in runs) <= 100

    @contract()
    async def test_nothing_is_fetched_for_an_assignment_that_has_ended(self, world: World) -> None:
        """Also while the next one reads."""
        first = await world.serving({0: 0, 1: 0})
        await world.rebalance()
        second = await world.serving({0: 0, 1: 0})
        await world.produce(world.settings.clicks_topic, 0, records("a"))
        ended = await world.port.fetch(first)
        runs = await read_up_to(world, second, 1)

        assert ended == {}
        assert offsets(runs) == [0]

    @contract()
    async def test_a_fetch_that_waits_gives_nothing_once_its_assignment_has_ended(self, world: World) -> None:
        """Clicks that come then are left to the next assignment."""
        first = await world.serving({0: 0, 1: 0})
        waiting = asyncio.ensure_future(world.port.fetch(first))
        await world.rebalance()
        second = await world.serving({0: 0, 1: 0})
        await world.produce(world.settings.clicks_topic, 0, records("a"))
        runs = await read_up_to(world, second, 1)

        assert await waiting == {}
        assert offsets(runs) == [0]

    @contract()
    async def test_a_fetch_begins_where_was_sought_and_the_next_where_it_ended(self, world: World) -> None:
        """Every run joins on, in chunks of bounded size, with all records between its first offset and its end."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcdefghij"))
        assignment = await world.serving({0: 3, 1: 0})
        runs = await read_up_to(world, assignment, 10)
        await world.produce(world.settings.clicks_topic, 0, records("k"))
        runs += await read_up_to(world, assignment, 11)

        assert runs[0].first == 3
        assert [run.first for run in runs[1:]] == [run.end for run in runs[:-1]]
        assert offsets(runs) == list(range(3, 11))
        assert all(run.first <= record.offset < run.end for run in runs for record in run.records)
        assert all(len(run.records) <= world.settings.max_chunk_records for run in runs)

    @contract()
    async def test_a_fetch_gives_the_records_as_they_were_written(self, world: World) -> None:
        """Topic, partition, offset, key, value, and a time; one that has no key or no value too."""
        await world.produce(world.settings.clicks_topic, 0, [(b"k", None, []), (None, b"v", [])])
        assignment = await world.serving({0: 0, 1: 0})
        first, second = [record for run in await read_up_to(world, assignment, 2) for record in run.records]

        assert (first.topic, first.partition, first.offset) == (world.settings.clicks_topic, 0, 0)
        assert (first.key, first.value, second.key, second.value) == (b"k", None, None, b"v")
        assert 0 <= first.timestamp <= second.timestamp

    @contract()
    async def test_markers_and_aborted_transactions_are_passed_over(self, world: World) -> None:
        """A run's end covers their offsets, also when nothing comes after them."""
        clicks = world.settings.clicks_topic
        await world.produce(clicks, 0, records("a"), end="commit")  # 0, and a marker
        await world.produce(clicks, 0, records("x", "y"), end="abort")  # 2, 3, and a marker
        await world.produce(clicks, 0, records("b"))  # 5
        assignment = await world.serving({0: 0, 1: 0})
        runs = await read_up_to(world, assignment, 6)
        await world.produce(clicks, 0, records("z"), end="abort")  # 6, and a marker
        only_aborted = await read_up_to(world, assignment, 8)

        assert [record.key for run in runs for record in run.records] == [b"a", b"b"]
        assert offsets(runs) == [0, 5]
        assert offsets(only_aborted) == []
        assert (only_aborted[0].first, only_aborted[-1].end) == (6, 8)

    @contract()
    async def test_an_unfinished_transaction_holds_back_what_comes_after_it(self, world: World) -> None:
        """For a fetch, for `places` and for `ends`: nobody waits for clicks that nobody can read."""
        clicks = world.settings.clicks_topic
        await world.produce(clicks, 0, records("a"))
        commit = await world.produce_open(clicks, 0, records("b"))
        await world.produce(clicks, 0, records("c"))
        assignment = await world.serving({0: 0, 1: 0})
        before = await read_up_to(world, assignment, 1)
        place, ends = (await world.port.places(assignment, [0, 1]))[0], await world.port.ends(assignment)
        await commit()
        after = await read_up_to(world, assignment, 4)

        assert (offsets(before), place.end, ends[0]) == ([0], 1, 1)
        assert offsets(after) == [1, 2]

    @contract()
    async def test_what_retention_has_removed_shows_as_a_run_that_begins_later(self, world: World) -> None:
        """The client is sent on to the oldest record that is there."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcde"))
        assignment = await world.assignment()
        await world.delete_records(0, 3)
        await world.port.seek(assignment, {0: 1, 1: 0})
        await world.port.resume(assignment)
        runs = await read_up_to(world, assignment, 5)

        assert runs[0].first == 3
        assert offsets(runs) == [3, 4]
        assert (await world.port.places(assignment, [0, 1]))[0].first == 3

    @contract()
    async def test_a_partition_that_retention_has_emptied_shows_as_a_run_that_begins_later(self, world: World) -> None:
        """Also when there is no record to give."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abc"))
        assignment = await world.assignment()
        await world.delete_records(0, 3)
        await world.port.seek(assignment, {0: 1, 1: 0})
        await world.port.resume(assignment)
        runs = await read_up_to(world, assignment, 3)

        assert [(run.first, list(run.records), run.end) for run in runs] == [(3, [], 3)]

    @contract()
    async def test_a_log_that_is_shorter_than_it_was_shows_as_a_run_that_begins_earlier(self, world: World) -> None:
        """The broker has lost clicks: the reader must see it."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abc"))
        assignment = await world.serving({0: 7, 1: 0})
        runs = await read_up_to(world, assignment, 3)

        assert runs[0].first == 0
        assert offsets(runs) == [0, 1, 2]

    @contract()
    async def test_a_seek_for_an_assignment_that_has_ended_changes_nothing(self, world: World) -> None:
        """It comes too late: the present one reads on where it was."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abc"))
        first = await world.assignment()
        await world.rebalance()
        second = await world.assignment()
        await world.port.seek(second, {0: 2, 1: 0})
        await world.port.seek(first, {0: 0, 1: 0})
        await world.port.resume(second)

        assert offsets(await read_up_to(world, second, 3)) == [2]

    # Committed offsets.

    @contract()
    async def test_places_tell_what_is_committed_and_what_is_there(self, world: World) -> None:
        """Nothing is committed before the first commit, which shows at once; each partition by itself."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abc"))
        assignment = await world.assignment()
        before = await world.port.places(assignment, [0, 1])
        taken = await world.port.commit(assignment, {0: 2})
        after = await world.port.places(assignment, [0, 1])

        assert before == {0: Place(None, 0, 3), 1: Place(None, 0, 0)}
        assert taken is True
        assert after == {0: Place(2, 0, 3), 1: Place(None, 0, 0)}

    @contract()
    async def test_nothing_is_committed_for_an_assignment_that_has_ended(self, world: World) -> None:
        """Whoever has the partitions now may be further, or may have clicks to read again."""
        first = await world.assignment()
        await world.rebalance()
        second = await world.assignment()
        taken = await world.port.commit(first, {0: 2})

        assert taken is False
        assert await world.port.places(first, [0, 1]) == {}
        assert (await world.port.places(second, [0, 1]))[0].committed is None

    @contract()
    async def test_nothing_is_committed_for_a_member_that_was_evicted(self, world: World) -> None:
        """Its partitions may be another's already; before it hears of that, and between that and their return."""
        first = await world.assignment()
        world.listener.may_give_back.clear()
        world.listener.asked_to_give_back.clear()
        await world.evict()
        unaware = await world.port.commit(first, {0: 2})
        await world.listener.asked_to_give_back.wait()
        aware = await world.port.commit(first, {0: 2})
        world.listener.may_give_back.set()
        second = await world.assignment()

        assert (unaware, aware) == (False, False)
        assert (await world.port.places(second, [0, 1]))[0].committed is None

    @contract(session_timeout_s=6.0)
    async def test_a_worker_that_fetches_nothing_for_hours_remains_a_member(self, world: World) -> None:
        """While it restores, or while a broker is away that its results wait for."""
        assignment = await world.assignment()
        await world.pass_without_a_fetch(hours=10)

        assert world.assignments.current is assignment
        assert await world.port.commit(assignment, {0: 0}) is True

    # Results.

    @contract()
    async def test_what_is_sent_arrives_in_order_with_the_offsets_that_are_told(self, world: World) -> None:
        """Per topic and partition: batch by batch, one after the other, without a gap."""
        settings, port = world.settings, world.port
        assignment = await world.assignment()
        topics = (settings.changelog_topic, settings.recommendations_topic)
        deliveries: dict[str, list[Delivery]] = {topic: [] for topic in topics}
        for number in range(5):
            for topic in topics:
                texts = [f"{number}-{index}" for index in range(3)]
                deliveries[topic] += await port.send(assignment, topic, 0, records(*texts))
        told = {topic: await outcomes(sent) for topic, sent in deliveries.items()}

        for topic in topics:
            assert [offset for batch in told[topic] for offset in batch] == list(range(15))
            expected = [f"{number}-{index}".encode() for number in range(5) for index in range(3)]
            assert [record.key for record in await world.read(topic)] == expected
        assert await world.read(settings.recommendations_topic, 1) == []

    @contract()
    async def test_many_records_are_sent_in_several_batches(self, world: World) -> None:
        """Each with a delivery of its own: together they are all records, in order."""
        topic = world.settings.recommendations_topic
        assignment = await world.assignment()
        many: list[Record] = [(str(number).encode(), bytes(100_000), []) for number in range(25)]
        told = await outcomes(await world.port.send(assignment, topic, 0, many))

        assert len(told) > 1
        assert [offset for batch in told for offset in batch] == list(range(25))
        assert [record.key for record in await world.read(topic)] == [key for key, _, _ in many]

    @contract()
    async def test_nothing_is_sent_for_an_assignment_that_has_ended(self, world: World) -> None:
        """It is dropped at once."""
        topic = world.settings.recommendations_topic
        first = await world.assignment()
        await world.rebalance()
        second = await world.assignment()
        with pytest.raises(Dropped):
            await world.port.send(first, topic, 0, records("late"))
        await outcomes(await world.port.send(second, topic, 0, records("new")))

        assert [record.key for record in await world.read(topic)] == [b"new"]

    @contract()
    async def test_nothing_leaves_without_the_lease(self, world: World) -> None:
        """What was handed over leaves when it is held again, in order."""
        topic = world.settings.recommendations_topic
        assignment = await world.assignment()
        assignment.lease = lease = HandHeldLease(is_held=False)
        deliveries = list(await world.port.send(assignment, topic, 0, records("a", "b")))
        deliveries += await world.port.send(assignment, topic, 1, records("c"))
        await world.port.sleep(A_WHILE_S)
        without = await world.read(topic), await world.read(topic, 1), [sent.done() for sent in deliveries]
        lease.held = True
        told = await outcomes(deliveries)

        assert without == ([], [], [False, False])
        assert told == [range(2), range(1)]
        assert [record.key for record in await world.read(topic)] == [b"a", b"b"]

    @contract()
    async def test_what_has_not_left_when_its_assignment_ends_never_does(self, world: World) -> None:
        """Its deliveries fail, whoever comes too late is told, and the next one sends as ever."""
        topic, port = world.settings.recommendations_topic, world.port
        first = await world.assignment()
        first.lease = HandHeldLease(is_held=False)
        deliveries = [delivery for key in "ab" for delivery in await port.send(first, topic, 0, records(key))]
        await port.sleep(A_WHILE_S)
        await world.rebalance()
        second = await world.assignment()
        told = await outcomes(deliveries)
        with pytest.raises(Dropped):
            await port.send(first, topic, 0, records("late"))
        await outcomes(await port.send(second, topic, 0, records("c")))

        assert [type(error) for error in told] == [Dropped, Dropped]
        assert [record.key for record in await world.read(topic)] == [b"c"]

    # States.

    @contract()
    async def test_the_state_with_the_highest_fence_is_restored(self, world: World) -> None:
        """Whatever its place; keys that do not end with it are named, and removals remove."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcdefghij"))
        await world.leave_behind([written("late", 9), written("grown", 1), written("gone", 2)])
        await world.leave_behind([written("late", 4), written("grown", 5), written("gone", None)])
        await world.leave_behind([written("mended", 7), written("mended", 3), written("mended", 8)])
        restored = await world.port.restore([0, 1], progress_of_nothing)
        keys = [b"late", b"grown", b"gone", b"mended"]

        assert world.store.get_many(0, keys) == [state(9), state(5), None, state(8)]
        assert world.store.highest_fence(0) == 9
        assert {number: (done.changelog_end, set(done.outdated)) for number, done in restored.items()} == {
            0: (9, {b"late"}),
            1: (0, set()),
        }

    @contract()
    async def test_what_is_outdated_is_found_again_until_it_is_written_again(self, world: World) -> None:
        """A worker that dies before it has written it leaves it to the next one."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcde"))
        await world.leave_behind([written("late", 4), written("late", 2), written("other", 3)])
        first = await world.port.restore([0], progress_of_nothing)
        again = await world.port.restore([0], progress_of_nothing)
        await world.leave_behind([written("late", 4)])
        mended = await world.port.restore([0], progress_of_nothing)

        assert [set(restored[0].outdated) for restored in (first, again, mended)] == [{b"late"}, {b"late"}, set()]

    @contract()
    async def test_markers_in_the_changelog_are_passed_over(self, world: World) -> None:
        """A recovery ends behind them, and the next one begins there."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abc"))
        changelog = world.settings.changelog_topic
        await world.produce(changelog, 0, [written("u", 1)], end="commit")
        await world.produce(changelog, 0, [written("u", 2)], end="abort")
        restored = await world.port.restore([0], progress_of_nothing)

        assert restored[0].changelog_end == 4
        assert world.store.get_many(0, [b"u"]) == [state(1)]

    @contract()
    async def test_a_recovery_tells_its_progress(self, world: World) -> None:
        """How many records are left, down to none; and nothing is read twice."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcdefgh"))
        await world.leave_behind([written(f"u{fence}", fence) for fence in range(8)])
        told: list[int] = []
        await world.port.restore([0, 1], told.append)
        told_again: list[int] = []
        await world.port.restore([0, 1], told_again.append)

        assert told[0] == 8
        assert told == sorted(told, reverse=True)
        assert told[-1] == 0
        assert set(told_again) <= {0}

    @contract()
    async def test_a_recovery_of_nothing_ends_at_once(self, world: World) -> None:
        """More workers than partitions: some have none."""
        assert await asyncio.wait_for(world.port.restore([], progress_of_nothing), DEADLINE_S) == {}

    @contract()
    async def test_a_recovery_that_is_cancelled_has_ended_when_reading_is_stopped(self, world: World) -> None:
        """Nothing is written to the store afterwards: it may be closed."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcdefghij"))
        await world.leave_behind([written(f"u{fence}", fence) for fence in range(10)])
        keys, loop = [f"u{fence}".encode() for fence in range(10)], asyncio.get_running_loop()

        def cancel(left: int) -> None:
            loop.call_soon_threadsafe(restoring.cancel)

        restoring = asyncio.ensure_future(world.port.restore([0], cancel))
        await asyncio.wait([restoring])
        await world.port.stop_reading()
        stopped = world.store.get_many(0, keys)
        await world.port.sleep(A_WHILE_S)

        assert restoring.cancelled()
        assert world.store.get_many(0, keys) == stopped

    @contract()
    async def test_a_recovery_goes_on_where_a_cancelled_one_was(self, world: World) -> None:
        """The next assignment begins while the last one's recovery is hardly over."""
        await world.produce(world.settings.clicks_topic, 0, records(*"abcdefghij"))
        await world.leave_behind([written(f"u{fence}", fence) for fence in range(10)])
        cancelled = asyncio.ensure_future(world.port.restore([0], progress_of_nothing))
        await world.port.sleep(0.0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await world.port.stop_reading()
        restored = await world.port.restore([0], progress_of_nothing)

        assert restored[0].changelog_end == 10
        assert world.store.get_many(0, [b"u9"]) == [state(9)]

    @contract()
    async def test_a_follower_keeps_states_up_to_date_until_reading_is_stopped(self, world: World) -> None:
        """Of partitions whose clicks go on elsewhere: states may know clicks that came since."""
        failures: list[Exception] = []

        async def known() -> bool:
            return world.store.get_many(0, [b"u"]) == [state(5)]

        await world.leave_behind([written("u", 1)])
        world.port.follow([0], failures.append)
        await world.leave_behind([written("u", 5)])
        await world.until(known, "the follower has the newest state")
        await world.port.stop_reading()
        await world.leave_behind([written("u", 9)])
        await world.port.sleep(A_WHILE_S)

        assert world.store.get_many(0, [b"u"]) == [state(5)]
        assert failures == []

    @contract()
    async def test_a_follower_that_fails_tells_it(self, world: World) -> None:
        """A standby that is silently out of date would be a slow takeover, or a wrong one."""
        failures: list[Exception] = []

        async def told() -> bool:
            return failures != []

        await world.leave_behind([(b"u", b"no state", [])])
        world.port.follow([0], failures.append)
        await world.until(told, "the failure is told")
        await world.port.stop_reading()

        assert "no state" in repr(failures[0]) or "cut short" in str(failures[0])

    @contract()
    async def test_a_store_that_is_ahead_of_its_changelog_is_refused(self, world: World) -> None:
        """The topics were created anew: it is a copy of something else."""
        world.store.put_many(0, {b"u": state(1)}, 7, 1)
        with pytest.raises(PermanentError, match="had offset 7"):
            await world.port.restore([0], progress_of_nothing)

    @contract()
    async def test_states_that_know_clicks_that_are_not_there_are_refused(self, world: World) -> None:
        """New clicks at these offsets would be taken for known."""
        await world.produce(world.settings.clicks_topic, 0, records("a"))
        await world.leave_behind([written("u", 7)])
        with pytest.raises(PermanentError, match="know the click at offset 7"):
            await world.port.restore([0], progress_of_nothing)

    @contract(stall_s=1.0)
    async def test_a_changelog_whose_end_is_not_reached_is_told(self, world: World) -> None:
        """A transaction that was never finished: the broker answers, and nothing comes."""
        commit = await world.produce_open(world.settings.changelog_topic, 0, [written("u", 1)])
        with pytest.raises(StalledChangelog) as stalled:
            await asyncio.wait_for(world.port.restore([0], progress_of_nothing), DEADLINE_S)
        await commit()

        assert stalled.value.partition == 0

    # The broker.

    @contract()
    async def test_ends_follow_what_is_produced(self, world: World) -> None:
        """Of all active partitions, at once."""
        assignment = await world.assignment()
        before = await world.port.ends(assignment)
        await world.produce(world.settings.clicks_topic, 1, records("a", "b"))

        assert before == {0: 0, 1: 0}
        assert await world.port.ends(assignment) == {0: 0, 1: 2}

    @contract()
    async def test_partitions_that_are_added_are_counted_at_once(self, world: World) -> None:
        """However old the client's own picture of the topic is allowed to be."""
        before = await world.port.identity()
        await world.grow(5)
        after = await world.port.identity()

        assert (before.partitions, after.partitions) == (2, 5)
        assert before.is_same_topic(after)

    @contract()
    async def test_an_empty_assignment_has_no_ends(self, world: World) -> None:
        """More workers than partitions: there is nothing to ask for."""
        assert await world.port.ends(Assignment(SESSION_S, world.port.now_s())) == {}

    @pytest.mark.release
    @contract(may_be_paused=True)
    async def test_a_broker_that_does_not_answer_is_told_in_bounded_time(self, world: World) -> None:
        """By what a guard asks: it must not hang with what it guards."""
        assignment = await world.assignment()
        asked_s = world.port.now_s()
        with world.broker_away():
            told = await asyncio.gather(world.port.ends(assignment), world.port.identity(), return_exceptions=True)
        waited_s = world.port.now_s() - asked_s

        assert [type(error) for error in told] == [BrokerAway, BrokerAway]
        assert waited_s < BOUNDED_S

    @contract(may_be_paused=True)
    async def test_a_commit_gives_up_when_its_assignment_ends(self, world: World) -> None:
        """However long the broker is away: it must not be sent for the next assignment."""
        assignment = await world.serving({0: 0, 1: 0})
        with world.broker_away():
            committing = asyncio.ensure_future(world.port.commit(assignment, {0: 0}))
            await world.port.sleep(A_WHILE_S)
            waits = not committing.done()
            world.assignments.end_current(world.port.now_s())
            taken = await asyncio.wait_for(committing, DEADLINE_S)

        assert waits
        assert taken is False

    @contract(may_be_paused=True)
    async def test_a_commit_that_nobody_waits_for_any_more_is_not_sent(self, world: World) -> None:
        """Its caller had a deadline. Nothing of it is left, for the next assignment neither."""
        assignment = await world.serving({0: 0, 1: 0})
        others = asyncio.all_tasks()
        with world.broker_away():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(A_WHILE_S):
                    await world.port.commit(assignment, {0: 0})
            await world.port.sleep(0.0)
            left = {task for task in asyncio.all_tasks() - others if not task.done() and "commit" in repr(task)}

        assert left == set()

    @contract(may_be_paused=True)
    async def test_everything_else_waits_for_a_broker_that_is_away(self, world: World) -> None:
        """And goes on when it is back."""
        settings, port = world.settings, world.port
        await world.produce(settings.clicks_topic, 0, records(*"abc"))
        await world.leave_behind([written("u", 1)])
        assignment = await world.serving({0: 0, 1: 0})
        with world.broker_away():
            waiting = [
                asyncio.ensure_future(work)
                for work in (
                    port.places(assignment, [0, 1]),
                    port.commit(assignment, {0: 1}),
                    port.send(assignment, settings.recommendations_topic, 0, records("update")),
                    port.restore([0], progress_of_nothing),
                )
            ]
            await port.sleep(8 * A_WHILE_S)
            ended = [type(work.exception()) for work in waiting if work.done() and work.exception() is not None]
        places, taken, deliveries, restored = await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE_S)

        assert ended == []
        assert places[0].end == 3
        assert taken is True
        assert await outcomes(deliveries) == [range(1)]
        assert restored[0].changelog_end == 1
