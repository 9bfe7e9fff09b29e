"""Who waits for a user's next list: open event streams, and clicks that want their answer. Lives on the event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from feed.problems import ProblemError
from nextclick.newer import UpdateHead, is_newer


class NewList(NamedTuple):
    """An update that is in the store.

    Attributes:
        user: the record's key.
        head: what of it decides.
        value: its bytes.
    """

    user: bytes
    head: UpdateHead
    value: bytes


class Watch:
    """One who waits for a user's lists: has the newest one that it has not taken yet, and no others."""

    def __init__(self) -> None:
        self._newest: NewList | None = None
        self._changed = asyncio.Event()
        self.has_ended = False

    def offer(self, new: NewList) -> None:
        """Hand over a list, which takes the place of one that was not taken; an older one changes nothing."""
        if self._newest is None or is_newer(new.head, self._newest.head):
            self._newest = new
            self._changed.set()

    def end(self) -> None:
        """Let nobody wait any longer."""
        self.has_ended = True
        self._changed.set()

    def take(self) -> NewList | None:
        """Give what is there."""
        new, self._newest = self._newest, None
        if not self.has_ended:
            self._changed.clear()
        return new

    async def wait(self, within_s: float) -> NewList | None:
        """Wait for a list and take it; None when the time is over or the feed ends."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return None
        return self.take()


class Hub:
    """Tells those who wait. Of a user with many of them, each has its own."""

    def __init__(self, max_watches: int) -> None:
        self._max_watches = max_watches
        self._watches: dict[bytes, set[Watch]] = {}
        self._is_ending = False
        self.n_watches = 0

    @contextmanager
    def watch(self, user: bytes) -> Iterator[Watch]:
        """Wait for a user's lists.

        Raises:
            ProblemError: there are too many already, or the feed is ending.
        """
        if self._is_ending:
            raise ProblemError("ending", "ask another instance, or ask again in a moment", {"Retry-After": "1"})
        if self.n_watches >= self._max_watches:
            raise ProblemError(
                "too-many",
                f"{self._max_watches} streams are open here, the most that feed_max_streams allows; ask another "
                "instance, or later",
                {"Retry-After": "5"},
            )
        watch = Watch()
        self._watches.setdefault(user, set()).add(watch)
        self.n_watches += 1
        try:
            yield watch
        finally:
            self.n_watches -= 1
            of_user = self._watches[user]
            of_user.remove(watch)
            if not of_user:
                del self._watches[user]

    def tell(self, lists: Sequence[NewList]) -> None:
        """Hand lists that are stored to those who wait for them."""
        for new in lists:
            for watch in self._watches.get(new.user, ()):
                watch.offer(new)

    def end(self) -> None:
        """End all waiting; nobody new may wait."""
        self._is_ending = True
        for of_user in self._watches.values():
            for watch in of_user:
                watch.end()
