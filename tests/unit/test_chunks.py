"""Where the clicks' consumer goes back to. The client's thread is replaced: it answers when a test wants it to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from nextclick.settings import Settings
from stream.faust_adapter.consumer import ChunkConsumer, use_chunks
from stream.protocol.lease import Lease

SETTINGS = Settings()
CLICKS, OTHERS = TP(SETTINGS.clicks_topic, 0), TP(SETTINGS.clicks_topic, 1)
FIRST, COMMITTED, END = 0, 70, 100


async def _nothing() -> None:
    """No event of the test's own."""


class _Thread:
    """A client that has one partition; what happens before an answer is the test's."""

    def __init__(self, committed: int | None = COMMITTED) -> None:
        self.committed = committed
        self.assigned = {CLICKS}
        self.before_committed: Callable[[], Awaitable[None]] = _nothing
        self.before_ends: Callable[[], Awaitable[None]] = _nothing
        self.sought: list[Mapping[TP, int]] = []

    def assignment(self) -> set[TP]:
        return set(self.assigned)

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        await self.before_committed()
        assert self.assigned, "No partitions are currently assigned"  # as aiokafka does
        return dict.fromkeys(self.assigned, self.committed)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return dict.fromkeys(partitions, FIRST)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        await self.before_ends()
        return dict.fromkeys(partitions, END)

    async def seek_wait(self, places: Mapping[TP, int]) -> None:
        self.sought.append(dict(places))


def _consumer(thread: _Thread, on_revoked: Callable[[], Awaitable[None]] = _nothing) -> ChunkConsumer:
    app = faust.App("app", broker="kafka://nowhere:9")
    use_chunks(app, SETTINGS, Lease(6.0))
    consumer: Any = app.consumer
    consumer._thread = thread

    async def revoked(_: Any) -> None:
        await on_revoked()

    consumer._on_partitions_revoked = revoked
    return consumer  # type: ignore[no-any-return]


def _may_commit(consumer: ChunkConsumer) -> dict[TP, int]:
    return consumer._filter_committable_offsets([CLICKS, OTHERS])


def test_a_seek_goes_to_what_is_committed() -> None:
    """What was delivered and not committed comes again."""

    async def seek() -> tuple[_Thread, ChunkConsumer]:
        thread = _Thread()
        consumer = _consumer(thread)
        await consumer.perform_seek()
        return thread, consumer

    thread, consumer = asyncio.run(seek())

    assert thread.sought == [{CLICKS: COMMITTED}]
    assert _may_commit(consumer) == {}


@pytest.mark.parametrize("when", ["before_committed", "before_ends"])
@pytest.mark.parametrize("edge", ["begins", "ends"])
def test_partitions_that_go_during_a_seek_have_no_place_to_go_back_to(when: str, edge: str) -> None:
    """Their beginning is none either: it would be committed over what the application has read."""

    async def scenario() -> tuple[_Thread, dict[TP, int], dict[TP, int]]:
        begun, finish = asyncio.Event(), asyncio.Event()

        async def drain() -> None:
            begun.set()
            await finish.wait()

        thread = _Thread()
        consumer = _consumer(thread, drain)
        revoking: list[asyncio.Task[None]] = []

        async def revoke() -> None:
            if not revoking:
                revoking.append(asyncio.create_task(consumer.on_partitions_revoked({CLICKS})))
            await begun.wait()

        async def revoked() -> None:
            finish.set()
            await revoking[0]

        if edge == "begins":
            setattr(thread, when, revoke)
        else:
            await revoke()
            setattr(thread, when, revoked)
        with pytest.raises(IllegalStateError, match="assignment changed"):  # else the recovery would let clicks flow
            await consumer.perform_seek()
        during = _may_commit(consumer)
        await revoked()
        return thread, during, _may_commit(consumer)

    thread, during, after = asyncio.run(scenario())

    assert thread.sought == []
    assert during == {}
    assert after == {}


def test_partitions_that_come_during_a_seek_are_left_to_their_recovery() -> None:
    """Of them nothing was asked: they would be taken for partitions of which nothing is committed."""

    async def scenario() -> tuple[_Thread, ChunkConsumer]:
        thread = _Thread()
        consumer = _consumer(thread)

        async def assigned() -> None:
            thread.assigned = {OTHERS}

        thread.before_ends = assigned
        with pytest.raises(IllegalStateError, match="assignment changed"):
            await consumer.perform_seek()
        return thread, consumer

    thread, consumer = asyncio.run(scenario())

    assert thread.sought == []
    assert _may_commit(consumer) == {}


def test_a_worker_without_partitions_has_nowhere_to_seek_to() -> None:
    """Also one whose last partition went to another worker while it waited for clicks."""

    async def scenario() -> _Thread:
        thread = _Thread()
        thread.assigned = set()
        await _consumer(thread).perform_seek()
        return thread

    assert asyncio.run(scenario()).sought == []
