"""What the trainer decides: where reading begins and when to train. Pure: no clock, file or broker."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tools.kafka import OffsetRange

# A training's own clock begins when its process runs, not when it is due. Few clicks that have waited this much longer
# than `train_anew_every_s` are surely learnt anew; sooner they might be gone on with.
_BEGINS_WITHIN_S = 60.0


def start_positions(ends: Mapping[int, int], ranges: Mapping[int, OffsetRange], *, from_end: bool) -> dict[int, int]:
    """Give the offset to read first, for every partition.

    Args:
        ends: where the click log ends, for the partitions that it knows.
        ranges: what the topic holds.
        from_end: where a partition begins that the log does not know: at its end, or at the first click that it has.
    """
    return {
        partition: ends.get(partition, offsets.end if from_end else offsets.first)
        for partition, offsets in ranges.items()
    }


class LostClicks(NamedTuple):
    """Offsets, both inclusive, that the topic removed before they were logged."""

    partition: int
    first: int
    last: int


def lost_clicks(positions: Mapping[int, int], ranges: Mapping[int, OffsetRange]) -> list[LostClicks]:
    """Give what should be read next but is no longer there, by partition."""
    return [
        LostClicks(partition, positions[partition], offsets.first - 1)
        for partition, offsets in sorted(ranges.items())
        if positions.get(partition, offsets.first) < offsets.first
    ]


def lost_clicks_error(topic: str, lost: Sequence[LostClicks]) -> PermanentError:
    """Name every range that was lost, and the way on."""
    lost_ranges = ", ".join(f"{first} to {last} of partition {partition}" for partition, first, last in lost)
    return PermanentError(
        f"the retention of the topic {topic} removed clicks before they were logged: {lost_ranges}. "
        "`nextclick train --skip-lost` goes on without them; raise retention.ms of the topic, or run the trainer more "
        "often"
    )


def n_not_logged(ends: Mapping[int, int], logged: Mapping[int, int]) -> int:
    """Count the records that a topic has behind the end of the log.

    Args:
        ends: of the topic's partitions, when somebody looked last.
        logged: for each partition the first record that is not in the log; can be ahead of `ends`.
    """
    return sum(max(0, end - logged.get(partition, end)) for partition, end in ends.items())


def check_same_topic(topic: str, positions: Mapping[int, int], ranges: Mapping[int, OffsetRange]) -> None:
    """Check that positions can belong to the topic as it is: offsets only grow, and partitions do not go away.

    Raises:
        PermanentError: the topic was created anew: its offsets would be taken for clicks that are known.
    """
    remedy = (
        "was it created anew? Move the click log away, or choose a new one with --set log_dir=PATH (where it is in an "
        "object store, with --set click_log=ADDRESS): it begins with the clicks that the topic has now"
    )
    for partition, position in sorted(positions.items()):
        offsets = ranges.get(partition)
        if offsets is None:
            raise PermanentError(
                f"the click log has clicks of partition {partition} of the topic {topic}, which has only the "
                f"partitions {', '.join(map(str, sorted(ranges)))}; {remedy}"
            )
        if offsets.end < position:
            raise PermanentError(
                f"the click log reaches offset {position} of partition {partition} of the topic {topic}, which ends "
                f"at {offsets.end}; {remedy}"
            )


class Progress(NamedTuple):
    """Where the trainer stands.

    Attributes:
        clicks: in the log, with those that wait to be written.
        clicks_at_last_training: those of them that were there when the last training began; 0 before the first.
        s_since_last_training: since the last training began.
    """

    clicks: int
    clicks_at_last_training: int
    s_since_last_training: float


def training_is_due(progress: Progress, settings: Settings) -> bool:
    """Train as soon as there are enough clicks, then by time and by new clicks.

    A log that has doubled is trained on at once, so that a young model learns quickly, and a backlog that is still
    being read does not leave the model of its first clicks in use for long. Few new clicks wait for others, but not
    for longer than until everything is learnt anew.
    """
    if progress.clicks < settings.min_clicks:
        return False
    new_clicks, waited_s = progress.clicks - progress.clicks_at_last_training, progress.s_since_last_training
    is_long_ago = waited_s >= max(settings.train_every_s, settings.train_anew_every_s + _BEGINS_WITHIN_S)
    return (
        (new_clicks >= settings.train_least_clicks and waited_s >= settings.train_every_s)
        or (new_clicks > 0 and is_long_ago)
        or new_clicks >= settings.train_every_clicks
        or new_clicks >= progress.clicks_at_last_training
    )
