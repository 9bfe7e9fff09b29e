"""Lists that nobody gets, made beside those that users get, and how often they would have been right.

A shadow's lists are made so for its share of the users; the champion's are, for the users of a canary.

It has a thread of its own, and never holds up a chunk: while it is behind, chunks are passed over. What it would have
shown a user is remembered with the click that it followed. Only where that is also the click that the user's real list
followed are the two compared, both on the next click; so whatever was passed over, forgotten or computed by another
worker only costs counts.

Either bundle can list items that the other does not know, or that no bundle does (live ones). A click on such an item
says nothing of the two, and so must not the places that these items take: compared are as many items of either list,
all of them known to the bundle whose lists are not sent. Else a bundle that knows newer items would look worse.

Places that are explored say nothing of a bundle either: they are left out of what was sent, and lists that are not sent
have none. So these lists do not count as shown when it is decided what is explored.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.advance import Limits, LoggedClick, Skipped, UserKey, advance
from nextclick.experiment import Place
from nextclick.popular_lists import PopularLists
from nextclick.rules import explored_from, is_explored, low_hashes, n_pinned_of
from nextclick.user_state import NEW_USER, SHOWN_BY_NETWORK, SHOWN_BYTES, UserState, place_shown
from stream.trial import Judged, Trial

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

Hashes = npt.NDArray[np.uint32]  # low bits of the hashes of items
MAX_USERS = 20_000  # that are remembered: 10 MB; the hidden state of one that is forgotten is rebuilt
MAX_WAITING = 4  # chunks; behind them others are passed over
_log = logging.getLogger(__name__)


class _Sample(NamedTuple):
    """What of a chunk concerns the shadow.

    Attributes:
        clicks: of its users, in order.
        states: of these, before the chunk; without those that have none.
        places: of all users.
        popular: the list for users of whom the bundle knows nothing.
    """

    clicks: Sequence[LoggedClick]
    states: Mapping[UserKey, UserState]
    places: Mapping[UserKey, Place]
    popular: PopularLists


class Shadow:
    """Follows the users whom the experiment chose.

    Attributes:
        trial: the experiment.
        model: that makes the lists.
    """

    def __init__(self, trial: Trial, model: "ServedModel", limits: Limits) -> None:
        """Begin with nobody.

        Args:
            trial: the experiment; gets what is judged, in the shadow's thread.
            model: makes the lists that are not sent: the bundle on trial, or with a canary the champion.
            limits: as users get their lists; reasons and exploration are left out.
        """
        self.trial, self.model = trial, model
        # Without items that no bundle knows: they are counted in another thread, where a chunk is computed.
        self._model = model.without_live()
        self._limits = limits._replace(explain=False, rules=limits.rules._replace(explore=0.0))
        self._explore, self._pinned = limits.rules.explore, low_hashes(limits.rules.pinned)
        self._remembered: OrderedDict[UserKey, UserState] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "shadow")
        self._waiting: list[Future[None]] = []
        self._has_failed = False

    def take(
        self,
        clicks: Sequence[LoggedClick],
        places: Mapping[UserKey, Place],
        states: Mapping[UserKey, UserState],
        popular: PopularLists,
    ) -> None:
        """Follow a chunk beside the stream, or pass over it. Does not block.

        Args:
            clicks: in order.
            places: of their users.
            states: before the chunk.
            popular: for users of whom the bundle knows nothing.
        """
        self._waiting = [each for each in self._waiting if not each.done()]
        if self._has_failed or len(self._waiting) >= MAX_WAITING:
            return
        own = [logged for logged in clicks if places[logged.user].is_chosen]
        before = {logged.user: states[logged.user] for logged in own if logged.user in states}
        if own:
            self._waiting.append(self._thread.submit(self._follow, _Sample(own, before, places, popular)))

    def stop(self) -> None:
        """End; does not block."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _follow(self, sample: _Sample) -> None:
        try:
            self.trial.note_both(self._judge(sample))
        except Exception as error:  # users are answered on; only the comparison ends
            self._has_failed = True
            _log.error(
                "lists of %s beside those that are sent failed, and are made no more",
                self.model.bundle_id,
                exc_info=error,
            )

    def _judge(self, sample: _Sample) -> list[Judged]:
        own = {user: self._own(user, before) for user, before in sample.states.items()}
        outcomes = advance(self._model, sample.popular, own, sample.clicks, self._limits)
        judged: list[Judged] = []
        for logged, outcome in zip(sample.clicks, outcomes, strict=True):
            user, item = logged.user, logged.item_hash
            self._remembered[user] = outcome.state
            self._remembered.move_to_end(user)
            if isinstance(outcome, Skipped) or user not in own or outcome.is_new:
                continue
            sent, shadow = self._comparable(self._ranked(user, sample.states[user]), own[user].shown)
            if sent and shadow:
                judged.append(Judged(sample.places[user], place_shown(sent, item), place_shown(shadow, item)))
        while len(self._remembered) > MAX_USERS:
            self._remembered.popitem(last=False)
        return judged

    def _ranked(self, user: UserKey, before: UserState) -> Hashes:
        """Give the items of the list that was sent, without those at explored places."""
        hashes = np.frombuffer(before.shown, "<u4")
        if not self._explore or not before.flags & SHOWN_BY_NETWORK:
            return hashes
        offset, n_pinned = explored_from(user[1], before.sequence), n_pinned_of(hashes.tolist(), self._pinned)
        ranked = [place < n_pinned or not is_explored(place, self._explore, offset) for place in range(len(hashes))]
        return hashes[ranked]

    def _comparable(self, hashes: Hashes, shadow: bytes) -> tuple[bytes, bytes]:
        """Give of items that were sent those that this bundle knows, and as many of its own list."""
        known = self._known
        kept = hashes[known[np.minimum(known.searchsorted(hashes), len(known) - 1)] == hashes]
        return kept.tobytes(), shadow[: SHOWN_BYTES * len(kept)]

    @cached_property
    def _known(self) -> Hashes:
        """Low bits of the hashes of the bundle's items, rising; made in the thread: of a million items in 0.1 s."""
        return np.sort(self.model.item_hashes.astype(np.uint32))

    def _own(self, user: UserKey, before: UserState) -> UserState:
        """Give a user's state as it is with this bundle: what was remembered, if that is of the same click."""
        remembered = self._remembered.get(user, NEW_USER)
        if (remembered.partition, remembered.offset) != (before.partition, before.offset):
            return before._replace(shown=b"")
        bundle, hidden, shown, flags = remembered.bundle, remembered.hidden, remembered.shown, remembered.flags
        return before._replace(bundle=bundle, hidden=hidden, shown=shown, flags=flags)
