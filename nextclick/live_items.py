"""Items that no bundle knows, while they are served: who clicks near them, and how they are written in lists.

A worker has one of these for each model. It is changed between two chunks, and read while one is computed.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from nextclick.advance import Advanced, LoggedClick, Outcome, UserKey
from nextclick.scoring.compiled import read_only
from nextclick.scoring.histories import Behind, RowsByHash
from nextclick.scoring.item_lists import Bytes, LiveTexts, item_text
from nextclick.scoring.live_counts import are_strangers, carry_on, count_clicks, insert_item, new_counts
from nextclick.scoring.live_neighbours import Near, near_clicked

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

_FIRST_BYTES = 65_536  # of texts


class LiveItems:
    """Live items of one model, a bounded number of them.

    Attributes:
        behind: finds them.
        version: another one whenever an item gets a place.
    """

    def __init__(self, rows: RowsByHash, support: Floats, n_live: int) -> None:
        """Begin without any.

        Args:
            rows: finds the bundle's items.
            support: float32 (n_items,), the logarithm of 1 + the weight of the bundle's counts of each item.
            n_live: how many there can be, at least one.
        """
        weight = float(np.expm1(support, dtype=np.float64).sum())
        self._rows, self._support = rows, support
        self._counts = new_counts(n_live, len(support), max(weight, 1.0))
        self._texts = _Texts(n_live)
        self._counted_to: dict[int, int] = {}  # offsets by partition
        self.version = 0
        self.behind = Behind(self._counts.places, len(support))

    def __len__(self) -> int:
        return int(self._counts.used[0])

    @property
    def texts(self) -> LiveTexts:
        """How they are written in lists."""
        return self._texts.as_arrays()

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """The items' hashes, uint64 (n,), place by place."""
        return self._counts.hashes[: len(self)]

    def low_hashes(self, places: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
        """Give the low bits of the hashes of the items in some places."""
        return self._counts.hashes[places].astype(np.uint32)

    def near(self, clicked: Longs) -> tuple[Near, Floats]:
        """Give the neighbours of clicked items, and the items' support; see `near_clicked`."""
        return near_clicked(self._counts, clicked, self._support)

    def count(self, clicks: Sequence[LoggedClick], outcomes: Sequence[Outcome], is_counted: Sequence[bool]) -> None:
        """Count clicks, each once, however often it is read.

        Args:
            clicks: of a batch.
            outcomes: what became of each.
            is_counted: whether each counts: what a user does again and again does not.
        """
        counted_to, of_user = self._counted_to, dict[UserKey, int]()
        recent: list[bytes] = []
        flags: list[list[bool]] = []  # of each user
        applied: list[LoggedClick] = []
        for logged, outcome, counts in zip(clicks, outcomes, is_counted, strict=True):
            user, offset = logged.user, logged.offset
            if type(outcome) is not Advanced or offset <= counted_to.get(user[0], -1):
                continue
            applied.append(logged)
            number = of_user.setdefault(user, len(recent))
            if number == len(recent):
                recent.append(outcome.state.recent)
                flags.append([counts])
            else:
                flags[number].append(counts)
        if not applied:
            return
        for logged in applied:
            counted_to[logged.user[0]] = logged.offset
        self._welcome(applied)
        if not len(self):  # nothing can be near it
            return
        lengths, n_new = np.array(list(map(len, recent))), np.array(list(map(len, flags)))
        is_flagged = np.fromiter(chain.from_iterable(flags), np.bool_, len(applied))
        count_clicks(self._counts, self._rows, np.frombuffer(b"".join(recent), np.uint8), lengths, is_flagged, n_new)

    def carried_to(self, rows: RowsByHash, support: Floats) -> "LiveItems":
        """Give the same under another bundle: without the items that it knows."""
        after = LiveItems(rows, support, len(self._counts.hashes))
        places = carry_on(self._counts, self._rows, after._counts, rows)
        for before, now in enumerate(places.tolist()):
            if now >= 0:
                after._texts.put(now, self._texts.get(before))
        after._counted_to = dict(self._counted_to)
        return after

    def warm_up(self) -> None:
        """Compile what is compiled at first use. Leaves an item that nobody clicks: do it to a copy."""
        behind, rows, nobody = self.behind, self._rows, np.zeros(0, np.int64)
        are_strangers(behind, rows, np.zeros(1, np.uint64))
        insert_item(self._counts, np.uint64(1))
        count_clicks(self._counts, rows, np.frombuffer(b"", np.uint8), nobody, np.zeros(0, np.bool_), nobody)
        carry_on(self._counts, rows, new_counts(1, len(self._support), 1.0), rows)

    def _welcome(self, clicks: Sequence[LoggedClick]) -> None:
        """Give places to the items that have none."""
        hashes = np.array([logged.item_hash for logged in clicks], np.uint64)
        strangers = np.flatnonzero(are_strangers(self.behind, self._rows, hashes)).tolist()
        for item_hash, item_id in {
            clicks[number].item_hash: clicks[number].click.item_id for number in strangers
        }.items():
            self._texts.put(insert_item(self._counts, np.uint64(item_hash)), item_text(item_id))
            self.version += 1


class _Texts:
    """Texts in places, one behind the other in one array, which is written anew when it is full."""

    def __init__(self, n_places: int) -> None:
        self._bytes: Bytes = np.zeros(_FIRST_BYTES, np.uint8)
        self._end = 0
        self._starts, self._ends = np.zeros(n_places, np.int64), np.zeros(n_places, np.int64)

    def as_arrays(self) -> LiveTexts:
        return LiveTexts(read_only(self._bytes), self._starts, self._ends)

    def get(self, place: int) -> bytes:
        return self._bytes[self._starts[place] : self._ends[place]].tobytes()

    def put(self, place: int, text: bytes) -> None:
        self._starts[place] = self._ends[place] = 0
        if self._end + len(text) > len(self._bytes):
            self._make_room(len(text))
        self._starts[place], self._ends[place] = self._end, self._end + len(text)
        self._bytes[self._end : self._end + len(text)] = np.frombuffer(text, np.uint8)
        self._end += len(text)

    def _make_room(self, n_bytes: int) -> None:
        texts = [self.get(place) for place in range(len(self._starts))]
        whole, lengths = b"".join(texts), np.array([len(text) for text in texts], np.int64)
        self._bytes = np.zeros(max(_FIRST_BYTES, 2 * (len(whole) + n_bytes)), np.uint8)
        self._bytes[: len(whole)] = np.frombuffer(whole, np.uint8)
        self._ends = lengths.cumsum()
        self._starts = self._ends - lengths
        self._end = len(whole)
