"""What the topics hold, read to their present end. Judges nothing."""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from nextclick.advance import LoggedClick, UserKey
from nextclick.clicks import Click
from nextclick.errors import CorruptStateError
from nextclick.hashing import item_hash
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate, Source
from nextclick.user_state import UserState, decode_state
from stream.topics.identity import is_note
from tests.chaos.eras import ERA, Eras, Place
from tools.client_config import consumer_config
from tools.kafka import Failure, failure_of
from tools.update_formats import update_decoder

ANSWER_S = 30.0  # a broker that has just come back takes a while until it leads its partitions again


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is needed to judge a run; every list in log order per partition. Places of clicks, and fences, are those
    of one log per user (see `eras`).

    Attributes:
        clicks: the valid ones.
        bad: places of the records that no worker can use.
        updates: all that left, but for those that a growth has undone.
        undone: places of updates whose clicks were applied anew behind later ones, when the topic had grown.
        states: every state in the changelog, not only the newest of a user.
        corrupt: places in the changelog of records that are no states.
        rejected: for each dead letter, where its original stands.
        real: the records that places of the one log stand for, where they differ.
    """

    clicks: list[LoggedClick]
    bad: list[Place]
    updates: list[RecommendationUpdate]
    states: list[tuple[UserKey, UserState]]
    corrupt: list[Place]
    rejected: list[Place]
    real: Mapping[Place, Place] = field(default_factory=dict)
    undone: list[Place] = field(default_factory=list)


def gather(settings: Settings) -> Evidence:
    """Read everything."""
    log = _Log(settings)
    clicks, bad = log.clicks()
    states, corrupt = log.states(clicks)
    updates, undone = log.updates()
    return Evidence(clicks, bad, updates, states, corrupt, log.rejected(), log.eras.real_places, undone)


def read_clicks(settings: Settings) -> tuple[list[LoggedClick], list[Place]]:
    """Give the valid clicks, and where the others are."""
    return _Log(settings).clicks()


def read_updates(settings: Settings) -> list[RecommendationUpdate]:
    """Give every update, but for those that a growth has undone."""
    return _Log(settings).updates()[0]


def logged_clicks(user: UserKey, offset: int, timestamp_ms: int, clicks: Sequence[Click]) -> list[LoggedClick]:
    """Give the clicks of a record as they stand in the log."""
    return [
        LoggedClick(user, offset, timestamp_ms, click, item_hash(click.item_id), place=place)
        for place, click in enumerate(clicks)
    ]


class _Log:
    """The topics of an application, with the places of the one log of each user."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clicks = read_topic(settings, settings.clicks_topic)
        n_partitions = count_partitions(settings, settings.clicks_topic)
        self.eras = Eras.of(settings, n_partitions, read_heads(settings, settings.changelog_topic), self._clicks)

    def clicks(self) -> tuple[list[LoggedClick], list[Place]]:
        """Give the valid clicks, and where the others are."""
        settings, eras = self._settings, self.eras
        decode, now_ms = click_decoder(ClickSchema.of(settings)), int(time.time() * 1000)
        clicks: list[LoggedClick] = []
        bad: list[Place] = []
        for message in self._clicks:
            place, key = (message.partition(), message.offset()), message.key()
            if eras.counted(place) != place:
                continue
            timestamp_ms = message.timestamp()[1]
            decoded = decode(key, message.value(), None, timestamp_ms, now_ms)
            if not isinstance(decoded, tuple) or not eras.is_home(place, key):
                bad.append(place)
                continue
            partition, offset = eras.lasting(place, key)
            clicks += logged_clicks((partition, key), offset, timestamp_ms, decoded)
        return sorted(clicks, key=lambda click: (click.user[0], click.offset, click.place)), bad

    def updates(self) -> tuple[list[RecommendationUpdate], list[Place]]:
        """Give every update, the eras one after another, without those that a growth has undone; and where these stand.

        An update can be there though its state is not: its worker ended in between. Where the topic grows then, the
        click is copied behind clicks that came to the new partition directly, and has another sequence there.
        """
        updates, undone, decode_update = [], [], update_decoder(self._settings)
        for message in read_topic(self._settings, self._settings.recommendations_topic):
            update = decode_update(message.value())
            source = (update.source.partition, update.source.offset)
            if self.eras.is_undone(source):
                undone.append(source)
                continue
            partition, offset = self.eras.lasting(source, message.key())
            lasting = msgspec.structs.replace(update, source=Source(partition, offset))
            updates.append((self.eras.era(source), lasting))
        return [update for _, update in sorted(updates, key=lambda each: each[0])], undone

    def states(self, clicks: Sequence[LoggedClick]) -> tuple[list[tuple[UserKey, UserState]], list[Place]]:
        """Give every state in the changelog, the eras one after another, and where the records are that are none.

        A state that a repartition wrote has the fence of its user's last click before it: more it must not know.
        """
        states: list[tuple[int, UserKey, UserState]] = []
        corrupt: list[Place] = []
        offsets: defaultdict[bytes, list[int]] = defaultdict(list)
        for click in clicks:
            offsets[click.user[1]].append(click.offset)
        for message in read_topic(self._settings, self._settings.changelog_topic):
            key, value = message.key(), message.value()
            if is_note(key) or value is None:
                continue
            try:
                state = decode_state(value)
            except CorruptStateError:
                corrupt.append((message.partition(), message.offset()))
                continue
            era = self.eras.moved_in(key, state)
            partition, offset = self.eras.lasting((state.partition, state.offset), key)
            if era is not None:
                known = bisect_left(offsets[key], era * ERA)
                offset = offsets[key][known - 1] if known else -1
            written = era if era is not None else self.eras.era((state.partition, state.offset))
            states.append((written, (partition, key), state._replace(partition=partition, offset=offset)))
        return [(user, state) for _, user, state in sorted(states, key=lambda each: each[0])], corrupt

    def rejected(self) -> list[Place]:
        """Give, for each dead letter, the place that its headers name."""
        messages = read_topic(self._settings, self._settings.rejected_topic)
        headers = [dict(message.headers()) for message in messages]
        return [self.eras.counted((int(header["partition"]), int(header["offset"]))) for header in headers]


def read_heads(settings: Settings, topic: str) -> list[Message]:
    """Give the first record of each partition that has one."""
    consumer = Consumer(consumer_config(settings, "reader") | {"enable.partition.eof": True})
    try:
        partitions = set(_asked_again(lambda: consumer.list_topics(topic, ANSWER_S)).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        heads: list[Message] = []
        while partitions:
            message = consumer.poll(ANSWER_S)
            if message.partition() in partitions:
                partitions.discard(message.partition())
                heads += [message] if message.error() is None else []
        return heads
    finally:
        consumer.close()


def read_topic(settings: Settings, topic: str) -> list[Message]:
    """Give every record of a topic up to its present end, by partition and offset."""
    with closing(TopicReader(settings)) as reader:
        return reader.read(topic)


def count_records(settings: Settings, topic: str) -> int:
    """Give the number of records that a topic has had so far."""
    with closing(TopicReader(settings)) as reader:
        return reader.count(topic)


class TopicReader:
    """Reads topics with one client, which rides over an outage of the broker. Close it."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(consumer_config(settings, "reader") | {"reconnect.backoff.max.ms": 500})

    def count(self, topic: str) -> int:
        """Give the number of records that a topic has had so far."""
        return sum(self._ends(topic).values())

    def read(self, topic: str) -> list[Message]:
        """Give every record of a topic up to its present end, by partition and offset."""
        ends = self._ends(topic)
        partitions = [TopicPartition(topic, partition, 0) for partition in ends]
        self._consumer.assign(partitions)
        messages: list[Message] = []
        while any(max(at.offset, 0) < ends[at.partition] for at in self._consumer.position(partitions)):
            messages += [message for message in self._consumer.consume(5_000, 0.05) if message.error() is None]
        self._consumer.unassign()
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))

    def close(self) -> None:
        """Let go of the client."""
        self._consumer.close()

    def _ends(self, topic: str) -> dict[int, int]:
        partitions = _asked_again(lambda: self._consumer.list_topics(topic, ANSWER_S)).topics[topic].partitions
        return {partition: self._end(topic, partition) for partition in partitions}

    def _end(self, topic: str, partition: int) -> int:
        place = TopicPartition(topic, partition)
        end: int = _asked_again(lambda: self._consumer.get_watermark_offsets(place, ANSWER_S))[1]
        return end


def _asked_again(ask: Callable[[], Any]) -> Any:
    """Ask again where a broker that has just come back drops a connection, or does not lead its partitions yet."""
    give_up_s = time.monotonic() + ANSWER_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if failure_of(error.args[0]) is Failure.REFUSED or time.monotonic() > give_up_s:
                raise
        time.sleep(0.1)


def count_partitions(settings: Settings, topic: str) -> int:
    """How many partitions a topic has now."""
    consumer = Consumer(consumer_config(settings, "reader"))
    try:
        return len(_asked_again(lambda: consumer.list_topics(topic, ANSWER_S)).topics[topic].partitions)
    finally:
        consumer.close()
