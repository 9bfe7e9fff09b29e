"""The heart: advance a batch of users by a batch of clicks, and rank what each of them sees next. A pure function.

Clicks of one user are applied in the order of the log, and the user is ranked once, after the last of them: every click
of the batch is answered with that list. A click that the user's state already contains (the fence) changes nothing and
repeats the user's current list; so does one that came before under the same id of its event, but for the fence.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from nextclick.clicks import Click
from nextclick.popular_lists import PopularLists
from nextclick.quick_tuples import quick
from nextclick.rules import (
    NO_RULES,
    Exclude,
    Rules,
    excluded_hashes,
    explored_from,
    is_explored,
    low_hashes,
    n_explored_of,
    n_pinned_of,
)
from nextclick.updates import RNN, RankedList
from nextclick.user_state import (
    MAX_GAP_S,
    MAX_SEQUENCE,
    NEW_USER,
    RECENT_BYTES,
    SHOWN_BY_NETWORK,
    RecentClick,
    UserState,
    has_event,
    place_shown,
    recent_clicks,
    was_shown,
    with_event,
    with_recent,
)

# Users that are scored together, in one thread: enough that item vectors are read from memory once for many, and few
# enough that a chunk has a group for each of several threads.
MAX_GROUP_USERS = 256

ALL_PLACES = sys.maxsize  # after every click of a record

NetworkClick = tuple[int, int, int]  # item_index, gap_s, event_type


class Model(Protocol):
    """What `advance` needs of a network (see `nextclick.model.ServedModel`)."""

    bundle_id: str

    @property
    def bundle(self) -> int:
        """The bundle as a number."""

    def index_of(self, item_hash: int) -> int | None:
        """Give the item_index of a known item."""

    def run(self, hidden: Sequence[bytes], clicks: Sequence[Sequence[NetworkClick]]) -> list[bytes]:
        """Advance each hidden state by its clicks; one without clicks stays."""

    def rebuild(self, recent_clicks: Sequence[Sequence[RecentClick]]) -> list[bytes]:
        """Compute hidden states from recent clicks."""

    def has_counted(self, recent: Sequence[bytes]) -> list[bool]:
        """Tell of users of whom the network knows nothing whether counts do, by their recent clicks."""

    def rank(
        self,
        hidden: Sequence[bytes],
        recent: Sequence[bytes],
        k: int,
        explain: bool = False,
        rules: Rules = NO_RULES,
        offsets: Sequence[float] = (),
    ) -> list[RankedList]:
        """Rank the items for each hidden state and the recent clicks with it, under the rules.

        `explain`: say what each is there for. `offsets`: where exploring begins (see `nextclick.rules`), if it does.
        """


T = TypeVar("T")

Each = Callable[[Callable[[Any], None], Sequence[Any]], Iterable[None]]  # as `map`, or an executor's
UserKey = tuple[int, bytes]  # partition and record key: a state belongs to the partition of its clicks


class LoggedClick(NamedTuple):
    """A valid click and where it stands in the log.

    Attributes:
        user: partition and key of the record.
        offset: of the record.
        record_timestamp_ms: the record's own timestamp.
        click: what the record says.
        item_hash: of the click's item.
        is_applied: whether the user's state contains the click already, whatever its fence: only its answer is due.
        place: of the click among those of its record. All of a record are in one batch.
    """

    user: UserKey
    offset: int
    record_timestamp_ms: int
    click: Click
    item_hash: int
    is_applied: bool = False
    place: int = 0


class Advanced(NamedTuple):
    """A click was applied.

    Attributes:
        sequence: of the user's clicks, the how-manieth this is.
        state: the user's state after the batch.
        ranked: what the user is shown after the batch.
        hit: whether the item was in the list that the user saw before the batch; None when there was none.
        hit_by_network: whether that list came from the network.
        is_new: whether the model does not know the item; False without a model.
        n_explored: how many of its places were explored; these count for `explored_hit` and not for `hit`.
        explored_hit: whether the item was at one of these.
    """

    sequence: int
    state: UserState
    ranked: RankedList
    hit: bool | None
    hit_by_network: bool
    is_new: bool = False
    n_explored: int = 0
    explored_hit: bool = False


class Skipped(NamedTuple):
    """The click was applied before: the user's current list is sent again.

    Attributes:
        sequence: of the user's clicks up to this one.
        state, ranked: as in `Advanced`.
        is_repeat: whether that is known by the id of its event, and not by the fence.
    """

    sequence: int
    state: UserState
    ranked: RankedList
    is_repeat: bool = False


Outcome = Advanced | Skipped
_advanced, _state = quick(Advanced), quick(UserState)


class Limits(NamedTuple):
    """How much is kept and shown per user, and by which rules; the settings of the same names."""

    recent_clicks: int
    list_length: int
    explain: bool = False
    rules: Rules = NO_RULES


def advance(
    model: Model | None,
    popular: RankedList | PopularLists,
    states: Mapping[UserKey, UserState],
    clicks: Sequence[LoggedClick],
    limits: Limits,
    each: Each = map,
) -> list[Outcome]:
    """Apply clicks to users' states.

    Args:
        model: the bundle that is served, or None.
        popular: the list for users of whom the model knows nothing; as `PopularLists` also without the items that the
            rules exclude for a user.
        states: the states before; a user without one is new. Not changed.
        clicks: in log order per partition.
        limits: how much to keep and to show.
        each: applies a function to each group of users, as `map` does; it may do so in several threads.

    Returns:
        An outcome per click, in the same order; those of one user share the state and the list after the batch.
    """
    courses: dict[UserKey, _Course] = {}
    steps: list[_Step] = []
    index_of = model.index_of if model is not None else None
    for logged in clicks:
        user = logged.user
        course = courses.get(user)
        if course is None:
            before = states.get(user, NEW_USER)
            course = courses[user] = [before, before, ALL_PLACES, None, None, user[1]]
        after, gap_s = _after(course[_AFTER], course[_PLACE], logged, limits.recent_clicks)
        moves_fence = after is not course[_AFTER]
        if moves_fence:
            course[_AFTER], course[_PLACE] = after, logged.place
        if gap_s is None:
            steps.append((course, after[1], _REPEATED if moves_fence else _KNOWN))
            continue
        index = index_of(logged.item_hash) if index_of is not None else None
        steps.append((course, after[1], _APPLIED if index is not None or index_of is None else _APPLIED_NEW))
        if index is not None:
            network_click = (index, gap_s, logged.click.event_type)
            if course[_CLICKS] is None:
                course[_CLICKS] = [network_click]
            else:
                course[_CLICKS].append(network_click)
    every = list(courses.values())
    groups = [every[first : first + MAX_GROUP_USERS] for first in range(0, len(every), MAX_GROUP_USERS)]
    side_by_side = each if len(groups) > 1 else map  # alone it would only wait for another thread
    end = partial(_end, model, popular, limits)
    deque(side_by_side(end, groups), maxlen=0)  # all of them, or what they raise
    return _outcomes(clicks, steps, limits.rules)


# Plain tuples and lists, which cost a fifth of what has names: there is one for nearly every click.
_Fields = tuple[int, int, int, int, int, bytes, bytes, bytes, int, bytes]  # of a `UserState`
# What a batch does to one user: the state before it; the state after it, but for what a network says; the place of the
# last applied click in its record, which a state of before the batch contains with all its clicks; the clicks that were
# applied and whose items the model knows; in the end the state and the list after the batch; and the user's key.
_Course = list[Any]
_BEFORE, _AFTER, _PLACE, _CLICKS, _END, _KEY = range(6)
# Per click: the user's course, the sequence after it, and whether it was applied: if not, the fence knows it, or it
# came before with the same event id.
_Step = tuple[_Course, int, int]
_APPLIED, _APPLIED_NEW, _KNOWN, _REPEATED = range(4)  # new: on an item that the model does not know


def _after(before: _Fields, last_place: int, logged: LoggedClick, keep: int) -> tuple[_Fields, int | None]:
    """Apply a click to all of a state but what a network says.

    Args:
        before: the state before.
        last_place: of the last applied click among those of its record.
        logged: the click.
        keep: how many recent clicks are kept.

    Returns:
        The state after the click, and the gap in s before it; None if it was applied before.
    """
    (partition, _), offset, _, click, item_hash, is_applied, place = logged
    bundle, sequence, last_partition, last_offset, last_click_ms, hidden, recent, shown, flags, events = before
    if last_partition == partition and (offset < last_offset or (offset == last_offset and place <= last_place)):
        return before, None
    if is_applied and sequence:
        return before, None
    event_hash = click.event_hash
    if event_hash or events:
        if has_event(events, event_hash):
            return (bundle, sequence, partition, offset, *before[4:]), None
        events = with_event(events, event_hash, len(recent) // RECENT_BYTES, keep)
    # Clicks can arrive out of order in event time: the gap is then 0 and the clock does not go back.
    now_ms = click.timestamp_ms if click.timestamp_ms > last_click_ms else last_click_ms
    gap_s = min((now_ms - last_click_ms) // 1000, MAX_GAP_S) if sequence else 0
    recent = with_recent(recent, item_hash, gap_s, click.event_type, keep)
    sequence = min(sequence + 1, MAX_SEQUENCE)
    return (bundle, sequence, partition, offset, now_ms, hidden, recent, shown, flags, events), gap_s


def _end(model: Model | None, popular: RankedList | PopularLists, limits: Limits, courses: Sequence[_Course]) -> None:
    """Let the network follow the users' clicks, and rank each user once."""
    hidden = _hidden_after(model, courses) if model is not None else [b""] * len(courses)
    lists = _popular_for(popular, limits.rules.exclude, courses, hidden)
    rows = [row for row, packed in enumerate(hidden) if packed]
    if model is not None and len(rows) < len(hidden):
        rows = _with_counted(model, courses, hidden)
    if model is not None and rows:
        recents = [courses[row][_AFTER][6] for row in rows]
        _, k, explain, rules = limits
        offsets = []
        if rules.explore:
            offsets = [explored_from(courses[row][_KEY], courses[row][_AFTER][1]) for row in rows]
        _fill(lists, rows, model.rank([hidden[row] for row in rows], recents, k, explain, rules, offsets))
    bundle = model.bundle if model is not None else 0
    for course, packed, ranked in zip(courses, hidden, lists, strict=True):
        _, sequence, partition, offset, last_click_ms, _, recent, _, _, events = course[_AFTER]
        flags, shown = SHOWN_BY_NETWORK if ranked.strategy == RNN else 0, ranked.shown
        state = _state((bundle, sequence, partition, offset, last_click_ms, packed, recent, shown, flags, events))
        course[_END] = state, ranked


def _popular_for(
    popular: RankedList | PopularLists, exclude: Exclude, courses: Sequence[_Course], hidden: Sequence[bytes]
) -> list[RankedList]:
    """Give the popular list of each user; for whom the network ranks it does not matter which."""
    if isinstance(popular, RankedList):
        return [popular] * len(courses)
    if exclude == "none":
        return [popular.shared] * len(courses)
    return [
        popular.shared if packed else popular.without(excluded_hashes(course[_AFTER][6], exclude))
        for course, packed in zip(courses, hidden, strict=True)
    ]


def rank_again(
    model: Model | None, popular: RankedList | PopularLists, states: Mapping[UserKey, UserState], limits: Limits
) -> dict[UserKey, tuple[UserState, RankedList]]:
    """Rank users once more after a batch, because what may be listed has changed meanwhile.

    Args:
        model, popular, limits: as of the batch, see `advance`.
        states: of the users, as the batch has left them.

    Returns:
        For each its state, which remembers the new list, and the list.
    """
    courses: list[_Course] = [[state, state, ALL_PLACES, None, None, user[1]] for user, state in states.items()]
    _end(model, popular, limits, courses)
    return {user: course[_END] for user, course in zip(states, courses, strict=True)}


def _with_counted(model: Model, courses: Sequence[_Course], hidden: Sequence[bytes]) -> list[int]:
    """Give the users that can be ranked: the network knows something of them, or counts do."""
    others = [row for row, packed in enumerate(hidden) if not packed]
    counted = model.has_counted([courses[row][_AFTER][6] for row in others])
    left_out = {row for row, is_counted in zip(others, counted, strict=True) if not is_counted}
    return [row for row in range(len(hidden)) if row not in left_out]


def _hidden_after(model: Model, courses: Sequence[_Course]) -> list[bytes]:
    """Give the users' hidden states under this model after the batch; empty where it knows nothing."""
    bundle, befores = model.bundle, [course[_BEFORE] for course in courses]
    hidden = [before.hidden if before.bundle == bundle else b"" for before in befores]
    # A state of another bundle is rebuilt from the recent clicks before these, which it then takes like any other: the
    # same arithmetic for everyone.
    stale = [row for row, before in enumerate(befores) if before.bundle != bundle and before.sequence]
    _fill(hidden, stale, model.rebuild([recent_clicks(befores[row]) for row in stale]) if stale else [])
    rows = [row for row, course in enumerate(courses) if course[_CLICKS]]
    runs = [courses[row][_CLICKS] for row in rows]
    _fill(hidden, rows, model.run([hidden[row] for row in rows], runs) if rows else [])
    return hidden


def _fill(target: list[T], rows: Sequence[int], values: Sequence[T]) -> None:
    for row, value in zip(rows, values, strict=True):
        target[row] = value


def _outcomes(clicks: Sequence[LoggedClick], steps: Sequence[_Step], rules: Rules) -> list[Outcome]:
    """Give what became of each click."""
    outcomes: list[Outcome] = []
    pinned = low_hashes(rules.pinned) if rules.explore else set()
    for logged, (course, sequence, became) in zip(clicks, steps, strict=True):
        state, ranked = course[_END]
        if became >= _KNOWN:
            outcomes.append(Skipped(sequence, state, ranked, became == _REPEATED))
            continue
        before = course[_BEFORE]
        hit = was_shown(before.shown, logged.item_hash) if before.shown else None
        by_network, is_new = bool(before.flags & SHOWN_BY_NETWORK), became == _APPLIED_NEW
        n_explored, explored_hit = 0, False
        if rules.explore and by_network and before.shown:
            offset = explored_from(course[_KEY], before.sequence)
            clicked = logged.item_hash if hit else None
            n_explored, explored_hit = _explored(before.shown, clicked, rules.explore, offset, pinned)
            hit = hit and not explored_hit
        outcomes.append(_advanced((sequence, state, ranked, hit, by_network, is_new, n_explored, explored_hit)))
    return outcomes


def _explored(shown: bytes, clicked: int | None, share: float, offset: float, pinned: Set[int]) -> tuple[int, bool]:
    """Tell how many places of the list that a user saw were explored, and whether the clicked item was at one.

    Args:
        shown: the list, as the state keeps it.
        clicked: hash of the item; None: it is not in the list, and is not looked for.
        share, offset: which places these are; the pinned items in front are at none.
        pinned: low bits of the hashes of pinned items.
    """
    places = memoryview(shown).cast("I")
    n_pinned = n_pinned_of(places, pinned)
    place = place_shown(shown, clicked) if clicked is not None else None
    is_hit = place is not None and place >= n_pinned and is_explored(place, share, offset)
    return n_explored_of(len(places), share, offset) - n_explored_of(n_pinned, share, offset), is_hit
