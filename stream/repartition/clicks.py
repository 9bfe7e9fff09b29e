"""Copies the clicks that are not answered yet to where they belong now. Blocks.

All of them are copied, also those of users who stay: so a user's clicks keep their order, and the group simply goes on
behind the originals.
"""

import itertools
from collections.abc import Mapping

import msgspec
from confluent_kafka import Message

from nextclick.clicks import APPLIED_HEADER, FORWARDED_HEADER, MAX_VALUE_BYTES
from nextclick.errors import PermanentError
from nextclick.settings import Settings
from stream.protocol.restoration import lost_clicks_error, state_of
from stream.repartition.log import FencedWriter, Progress, read_batches, read_merged
from stream.repartition.plan import Homes, Plan
from stream.repartition.states import changelog_records
from stream.topics.identity import REPARTITION_KEY
from tools.kafka import OffsetRange
from tools.records import Header, headers_of

COPIES = 5_000  # in one transaction
MOST_BYTES = MAX_VALUE_BYTES + 1  # a longer record is no click, and stays none when it is cut
MIN_SAMPLE, MAX_SAMPLE = 100, 10_000  # users by whom the partitioner is judged

Fences = Mapping[tuple[int, bytes], int]  # partition and key to the offset of the last click that the state knows


def read_fences(settings: Settings, plan: Plan, homes: Homes, ranges: Mapping[int, OffsetRange]) -> Fences:
    """Find the users whose states know clicks that are to be copied: a worker died between its results and its commit.

    Args:
        settings: of the application.
        plan: what is going to be copied.
        homes: to see whether the partitioner is the one that the states were made with.
        ranges: of the changelog.

    Returns:
        Their fences; of all other users no click that is copied is applied.

    Raises:
        PermanentError: the states are not where the partitioner puts them, or know clicks that the topic does not have.
        CorruptStateError: a record is no state of its partition.
    """
    fences: dict[tuple[int, bytes], int] = {}
    at_home: dict[tuple[int, bytes], bool] = {}
    progress = Progress("reading states", sum(end - first for first, end in ranges.values()))
    for batch in read_batches(settings, settings.changelog_topic, ranges):
        progress.add(len(batch))
        for partition, record in changelog_records(batch):
            user = (partition, record.key)
            state = state_of(settings.changelog_topic, partition, record)
            if state is None:
                fences.pop(user, None)
                at_home.pop(user, None)
                continue
            if len(at_home) < MAX_SAMPLE:
                at_home[user] = user[0] in homes.of(user[1])
            if state.offset >= plan.ends[user[0]]:
                raise lost_clicks_error(settings, partition, state.offset, plan.ends[partition])
            if state.offset >= plan.copied_to[user[0]]:
                fences[user] = max(state.offset, fences.get(user, -1))
    n_elsewhere = sum(not is_home for is_home in at_home.values())
    if len(at_home) >= MIN_SAMPLE and n_elsewhere > len(at_home) // 10:
        raise PermanentError(
            f"{n_elsewhere} of {len(at_home)} states in {settings.changelog_topic} are not where the setting "
            f"partitioner={settings.partitioner} puts their users: set the one that the producers of clicks use"
        )
    return fences


def copy_clicks(settings: Settings, plan: Plan, homes: Homes, writer: FencedWriter, fences: Fences) -> int:
    """Copy what the plan has left, oldest first; each transaction also notes how far it has come.

    Returns:
        How many were copied.

    Raises:
        TemporaryError, KafkaException: the clicks cannot be read or written; run it again.
    """
    topic = settings.clicks_topic
    ranges = {partition: OffsetRange(plan.copied_to[partition], end) for partition, end in plan.ends.items()}
    progress = Progress("copying clicks", plan.clicks_left)
    clicks = read_merged(settings, topic, ranges)
    n_copied = 0
    while batch := list(itertools.islice(clicks, COPIES)):
        plan = plan.copied({message.partition(): message.offset() + 1 for message in batch})
        with writer.transaction():
            for message in batch:
                is_applied = message.offset() <= fences.get((message.partition(), message.key()), -1)
                destination = homes.destination(message.partition(), message.key())
                writer.copy(message, destination, _headers(message, is_applied=is_applied), MOST_BYTES)
            write_plan(settings, plan, writer)
        n_copied += len(batch)
        progress.add(len(batch))
    with writer.transaction():  # what is left are markers of transactions
        write_plan(settings, plan.copied(plan.ends), writer)
    return n_copied


def write_plan(settings: Settings, plan: Plan, writer: FencedWriter) -> None:
    """Note a plan, or how far it has come, in the first partition of the changelog that is new."""
    writer.write(settings.changelog_topic, plan.before, REPARTITION_KEY, msgspec.json.encode(plan))


def _headers(message: Message, *, is_applied: bool) -> list[Header]:
    """Give the headers of a copy: the record's own, where it stood, and whether only its answer is due."""
    kept: list[Header] = [(name, value) for name, value in headers_of(message) if name != FORWARDED_HEADER]
    kept.append((FORWARDED_HEADER, b"%d/%d" % (message.partition(), message.offset())))
    if is_applied and all(name != APPLIED_HEADER for name, _ in kept):
        kept.append((APPLIED_HEADER, b"1"))
    return kept
