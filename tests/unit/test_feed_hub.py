"""Who waits for a list gets the newest one, once, and never an older one after it."""

import asyncio

import pytest

from feed.hub import Hub, NewList
from feed.problems import ProblemError
from nextclick.newer import UpdateHead
from nextclick.updates import Source


def new_list(user: bytes, sequence: int) -> NewList:
    """A list of so many clicks."""
    return NewList(user, UpdateHead("rnn", sequence, Source(0, sequence), 0, 0), str(sequence).encode())


def test_each_watch_gets_the_newest_list_of_its_user_once() -> None:
    """What was replaced before it was taken is not given."""

    async def run() -> None:
        hub = Hub(10)
        with hub.watch(b"ann") as one, hub.watch(b"ann") as other, hub.watch(b"ben") as ben:
            hub.tell([new_list(b"ann", 1), new_list(b"ann", 3), new_list(b"ann", 2)])

            assert [(await each.wait(1.0)).value for each in (one, other)] == [b"3", b"3"]  # type: ignore[union-attr]
            assert await one.wait(0.01) is None
            assert await ben.wait(0.01) is None

    asyncio.run(run())


def test_a_list_that_comes_while_one_waits_wakes_it() -> None:
    """At once, not when the time is over."""

    async def run() -> None:
        hub = Hub(10)
        with hub.watch(b"ann") as watch:
            asyncio.get_running_loop().call_later(0.01, hub.tell, [new_list(b"ann", 1)])
            async with asyncio.timeout(5.0):
                assert (await watch.wait(60.0)) == new_list(b"ann", 1)

    asyncio.run(run())


def test_the_end_wakes_everyone_and_lets_nobody_in() -> None:
    """Streams end by themselves never: the feed ends them."""

    async def run() -> None:
        hub = Hub(10)
        with hub.watch(b"ann") as watch:
            asyncio.get_running_loop().call_later(0.01, hub.end)
            async with asyncio.timeout(5.0):
                assert await watch.wait(60.0) is None
            assert watch.has_ended
            with pytest.raises(ProblemError) as problem, hub.watch(b"ben"):
                pass
            assert problem.value.kind == "ending"

    asyncio.run(run())


def test_one_watch_too_many_is_refused_and_those_that_end_make_room() -> None:
    """Nothing is left of a user that nobody watches."""
    hub = Hub(2)

    async def run() -> None:
        with hub.watch(b"ann"), hub.watch(b"ann"):
            with pytest.raises(ProblemError) as problem, hub.watch(b"ben"):
                pass
            assert problem.value.kind == "too-many"
        with hub.watch(b"ben"):
            assert hub.n_watches == 1

    asyncio.run(run())
    assert hub.n_watches == 0
    assert not hub._watches
