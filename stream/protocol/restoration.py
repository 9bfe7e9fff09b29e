"""How records of the changelog become local states. Asks no broker and has no clock.

Per user the state with the highest fence wins, whatever its place in the changelog: a late write of a worker that was
evicted loses.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nextclick.errors import CorruptStateError, PermanentError
from nextclick.newer import BEGIN_ANEW
from nextclick.settings import Settings
from nextclick.user_state import UserState, decode_state
from stream.protocol.port import StateStore

NO_FENCE = -1  # of a user without a state: below every offset


class ChangelogRecord(NamedTuple):
    """A record of the changelog: a user's state, or None where it was removed."""

    offset: int
    key: bytes
    state: bytes | None


@dataclass(slots=True)
class RestoredPartition:
    """How far one partition is restored.

    Attributes:
        next_offset: of the changelog, what is read next.
        end: what has to be reached.
        clicks_end: where the clicks of the partition end; None for a standby, whose clicks go on meanwhile.
        highest_fence: of the states in the local store.
        outdated: keys whose last record so far lost to an earlier one with a higher fence, and where that record is.
    """

    next_offset: int
    end: int
    clicks_end: int | None
    highest_fence: int
    outdated: dict[bytes, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many offsets are still to be read."""
        return max(0, self.end - self.next_offset)


def apply_records(
    settings: Settings,
    store: StateStore,
    partition: int,
    progress: RestoredPartition,
    records: Sequence[ChangelogRecord],
) -> None:
    """Write what was read to the local store, in one atomic batch.

    Args:
        settings: for messages.
        store: gets the states.
        partition: of the changelog.
        progress: is moved on.
        records: in log order, at least one.

    Raises:
        CorruptStateError: a record is no state of this partition.
        PermanentError: a state knows clicks that the clicks topic does not have; nothing is written.
        DamagedStore, OSError: the store cannot be used.
    """
    keys = list({record.key for record in records})
    stored = dict(zip(keys, store.get_many(partition, keys), strict=True))
    newest: dict[bytes, bytes | None] = {}
    for record, fence in judged(settings.changelog_topic, partition, stored, records):
        if fence is None:
            progress.outdated[record.key] = record.offset
            continue
        newest[record.key] = record.state
        progress.highest_fence = max(progress.highest_fence, fence)
        progress.outdated.pop(record.key, None)
    check_fence(settings, partition, progress)
    last = records[-1].offset
    # What has to be written again is read again until it is, whoever recovers the partition next.
    complete_to = min([last, *(offset - 1 for offset in progress.outdated.values())])
    store.put_many(partition, newest, complete_to, progress.highest_fence)
    progress.next_offset = last + 1


def judged(
    topic: str, partition: int, stored: Mapping[bytes, bytes | None], records: Iterable[ChangelogRecord]
) -> Iterator[tuple[ChangelogRecord, int | None]]:
    """Tell of every record whether it wins over what is known of its user before it.

    Args:
        topic: the changelog, for messages.
        partition: of the records.
        stored: by key, the state that is known before the first record.
        records: in log order.

    Yields:
        Each record and its fence, NO_FENCE where it removes a state; None instead where it loses.

    Raises:
        CorruptStateError: a record is no state of this partition.
    """
    fences = {key: NO_FENCE if data is None else decode_state(data).offset for key, data in stored.items()}
    for record in records:
        state = state_of(topic, partition, record)
        if state is not None and state.offset < fences[record.key]:
            yield record, None
            continue
        fences[record.key] = NO_FENCE if state is None else state.offset
        yield record, fences[record.key]


def state_of(topic: str, partition: int, record: ChangelogRecord) -> UserState | None:
    """Decode a record; None where a state was removed.

    Raises:
        CorruptStateError: it is no state of this partition.
    """
    if record.state is None:
        return None
    where = f"changelog {topic}, partition {partition}, offset {record.offset}"
    try:
        state = decode_state(record.state)
    except CorruptStateError as error:
        raise CorruptStateError(f"{where}: {error}") from error
    if state.partition != partition:
        raise CorruptStateError(f"{where} has a state of partition {state.partition}, which does not belong there")
    return state


def check_fence(settings: Settings, partition: int, progress: RestoredPartition) -> None:
    """Refuse states that know clicks which the clicks topic does not have: the next ones would be skipped.

    Raises:
        PermanentError: the fence is not below the end of the clicks.
    """
    if progress.clicks_end is not None and progress.highest_fence >= progress.clicks_end:
        raise lost_clicks_error(settings, partition, progress.highest_fence, progress.clicks_end)


def lost_clicks_error(settings: Settings, partition: int, fence: int, clicks_end: int) -> PermanentError:
    """Say that a state knows a click beyond the end of the clicks."""
    return PermanentError(
        f"the states of application {settings.app} know the click at offset {fence} of {settings.clicks_topic}, "
        f"partition {partition}, but that ends at {clicks_end}: the broker has lost clicks, and new ones would be "
        f"taken for known; {BEGIN_ANEW}: it reads what is left from the beginning"
    )


def first_offset(settings: Settings, partition: int, stored: int | None, range_of_changelog: tuple[int, int]) -> int:
    """Give the changelog offset from which a partition is read.

    Args:
        settings: for the message.
        partition: of the changelog.
        stored: the last offset up to which the local store has all; None for an empty store.
        range_of_changelog: the oldest offset, and the one after the newest.

    Raises:
        PermanentError: the changelog ends before what the local store has.
    """
    first, end = range_of_changelog
    if stored is not None and stored >= end:
        raise PermanentError(
            f"data_dir {settings.data_dir} was written with a changelog that had offset {stored} in partition "
            f"{partition}, but {settings.changelog_topic} at {settings.broker} ends at {end}: were the topics created "
            "anew? Delete the folder, or choose another with --set data_dir=PATH"
        )
    return max(first, stored + 1 if stored is not None else 0)


def outdated_states(store: StateStore, partition: int, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
    """Give the local states of keys whose changelog ends with an older one."""
    found = zip(keys, store.get_many(partition, keys), strict=True)
    return {key: data for key, data in found if data is not None}
