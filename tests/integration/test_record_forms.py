"""Every form in which producers write clicks, through worker and trainer."""

import asyncio
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from nextclick.settings import Settings
from stream.states.changelog_reader import ChangelogReader
from tests.protocol.memory_port import MemoryStore
from tests.record_forms import CODECS, CREATE_TIME, LOG_APPEND_TIME, forms_in_log
from tests.trainers import QUICK, logged_offsets, start_logging, wait_until_logged
from tools.client_config import librdkafka_config, producer_config
from training.service.click_log import ClickLog

ANSWER_S = 30.0
HOUR_MS = 3_600_000
CLICKS = 2  # of each user
SOME_DAY_S = 1_764_000_000  # in November 2025, in seconds where milliseconds are meant
HEADERS: dict[str, list[tuple[str, bytes | None]]] = {
    "none": [],
    "null": [("trace", None)],
    "empty": [("trace", b"")],
    "large": [("trace", b"x" * 5_000), ("other", None)],
}


@dataclass
class Written:
    """What is in the log.

    Attributes:
        committed: partition and offset of each click that must be applied, with its user.
        wrong_times: of those whose record's time is in seconds.
    """

    committed: dict[tuple[int, int], str] = field(default_factory=dict)
    wrong_times: set[tuple[int, int]] = field(default_factory=set)


class ClickWriter:
    """Writes clicks in one codec, plainly and in transactions that are committed and aborted."""

    def __init__(self, settings: Settings, codec: str, written: Written) -> None:
        config = producer_config(settings) | {"compression.type": codec, "linger.ms": 20}
        self._topic, self._codec, self._written = settings.clicks_topic, codec, written
        self._plain = Producer(config)
        self._transactions = Producer(config | {"transactional.id": f"{settings.app}-{codec}"})
        self._transactions.init_transactions(ANSWER_S)

    def write(self, phase: str) -> None:
        """Write the clicks of a user for each kind of headers and times, plainly and in transactions."""
        self._write_all(self._plain, f"{phase}-plain", CLICKS)
        assert self._plain.flush(ANSWER_S) == 0
        for end, count in (("aborted", 1), ("committed", CLICKS), ("aborted", 1)):
            self._transactions.begin_transaction()
            self._write_all(self._transactions, f"{phase}-transaction", count, counts=end == "committed")
            assert self._transactions.flush(ANSWER_S) == 0
            if end == "aborted":
                self._transactions.abort_transaction(ANSWER_S)
            else:
                self._transactions.commit_transaction(ANSWER_S)

    def _write_all(self, producer: Producer, name: str, count: int, *, counts: bool = True) -> None:
        for headers, seconds in itertools.product(HEADERS, (False, True)):
            user = f"{name}-{self._codec}-{headers}-{'seconds' if seconds else 'milliseconds'}"
            for number in range(count):
                producer.produce(
                    self._topic,
                    b'{"user_id":"%b","item_id":"item-%d","page":"%b"}' % (user.encode(), number, b"/a/page" * 30),
                    user.encode(),
                    headers=HEADERS[headers],
                    timestamp=SOME_DAY_S + number if seconds else 0,  # 0: now
                    on_delivery=self._note if counts else None,
                )

    def _note(self, error: KafkaError | None, message: Message) -> None:
        assert error is None
        place = message.partition(), message.offset()
        self._written.committed[place] = message.key().decode()
        if message.timestamp()[1] < SOME_DAY_S * 2:
            self._written.wrong_times.add(place)


def configure(settings: Settings, topic: str, **config: str) -> None:
    """Change the configuration of a topic."""
    changes = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
    client = AdminClient(librdkafka_config(settings))  # held: without it its answers never come
    [changed] = client.incremental_alter_configs([resource]).values()
    changed.result(ANSWER_S)


def change_log(playground: Any, written: Written, compression: str, times: str) -> None:
    """Let the broker keep what is written from now on in a codec and with times; waits until it does."""
    settings = playground.settings
    configure(settings, settings.clicks_topic, compression_type=compression, message_timestamp_type=times)
    kind = TIMESTAMP_LOG_APPEND_TIME if times == "LogAppendTime" else TIMESTAMP_CREATE_TIME
    producer = Producer(producer_config(settings))
    found: dict[int | None, int] = {}

    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None
        found[message.partition()] = message.timestamp()[0]
        written.committed[message.partition(), message.offset()] = message.key().decode()

    def is_so() -> bool:
        for number in range(settings.partitions * 5):
            key = b"probe-%d" % number
            producer.produce(settings.clicks_topic, b'{"user_id":"%b","item_id":"i"}' % key, key, on_delivery=note)
        assert producer.flush(ANSWER_S) == 0
        return found == dict.fromkeys(range(settings.partitions), kind)

    playground.wait_for(is_so, f"{times} in every partition")


# What the broker does with what comes: its own writer is Java's, with frames of its own for snappy and lz4.
LOGS = (
    ("producer", "CreateTime"),
    ("producer", "LogAppendTime"),
    ("gzip", "CreateTime"),
    ("snappy", "LogAppendTime"),
    ("lz4", "CreateTime"),
    ("zstd", "LogAppendTime"),
)


def write_every_form(playground: Any) -> Written:
    """Write clicks in every codec, with every kind of headers and times, in transactions and without."""
    settings, written = playground.settings, Written()
    writers = [ClickWriter(settings, codec, written) for codec in CODECS]
    for number, (compression, times) in enumerate(LOGS):
        change_log(playground, written, compression, times)
        for writer in writers if compression == "producer" else writers[:1]:
            writer.write(f"{number}-{compression}-{times}")
    return written


def test_clicks_in_every_form_are_applied_once_by_worker_and_trainer(playground: Any) -> None:
    """Codec, headers, transaction, time: none loses or doubles a click, and none brings back an aborted one."""
    settings = playground.settings
    configure(settings, settings.clicks_topic, retention_ms="-1")  # else records of 1970 would be deleted
    configure(settings, settings.changelog_topic, compression_type="lz4")
    configure(settings, settings.recommendations_topic, compression_type="snappy")
    worker = playground.worker()
    trainer = start_logging(playground, "trainer", *QUICK)

    written = write_every_form(playground)
    updates = playground.wait_until_answered()
    wait_until_logged(playground, len(written.committed))

    answered = sorted((update.source.partition, update.source.offset) for update in updates)
    assert answered == sorted(written.committed)
    assert logged_offsets(settings.log_dir) == sorted(written.committed)
    clicks_of = Counter(written.committed.values())
    assert Counter(update.user_id for update in updates) == clicks_of
    assert {clicks_of[user] for user in clicks_of if not user.startswith("probe")} == {CLICKS}
    assert len(written.wrong_times) == 4 * len(HEADERS) * (len(CODECS) + 2)
    playground.assert_states_equal_offline()
    playground.assert_no_error_logged("worker", "trainer")
    assert "cannot read" not in playground.log("worker").read_text()
    assert worker.exit_status is None
    assert trainer.exit_status is None

    now_ms = int(time.time() * 1000)
    times = logged_times(settings)
    assert {times[place] for place in written.wrong_times} == {(SOME_DAY_S + n) * 1_000 for n in range(CLICKS)}
    assert all(now_ms - HOUR_MS < times[place] <= now_ms for place in times.keys() - written.wrong_times)
    answer_times = {(update.source.partition, update.source.offset): update.clicked_at_ms for update in updates}
    assert answer_times == times

    forms = asyncio.run(forms_in_log(settings, settings.clicks_topic))
    assert forms.keys() == set(itertools.product(CODECS, (CREATE_TIME, LOG_APPEND_TIME)))
    assert restored(settings) == clicks_of.keys()


def logged_times(settings: Settings) -> dict[tuple[int, int], int]:
    """Give the event time of each click in the trainer's log, in ms."""
    log = ClickLog(settings.log_dir)
    table = log.read(log.files)
    places = zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True)
    return dict(zip(places, table["timestamp_ms"].to_pylist(), strict=True))


def restored(settings: Settings) -> set[str]:
    """Give the users whose states a recovery finds in the changelog, which must be compressed."""
    assert ("lz4", CREATE_TIME) in asyncio.run(forms_in_log(settings, settings.changelog_topic))
    store, partitions = MemoryStore(), range(settings.partitions)
    ChangelogReader(settings, store).restore(partitions, lambda left: None, threading.Event())
    return {key.decode() for number in partitions for key in store._values.get(number, {})}
