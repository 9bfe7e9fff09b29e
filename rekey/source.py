"""Reads the source as a member of the job's group. Where it goes on is what the group has committed, and that alone."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from nextclick.errors import NextclickError, TemporaryError
from nextclick.settings import Settings
from rekey.group import Group
from rekey.pulse import Pulse, Stopped
from rekey.topics import Route
from tools.client_config import consumer_config
from tools.group_member import GroupWatch, close_aside
from tools.kafka import Failure, OffsetRange, failure_of, is_partition_end
from tools.records import refuse_unreadable

_log = logging.getLogger(__name__)

MAX_RECORDS = 2_000  # of one read
POLL_S = 0.05  # records wait so long for others: most of what a record waits here
FETCHED_KB = 16 * 1024  # ahead of what is read, so that even records of a megabyte do not fill the memory
FULL_MS = 20  # the client looks again so soon whether there is room to fetch more
_PRESENT_S = 1.0  # for an answer that only shows that the broker is back


class Batch(NamedTuple):
    """What was read.

    Attributes:
        records: in log order per partition.
        moved: partitions that gave something.
        ends: by partition, the offset that is read next, where it is not committed yet: of those that moved, and of
            those of which nothing was committed so far.
    """

    records: list[Message]
    moved: set[int]
    ends: dict[int, int]


class Source:
    """The records of the held partitions. Used by one thread; callbacks of the client come within `read`.

    Attributes:
        has_joined: whether it has been a member of the group.
    """

    def __init__(self, settings: Settings, route: Route, pulse: Pulse, on_lost: Callable[[int], None]) -> None:
        """Join the group; blocks until the broker has answered.

        Args:
            settings: of the job.
            route: from where to where.
            pulse: looked at while the broker is waited for.
            on_lost: told how many offsets retention has removed before they were copied.

        Raises:
            NextclickError, Stopped: as `Group` does.
        """
        self._topic, self._n_partitions = route.source.topic, route.source.partitions
        self._presence = pulse.presence
        self._positions: dict[int, int] = {}  # by held partition, the offset that is read next
        self._uncommitted: dict[int, int] = {}  # where partitions begin of which nothing was committed yet
        self._was_taken = False
        self._failure: NextclickError | Stopped | None = None  # that a callback of the client has met
        self.has_joined = self._is_closing = False
        session_ms = int(settings.session_timeout_s * 1000)
        self._config = consumer_config(settings, f"{settings.app}-rekey") | {
            "auto.offset.reset": "error",  # records that are gone must be noticed, not jumped over
            "enable.partition.eof": True,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // 4,
            "queued.max.messages.kbytes": FETCHED_KB,
            "fetch.max.bytes": FETCHED_KB * 1024,
            "fetch.queue.backoff.ms": FULL_MS,
            "error_cb": pulse.presence.on_error,
        }
        self.group = Group(settings, route, pulse, on_lost)
        self._join()

    def _join(self) -> None:
        self._watch = GroupWatch()
        self._consumer = Consumer(self._config | self._watch.config)
        self._no_membership: bytes = self._consumer.consumer_group_metadata()
        self._consumer.subscribe([self._topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)

    def _join_anew(self) -> None:
        """Be another member, with nothing: what was read and not committed is read again by whoever gets it."""
        lost = self._consumer
        self._positions.clear()
        self._uncommitted.clear()
        self._join()  # first: what the lost one still says is nobody's then
        close_aside(lost)

    @property
    def n_partitions(self) -> int:
        """How many partitions are held."""
        return len(self._positions)

    def read(self) -> Batch:
        """Give what comes next, waiting for a moment.

        Raises:
            NextclickError: it cannot be read on.
            Stopped: the job is to end.
        """
        self._was_taken = False
        messages = self._consumer.consume(MAX_RECORDS, POLL_S)
        if self._failure is not None:
            raise self._failure
        if self._watch.is_lost(self._consumer):
            self._join_anew()
            return Batch([], set(), {})
        if self._was_taken:  # which of them are still to be copied here? Those that are read again.
            self.go_back({message.partition() for message in messages})
            messages = []
        batch = Batch([], set(), dict(self._uncommitted))
        for message in messages:
            partition, error, offset = message.partition(), message.error(), message.offset()
            if error is not None and not is_partition_end(error):
                refuse_unreadable(message)
                self._look_at(error, partition)
                continue
            position = self._positions.get(partition)
            if position is None or offset < position:  # not this instance's to copy, whatever the client still had
                continue
            if error is None:
                batch.records.append(message)
                self._move(batch, partition, offset + 1)
            elif offset > position:  # behind markers of transactions
                self._move(batch, partition, offset)
        if messages:
            self._presence.answered()
        return batch

    def _move(self, batch: Batch, partition: int, position: int) -> None:
        batch.moved.add(partition)
        batch.ends[partition] = self._positions[partition] = position

    def membership(self) -> bytes | None:
        """Give what a transaction needs to be this member's; None when it is none: ask at the last moment.

        A member that was put out of the group and was not told yet has an empty membership, and the broker would take
        that from anybody.
        """
        membership: bytes = self._consumer.consumer_group_metadata()
        return None if membership == self._no_membership else membership

    def places(self, ends: Mapping[int, int]) -> list[TopicPartition]:
        """Give offsets as a transaction commits them."""
        note = self.group.note
        return [TopicPartition(self._topic, partition, offset, note) for partition, offset in ends.items()]

    def committed(self, ends: Mapping[int, int]) -> None:
        """Note that offsets are committed.

        Raises:
            NextclickError, Stopped: as `Group` does.
        """
        firsts = [partition for partition in ends if self._uncommitted.pop(partition, None) is not None]
        if firsts:  # two jobs with unlike destinations that began at once: who looks later sees the other's
            self.group.committed(range(self._n_partitions))

    def go_back(self, partitions: Iterable[int]) -> None:
        """Read partitions that moved again, from where the group has committed; those that are not held are left out.

        Raises:
            TemporaryError: the client does not do it.
            NextclickError, Stopped: as `Group` does.
        """
        held = [partition for partition in partitions if partition in self._positions]
        for partition, offset in self.group.committed(held).items():
            if offset is None and partition not in self._uncommitted:
                raise TemporaryError(
                    f"the broker does not know any more what {self.group.name} has committed of {self._topic}, "
                    f"partition {partition}: was the topic created anew, or has the broker lost its data? Then start "
                    "the job again: it says what to do"
                )
            position = self._uncommitted[partition] if offset is None else offset
            if offset is not None:
                self._uncommitted.pop(partition, None)
            self._positions[partition] = position
            try:
                self._consumer.seek(TopicPartition(self._topic, partition, position))
            except KafkaException as error:
                raise TemporaryError(
                    f"partition {partition} of {self._topic} cannot be read again from offset {position}: "
                    f"{error.args[0].str()}; nothing is lost or doubled, start the job again"
                ) from error

    def has_copied(self, ranges: Mapping[int, OffsetRange]) -> bool:
        """Tell whether the group has committed all that some ranges hold, whoever of its members it was.

        Raises:
            NextclickError, Stopped: as `Group` does.
        """
        positions = self._positions
        if any(positions[partition] < found.end for partition, found in ranges.items() if partition in positions):
            return False
        wanted = [partition for partition, found in ranges.items() if found.first < found.end]
        return all((offset or 0) >= ranges[partition].end for partition, offset in self.group.committed(wanted).items())

    def lag(self) -> int:
        """Give how many records wait in the held partitions, as far as the client knows."""
        lag = 0
        for partition, position in self._positions.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
            lag += max(0, end - position)
        return lag

    def look_for_broker(self) -> None:
        """Notice a broker that is back though nothing comes."""
        try:
            self._consumer.list_topics(self._topic, timeout=_PRESENT_S)
        except KafkaException:
            return
        self._presence.answered()

    def close(self) -> None:
        """Leave the group, so that others get the partitions at once. Blocks while the broker is away."""
        self._is_closing = True
        self._consumer.close()
        self.group.close()

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Whatever goes wrong, the client gets its answer: without one it fetches from places of its own choice.
        # While it closes, to ask for what is committed could take longer than there is time to leave.
        if self._is_closing or consumer is not self._consumer:
            consumer.incremental_assign([])
            return
        try:
            self._take([place.partition for place in partitions])
        except (NextclickError, Stopped) as failure:
            self._failure = failure
            self._consumer.incremental_assign([])

    def _take(self, numbers: list[int]) -> None:
        self.group.refuse_other_topic()
        committed, ranges = self.group.committed(numbers), self.group.ranges(numbers)
        for number in numbers:
            self._positions[number] = self.group.begin(number, committed[number], ranges[number])
            if committed[number] is None:
                self._uncommitted[number] = self._positions[number]
            _log.info("partition %d goes on at %d of %d", number, self._positions[number], ranges[number].end)
        self._consumer.incremental_assign(self.places({number: self._positions[number] for number in numbers}))
        self.has_joined = True

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        self._was_taken = True
        for place in partitions:
            self._positions.pop(place.partition, None)
            self._uncommitted.pop(place.partition, None)

    def _look_at(self, error: KafkaError, partition: int) -> None:
        """Tell an error that ends the job from one that passes by itself."""
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise TemporaryError(
                f"the broker does not have offset {self._positions.get(partition)} of {self._topic}, partition "
                f"{partition}, any more; start the job again: it says what is lost, and goes on"
            )
        match failure_of(error):
            case Failure.REFUSED:
                raise self.group.refused(error)
            case Failure.GONE:
                self.group.refuse_other_topic()
            case Failure.PASSING:
                pass
