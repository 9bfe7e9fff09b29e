"""Brings an application whose clicks topic has grown to the new number of partitions. The order of the steps:

1. The note in the changelog says with how many partitions the states were made; the topic has more. Workers compare the
   two whenever they start or get partitions, and refuse: nobody answers clicks until the last step.
2. The writer takes its name: an earlier run of this command, paused or killed, writes nothing from now on.
3. The consumer group has no members. Whoever joins it later meets step 1.
4. No producer has put a click where the old number puts it for as long as producers may take to hear of the new one.
5. The topics that must have as many partitions grow.
6. The plan is written: from where to where clicks are copied. It stands in the first new partition of the changelog,
   before any state, and a later run goes on with it, also when the topic has grown again.
7. The unanswered clicks are copied to where they belong, in transactions that note how far they have come. No state has
   changed by now, so the fences tell which of them the states contain (`clicks`).
8. The states are written anew, each with a fence at the end of the plan (`states`). Which of them are done can be seen
   from themselves.
9. One transaction notes the new number and lets the group go on where the plan ends. Workers may start.

Killed anywhere and run again it comes to the same end: 1 to 5 change nothing that matters, and 6 to 9 are transactions.
"""

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from nextclick.errors import PermanentError, TemporaryError
from nextclick.newer import BEGIN_ANEW
from nextclick.settings import Settings
from stream.protocol.port import Place
from stream.protocol.reader import log_lost, start_position
from stream.repartition.clicks import copy_clicks, read_fences, write_plan
from stream.repartition.log import FencedWriter, read_batches
from stream.repartition.plan import Homes, Plan
from stream.repartition.producers import refuse_old_producers
from stream.repartition.states import move_states
from stream.topics.identity import IDENTITY_KEY, REPARTITION_KEY, is_note, read_identity, refuse_other_topic
from stream.topics.topics import Topics
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import (
    ANSWER_S,
    Failure,
    OffsetRange,
    TopicIdentity,
    answer_of,
    answers,
    describe_topic,
    failure_of,
    offset_ranges,
)

_log = logging.getLogger(__name__)

LOOK_S = 0.2
LEAVING_S = 5.0  # beyond the session timeout: when the group has forgotten a worker that was killed


class Repartitioned(NamedTuple):
    """What was done.

    Attributes:
        before: how many partitions there were.
        after: how many there are.
        clicks: how many were copied.
        states: how many were written anew.
    """

    before: int
    after: int
    clicks: int
    states: int


def repartition(settings: Settings, producers_refresh_s: float) -> list[Repartitioned]:
    """Do what there is to do; blocks for as long as it takes.

    Args:
        settings: of the application.
        producers_refresh_s: how long producers may go on with an old number of partitions; 0 believes that all know.

    Returns:
        What was done, growth by growth; empty if the topic has not grown.

    Raises:
        PermanentError: the topics, the states or the settings do not allow it.
        TemporaryError: workers or producers, or the brokers, are not ready; run it again.
    """
    try:
        return _Repartition(settings, producers_refresh_s).run()
    except KafkaException as error:
        raise _explained(settings, error.args[0]) from error
    except OSError as error:
        raise PermanentError(
            f"data_dir {settings.data_dir} cannot be written: {error.strerror or error}; free some space there, or "
            "choose another with --set data_dir=PATH, and run it again"
        ) from error


class _Repartition:
    def __init__(self, settings: Settings, producers_refresh_s: float) -> None:
        self._settings = settings
        self._producers_refresh_s = producers_refresh_s
        self._admin = AdminClient(librdkafka_config(settings))

    def run(self) -> list[Repartitioned]:
        settings = self._settings
        done: list[Repartitioned] = []
        writer: FencedWriter | None = None
        while True:
            now = describe_topic(self._admin, settings.clicks_topic)
            noted = self._noted(now)
            if noted.partitions == now.partitions:
                Topics(settings).check()
                return done
            if settings.partitioner == "none" or settings.key_format != "text" or not settings.check_key:
                raise PermanentError(
                    "repartition moves users to where their ids belong as keys, and with partitioner=none, "
                    "check_key=false or another key_format than text nobody knows where that is; "
                    f"{BEGIN_ANEW}: it makes its states from the clicks"
                )
            writer = writer or FencedWriter(settings)
            self._wait_for_empty_group()
            done.append(self._grow(noted, now, writer))

    def _noted(self, now: TopicIdentity) -> TopicIdentity:
        noted, _ = read_identity(self._settings)
        if noted is None:
            raise PermanentError(
                f"the topic {self._settings.changelog_topic} does not say with how many partitions its states were "
                "made; run `nextclick topics`, which takes them for made with as many as there are"
            )
        refuse_other_topic(self._settings, noted, msgspec.structs.replace(now, partitions=noted.partitions))
        return noted

    def _grow(self, noted: TopicIdentity, now: TopicIdentity, writer: FencedWriter) -> Repartitioned:
        """Bring the application from the noted number of partitions to the plan's, or to the present one."""
        settings = self._settings
        plan = self._plan_in_hand(noted.partitions)
        if plan is None:
            homes = Homes(settings.partitioner, noted.partitions, now.partitions)
            refuse_old_producers(settings, homes, self._producers_refresh_s)
            self._add_partitions(now.partitions)
            plan = self._new_plan(noted.partitions, now.partitions)
            writer.wait_for_partitions(settings.changelog_topic, now.partitions)
            with writer.transaction():
                write_plan(settings, plan, writer)
        else:
            homes = Homes(settings.partitioner, plan.before, plan.partitions)
        writer.wait_for_partitions(settings.clicks_topic, plan.partitions)
        fields = {"from": plan.before, "to": plan.partitions, "clicks": plan.clicks_left}
        _log.info("repartitioning", extra={"fields": fields})
        changelog = offset_ranges(self._admin, settings.changelog_topic, range(plan.before))
        n_clicks = 0
        if plan.copied_to != plan.ends:
            n_clicks = copy_clicks(settings, plan, homes, writer, read_fences(settings, plan, homes, changelog))
        n_states = move_states(settings, plan, homes, writer, changelog)
        with writer.transaction():
            identity = msgspec.structs.replace(noted, partitions=plan.partitions)
            writer.write(settings.changelog_topic, plan.before, IDENTITY_KEY, msgspec.json.encode(identity))
            writer.commit_group(settings.clicks_topic, plan.ends)
        return Repartitioned(plan.before, plan.partitions, n_clicks, n_states)

    def _wait_for_empty_group(self) -> None:
        """Return when no worker is in the group: one that was killed is in it for its session timeout.

        Raises:
            TemporaryError: there are still some.
        """
        group = self._settings.app
        end_s = time.monotonic() + self._settings.session_timeout_s + LEAVING_S
        while True:
            described = answers(lambda: self._admin.describe_consumer_groups([group], request_timeout=ANSWER_S))[group]
            if described.state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD):
                return
            if time.monotonic() > end_s:
                raise TemporaryError(
                    f"the consumer group {group} has {len(described.members)} members: stop all workers of application "
                    f"{group}, and run it again"
                )
            time.sleep(LOOK_S)

    def _plan_in_hand(self, before: int) -> Plan | None:
        """Give the plan that a run before this one has begun with: the notes at the head of the first new partition."""
        settings = self._settings
        if describe_topic(self._admin, settings.changelog_topic).partitions <= before:
            return None
        plan = None
        ranges = offset_ranges(self._admin, settings.changelog_topic, [before])
        for batch in read_batches(settings, settings.changelog_topic, ranges):
            for message in batch:
                if not is_note(message.key()):
                    return plan
                if message.key() == REPARTITION_KEY:
                    plan = msgspec.json.decode(message.value() or b"", type=Plan)
        return plan

    def _new_plan(self, before: int, partitions: int) -> Plan:
        settings = self._settings
        clicks = offset_ranges(self._admin, settings.clicks_topic, range(partitions))
        starts = {
            partition: self._unanswered_from(partition, committed, clicks[partition], is_new=partition >= before)
            for partition, committed in self._committed(range(partitions)).items()
        }
        ends = {partition: offsets.end for partition, offsets in clicks.items()}
        return Plan(before, partitions, ends, starts)

    def _committed(self, partitions: range) -> Mapping[int, int | None]:
        settings = self._settings
        consumer = Consumer(consumer_config(settings, settings.app))
        try:
            places = consumer.committed([TopicPartition(settings.clicks_topic, p) for p in partitions], ANSWER_S)
        finally:
            consumer.close()
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: place.offset if place.offset >= 0 else None for place in places}

    def _unanswered_from(self, partition: int, committed: int | None, clicks: OffsetRange, *, is_new: bool) -> int:
        """Give the offset where a worker would go on, as it does."""
        if committed is None and is_new:
            return clicks.first
        on_lost = partial(log_lost, self._settings.clicks_topic)
        return start_position(self._settings, partition, Place(committed, clicks.first, clicks.end), on_lost)

    def _add_partitions(self, partitions: int) -> None:
        """Let the topics grow that have as many partitions as the clicks topic, and wait until they can be used."""
        settings = self._settings
        for topic in (settings.changelog_topic, settings.recommendations_topic, settings.rejected_topic):
            found = describe_topic(self._admin, topic).partitions
            if found > partitions:
                raise PermanentError(
                    f"topic {topic} has {found} partitions, more than the {partitions} of {settings.clicks_topic}, and "
                    f"no topic shrinks: let {settings.clicks_topic} grow to as many, and run it again"
                )
            if found < partitions:
                answer_of(self._admin.create_partitions([NewPartitions(topic, partitions)])[topic])
                self._wait_until_grown(topic, partitions)

    def _wait_until_grown(self, topic: str, partitions: int) -> None:
        end_s = time.monotonic() + ANSWER_S
        while describe_topic(self._admin, topic).partitions < partitions:
            if time.monotonic() > end_s:
                raise TemporaryError(f"topic {topic} did not get its {partitions} partitions in time; run it again")
            time.sleep(LOOK_S)
        offset_ranges(self._admin, topic, range(partitions))  # answers when all have leaders


def _explained(settings: Settings, error: KafkaError) -> PermanentError | TemporaryError:
    if error.code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED):
        return TemporaryError("another `nextclick repartition` of this application has begun, and goes on")
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return PermanentError(f"a topic is not there at {settings.broker} ({error.str()}); run `nextclick topics`")
    if failure_of(error) is Failure.REFUSED and not error.txn_requires_abort():
        return PermanentError(f"the broker at {settings.broker} refuses: {error.str()}; correct it, and run it again")
    return TemporaryError(
        f"the broker at {settings.broker} does not do what it is asked: {error.str()}; nothing is lost, run it again"
    )
