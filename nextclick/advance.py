"""The heart: advance a batch of users by a batch of clicks, and rank what each of them sees next. A pure function.

Clicks of one user are applied in the order of the log, in waves: the first click of every user in the batch, then the
second, and so on, so that each wave is one matrix product. A click that the user's state already contains (the fence)
changes nothing and repeats the user's current list.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from nextclick.clicks import Click
from nextclick.updates import RankedList
from nextclick.user_state import (
    MAX_GAP_S,
    MAX_SEQUENCE,
    NEW_USER,
    SHOWN_BY_NETWORK,
    RecentClick,
    UserState,
    recent_clicks,
    was_shown,
    with_recent,
)

# Users that are scored together: bounds the score matrix (50,000 items in float32: 51 MB).
MAX_WAVE_USERS = 256


class Model(Protocol):
    """What `advance` needs of a network (see `nextclick.model.ServedModel`)."""

    @property
    def bundle(self) -> int:
        """The bundle as a number."""

    def index_of(self, item_hash: int) -> int | None:
        """Give the item_index of a known item."""

    def step(self, hidden: Sequence[bytes], clicks: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Advance hidden states by one click each."""

    def rebuild(self, recent_clicks: Sequence[Sequence[RecentClick]]) -> list[bytes]:
        """Compute hidden states from recent clicks."""

    def rank(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int) -> list[RankedList]:
        """Rank the items for each hidden state and the recent clicks with it."""


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
        place: of the click in its record, which can hold several.
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
        state: the user's state after it.
        ranked: what the user is shown now.
        hit: whether the item was in the list that the user saw before; None when there was none.
        hit_by_network: whether that list came from the network.
    """

    state: UserState
    ranked: RankedList
    hit: bool | None
    hit_by_network: bool


class Skipped(NamedTuple):
    """The user's state already contains the click; the user's current list is sent again."""

    state: UserState
    ranked: RankedList


Outcome = Advanced | Skipped


class Limits(NamedTuple):
    """How much is kept and shown per user."""

    recent_clicks: int
    list_length: int


def advance(
    model: Model | None,
    popular: RankedList,
    states: Mapping[UserKey, UserState],
    clicks: Sequence[LoggedClick],
    limits: Limits,
) -> list[Outcome]:
    """Apply clicks to users' states.

    Args:
        model: the bundle that is served, or None.
        popular: the list for users of whom the model knows nothing.
        states: the states before; a user without one is new. Not changed.
        clicks: in log order per partition.
        limits: how much to keep and to show.

    Returns:
        An outcome per click, in the same order. The last outcome of a user holds the user's new state.
    """
    current = dict(states)
    outcomes: dict[int, Outcome] = {}
    for wave in _waves(clicks):
        befores = [current.get(clicks[position].user, NEW_USER) for position in wave]
        steps = [
            _step(model, before, clicks[position], limits.recent_clicks)
            for before, position in zip(befores, wave, strict=True)
        ]
        hidden = _hidden_after(model, befores, steps)
        ranked = _rank(model, popular, hidden, [step.recent for step in steps], limits.list_length)
        bundle = model.bundle if model is not None else 0
        for position, before, step, state, shown in zip(wave, befores, steps, hidden, ranked, strict=True):
            logged = clicks[position]
            outcome = _outcome(bundle, before, step, state, shown, logged.item_hash)
            outcomes[position] = outcome
            current[logged.user] = outcome.state
    return [outcomes[position] for position in range(len(clicks))]


def _waves(clicks: Sequence[LoggedClick]) -> list[list[int]]:
    """Split positions so that no user is twice in a wave and each user's clicks keep their order."""
    n_clicks_of: dict[UserKey, int] = {}
    waves: list[list[int]] = []
    for position, logged in enumerate(clicks):
        depth = n_clicks_of.get(logged.user, 0)
        n_clicks_of[logged.user] = depth + 1
        if depth == len(waves):
            waves.append([])
        waves[depth].append(position)
    return [wave[i : i + MAX_WAVE_USERS] for wave in waves for i in range(0, len(wave), MAX_WAVE_USERS)]


class _Step(NamedTuple):
    """What one click does to a user, before the network has been asked."""

    sequence: int
    partition: int
    offset: int
    last_click_ms: int
    recent: bytes
    skipped: bool
    network_click: tuple[int, int, int] | None  # (item_index, gap_s, event_type) if the model knows the item


def _step(model: Model | None, before: UserState, logged: LoggedClick, keep: int) -> _Step:
    partition, offset, click = logged.user[0], logged.offset, logged.click
    _, sequence, last_partition, last_offset, last_click_ms, _, recent, _, _ = before
    if (last_partition == partition and offset <= last_offset) or (logged.is_applied and sequence):
        return _Step(sequence, last_partition, last_offset, last_click_ms, recent, True, None)
    # Clicks can arrive out of order in event time: the gap is then 0 and the clock does not go back.
    now_ms = max(last_click_ms, click.timestamp_ms)
    gap_s = min((now_ms - last_click_ms) // 1000, MAX_GAP_S) if sequence else 0
    recent = with_recent(recent, logged.item_hash, gap_s, click.event_type, keep)
    index = model.index_of(logged.item_hash) if model is not None else None
    network_click = None if index is None else (index, gap_s, click.event_type)
    return _Step(min(sequence + 1, MAX_SEQUENCE), partition, offset, now_ms, recent, False, network_click)


def _hidden_after(model: Model | None, befores: Sequence[UserState], steps: Sequence[_Step]) -> list[bytes]:
    """Give every user's hidden state under this model after the wave's click; empty where it knows nothing."""
    if model is None:
        return [b""] * len(steps)
    bundle = model.bundle
    hidden = [before.hidden if before.bundle == bundle else b"" for before in befores]
    # A state of another bundle is rebuilt from the recent clicks before this one, and then takes the click's step
    # like any other: the same arithmetic for everyone.
    stale = [row for row, before in enumerate(befores) if before.bundle != bundle and before.sequence]
    _fill(hidden, stale, model.rebuild([recent_clicks(befores[row]) for row in stale]) if stale else [])
    rows = [row for row, step in enumerate(steps) if step.network_click is not None]
    moves = [step.network_click for step in steps if step.network_click is not None]
    _fill(hidden, rows, model.step([hidden[row] for row in rows], moves) if rows else [])
    return hidden


def _fill(target: list[bytes], rows: Sequence[int], values: Sequence[bytes]) -> None:
    for row, value in zip(rows, values, strict=True):
        target[row] = value


def _rank(
    model: Model | None, popular: RankedList, hidden: Sequence[bytes], recent: Sequence[bytes], k: int
) -> list[RankedList]:
    ranked = [popular] * len(hidden)
    if model is not None:
        rows = [row for row, state in enumerate(hidden) if state]
        if rows:
            lists = model.rank([hidden[row] for row in rows], [recent[row] for row in rows], k)
            for row, shown in zip(rows, lists, strict=True):
                ranked[row] = shown
    return ranked


def _outcome(bundle: int, before: UserState, step: _Step, hidden: bytes, ranked: RankedList, item_hash: int) -> Outcome:
    sequence, partition, offset, last_click_ms, recent, skipped, _ = step
    flags = SHOWN_BY_NETWORK if hidden else 0
    state = UserState(bundle, sequence, partition, offset, last_click_ms, hidden, recent, ranked.shown, flags)
    if skipped:
        return Skipped(state, ranked)
    hit = was_shown(before, item_hash) if before.shown else None
    return Advanced(state, ranked, hit, bool(before.flags & SHOWN_BY_NETWORK))
