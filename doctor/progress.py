"""How far workers and trainer are: their groups, what waits, and whether what they read next is still there."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from doctor.findings import Finding, Level, plural, refusal
from nextclick.errors import PermanentError
from nextclick.newer import BEGIN_ANEW
from nextclick.settings import Settings
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, OffsetRange, TopicIdentity, answer_of, offset_ranges
from training.service.click_log import ClickLog
from training.service.decisions import check_same_topic, lost_clicks, lost_clicks_error
from training.service.log_owner import LogOwner, refuse_other_owner

_WORKERS, _TRAINER = "workers", "trainer"
_BACKLOG = 10_000  # records: seconds of work
_SETTLED = (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)


class Group(NamedTuple):
    """A consumer group as the broker describes it.

    Attributes:
        members: in it now.
        is_settled: whether its members have their partitions.
        committed: partition to the offset that is read next; without those that have none.
    """

    members: int
    is_settled: bool
    committed: Mapping[int, int]


def check_progress(settings: Settings, clicks: TopicIdentity) -> list[Finding]:
    """Say who runs and how far they are.

    Raises:
        KafkaException: the broker does not answer, or refuses.
    """
    admin = AdminClient(librdkafka_config(settings))
    ranges = offset_ranges(admin, clicks.topic, range(clicks.partitions))
    committed = _committed(admin, settings.app, clicks)
    workers = _describe(admin, settings.app)._replace(committed=committed)
    trainers = _describe(admin, f"{settings.app}-trainer")
    return [*worker_findings(settings, workers, ranges), *_trainer(settings, trainers, clicks, ranges)]


def worker_findings(settings: Settings, group: Group, ranges: Mapping[int, OffsetRange]) -> list[Finding]:
    """Say what the workers' group tells.

    Args:
        settings: of the application.
        group: of the workers.
        ranges: what the clicks topic holds.
    """
    topic, committed = settings.clicks_topic, group.committed
    findings = []
    running = f"{plural(group.members, 'worker')} in the group {settings.app}" if group.members else "no worker runs"
    if not group.is_settled:
        running += ", which share out the partitions just now"
    if not committed:
        n_records = sum(end - first for first, end in ranges.values())
        begin = f"all {n_records:,} that the topic has" if settings.start == "earliest" else "those that come from then"
        found = f"{running}; no click was applied yet: a worker begins with {begin}"
        findings.append(Finding(Level.NOTE, _WORKERS, found, "" if group.members else "run `nextclick stream`"))
        return findings
    lag = sum(ranges[each].end - max(offset, ranges[each].first) for each, offset in committed.items())
    level = Level.OK if group.members and lag < _BACKLOG else Level.NOTE
    advice = "" if group.members else "run `nextclick stream`"
    findings.append(Finding(level, _WORKERS, f"{running}; {plural(lag, 'record')} of {topic} wait", advice))
    return [*findings, *_out_of_range(topic, committed, ranges)]


def _out_of_range(topic: str, committed: Mapping[int, int], ranges: Mapping[int, OffsetRange]) -> list[Finding]:
    """Say whether what is read next is still there, and is there at all."""
    findings = []
    lost = {each: ranges[each].first - offset for each, offset in committed.items() if offset < ranges[each].first}
    if lost:
        findings.append(
            Finding(
                Level.WARNING,
                _WORKERS,
                f"retention removed up to {sum(lost.values()):,} records of {topic} before they were applied, in "
                f"{plural(len(lost), 'partition')}",
                "raise retention.ms of the topic, and run more workers or run them longer",
            )
        )
    beyond = sorted(each for each, offset in committed.items() if offset > ranges[each].end)
    if beyond:
        findings.append(
            Finding(
                Level.ERROR,
                _WORKERS,
                f"the group has read further than partition {beyond[0]} of {topic} goes: the topic lost records, or "
                "was created anew",
                f"{BEGIN_ANEW}: its states start anew",
            )
        )
    return findings


def _trainer(
    settings: Settings, group: Group, clicks: TopicIdentity, ranges: Mapping[int, OffsetRange]
) -> list[Finding]:
    running = "a trainer runs" if group.members else "no trainer runs"
    if group.members > 1:
        running = f"{group.members} trainers run, of which one works"
    if not os.path.isdir(settings.log_dir):
        found = f"{running}; there is no click log at {settings.log_dir} on this machine yet"
        advice = "" if group.members else "run `nextclick train`"
        return [Finding(Level.NOTE, _TRAINER, found, advice)]
    try:
        log = ClickLog(settings.log_dir)
        refuse_other_owner(settings.log_dir, log.owner, LogOwner(settings.app, clicks))
        check_same_topic(clicks.topic, log.ends, ranges)
    except PermanentError as error:
        return [refusal(_TRAINER, str(error))]
    lost = lost_clicks(log.ends, ranges)
    if lost:
        return [refusal(_TRAINER, str(lost_clicks_error(clicks.topic, lost)))]
    wait = sum(offsets.end - log.ends.get(each, offsets.first) for each, offsets in ranges.items())
    enough = "" if log.n_clicks >= settings.min_clicks else f", of {settings.min_clicks:,} for the first training"
    found = f"{running}; the click log has {plural(log.n_clicks, 'click')}{enough}, and {plural(wait, 'record')} wait"
    level = Level.OK if group.members else Level.NOTE
    return [Finding(level, _TRAINER, found, "" if group.members else "run `nextclick train`")]


def _describe(admin: AdminClient, group: str) -> Group:
    """Describe a group, but for its offsets; one that nobody was ever in is empty.

    Raises:
        KafkaException: the broker does not answer, or refuses.
    """
    [described] = admin.describe_consumer_groups([group], request_timeout=ANSWER_S).values()
    try:
        answer = answer_of(described)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
        return Group(0, True, {})
    return Group(len(answer.members), answer.state in _SETTLED, {})


def _committed(admin: AdminClient, group: str, clicks: TopicIdentity) -> dict[int, int]:
    """Give where a group reads on in the partitions that the clicks topic has.

    Raises:
        KafkaException: the broker does not answer, or refuses.
    """
    [future] = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_S
    ).values()
    return {
        place.partition: place.offset
        for place in answer_of(future).topic_partitions
        if place.topic == clicks.topic and place.partition < clicks.partitions and place.offset >= 0
    }
