"""What the tests of running programs share: topics of their own, processes, and reading topics to their end."""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from demo.children import Child
from nextclick.advance import Limits, LoggedClick, Model, UserKey, advance
from nextclick.bundle import load_bundle
from nextclick.clicks import ClickFields, Rejected, click_decoder, encode_click
from nextclick.client_config import consumer_config, producer_config
from nextclick.hashing import item_hash
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate, decode_update, ranked_list
from nextclick.user_state import UserState, decode_state
from stream.origin import ORIGIN_KEY
from stream.topics import Topics

DEADLINE_S = 60.0
HIDDEN_TOLERANCE = 5e-3  # float16 rounds after every click, and batches of other sizes add up in another order


@dataclass
class Playground:
    """Topics, folders and processes of one test."""

    settings: Settings
    folder: Path
    children: list[Child] = field(default_factory=list)

    @staticmethod
    def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Return the condition's value once it is true; fail with what was waited for."""
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            value = condition()
            if value:
                return value
            time.sleep(0.1)
        pytest.fail(f"{what} within {deadline_s:.0f} s")

    def start(self, name: str, *arguments: str, **environment: str) -> Child:
        """Start a part of nextclick with this test's settings."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("NEXTCLICK_", "KAFKA_BOOTSTRAP"))}
        child = Child(name, arguments, base | self.settings.as_environment() | environment, self.log(name))
        self.children.append(child)
        return child

    def log(self, name: str) -> Path:
        """The log of the part that was started under this name."""
        return self.folder / f"{name}.log"

    def worker(self, name: str = "worker", *arguments: str, **environment: str) -> Child:
        """Start a worker with a data folder of its own."""
        return self.start(name, "stream", "--set", f"data_dir={self.folder / name}", *arguments, **environment)

    def send(self, clicks: Iterable[tuple[str, str, int]]) -> int:
        """Send clicks (user, item, event time in ms); returns how many."""
        fields = ClickFields.of(self.settings)
        return self.send_raw(
            (user.encode(), encode_click(fields, user, item, timestamp_ms)) for user, item, timestamp_ms in clicks
        )

    def send_raw(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> int:
        """Send records (key, value) as they are; returns how many."""
        producer = Producer(producer_config(self.settings) | {"linger.ms": 5, "message.max.bytes": 2_000_000})
        count = 0
        for key, value in records:
            producer.produce(self.settings.clicks_topic, key=key, value=value)
            count += 1
            if count % 1_000 == 0:
                producer.flush()
        assert producer.flush(30) == 0
        return count

    def read(self, topic: str) -> list[Message]:
        """Give every record of a topic up to its present end, by partition and offset."""
        consumer = Consumer(consumer_config(self.settings, "reader"))
        try:
            partitions = [TopicPartition(topic, p, 0) for p in consumer.list_topics(topic, 10).topics[topic].partitions]
            ends = {tp.partition: consumer.get_watermark_offsets(tp, 10)[1] for tp in partitions}
            consumer.assign(partitions)
            messages: list[Message] = []
            while any(position.offset < ends[position.partition] for position in consumer.position(partitions)):
                messages += [message for message in consumer.consume(5_000, 0.2) if message.error() is None]
                if all(
                    max(position.offset, 0) >= ends[position.partition] for position in consumer.position(partitions)
                ):
                    break
            return sorted(messages, key=lambda message: (message.partition(), message.offset()))
        finally:
            consumer.close()

    def count(self, topic: str) -> int:
        """Give the number of records that a topic has had so far."""
        consumer = Consumer(consumer_config(self.settings, "reader"))
        try:
            partitions = consumer.list_topics(topic, 10).topics[topic].partitions
            return sum(consumer.get_watermark_offsets(TopicPartition(topic, p), 10)[1] for p in partitions)
        finally:
            consumer.close()

    def updates(self) -> list[RecommendationUpdate]:
        """Give every update so far, in log order per partition."""
        return [decode_update(message.value()) for message in self.read(self.settings.recommendations_topic)]

    def clicks(self) -> list[LoggedClick]:
        """Give every valid click so far, in log order per partition."""
        decode = click_decoder(ClickFields.of(self.settings))
        clicks = []
        for message in self.read(self.settings.clicks_topic):
            click = decode(message.key(), message.value(), message.timestamp()[1])
            if not isinstance(click, Rejected):
                user = (message.partition(), message.key())
                clicks.append(
                    LoggedClick(user, message.offset(), message.timestamp()[1], click, item_hash(click.item_id))
                )
        return clicks

    def states(self) -> dict[UserKey, UserState]:
        """Give the newest state of every user, from the changelog."""
        records = self.read(self.settings.changelog_topic)
        newest = {(m.partition(), m.key()): m.value() for m in records if m.key() != ORIGIN_KEY}
        return {user: decode_state(value) for user, value in newest.items()}

    def wait_until_answered(self, deadline_s: float = DEADLINE_S) -> list[RecommendationUpdate]:
        """Wait until every valid click so far has its update; gives all updates."""
        clicks = {(click.user[0], click.offset) for click in self.clicks()}

        def answered() -> list[RecommendationUpdate] | None:
            if self.count(self.settings.recommendations_topic) < len(clicks):
                return None
            updates = self.updates()
            found = {(update.source.partition, update.source.offset) for update in updates}
            return updates if clicks <= found else None

        result: list[RecommendationUpdate] = self.wait_for(answered, f"{len(clicks)} clicks answered", deadline_s)
        return result

    def wait_for_log(self, name: str, text: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until a part's log has a text."""
        self.wait_for(lambda: text in self.log(name).read_text(), f"{text!r} in the log of {name}", deadline_s)

    def offline_states(self, model_of: Callable[[str], Model | None]) -> dict[UserKey, UserState]:
        """Apply the clicks one by one without a stream, each with the bundle that its first update names."""
        bundles: dict[tuple[int, int], str] = {}
        for update in self.updates():
            bundles.setdefault((update.source.partition, update.source.offset), update.bundle_id)
        nothing_popular = ranked_list("popular", [], [])
        limits = Limits(self.settings.recent_clicks, self.settings.list_length)
        states: dict[UserKey, UserState] = {}
        for click in self.clicks():
            model = model_of(bundles[click.user[0], click.offset])
            known = {click.user: states[click.user]} if click.user in states else {}
            [outcome] = advance(model, nothing_popular, known, [click], limits)
            states[click.user] = outcome.state
        return states

    def assert_sequences_are_right(self, updates: list[RecommendationUpdate], *, after_a_crash: bool = False) -> None:
        """Every click has an update with its own sequence, and a user's updates leave in rising order.

        After a crash, a click whose state was safe but whose update was not is answered by a later state.
        """
        counts: Counter[UserKey] = Counter()
        expected = {}
        for click in self.clicks():
            counts[click.user] += 1
            expected[click.user[0], click.offset] = counts[click.user]
        first: dict[tuple[int, int], int] = {}
        newest: defaultdict[str, int] = defaultdict(int)
        for update in updates:
            first.setdefault((update.source.partition, update.source.offset), update.sequence)
            assert update.sequence >= newest[update.user_id], "updates of a user left out of order"
            newest[update.user_id] = update.sequence

        assert first.keys() == expected.keys()
        assert after_a_crash or first == expected
        assert all(first[click] >= sequence for click, sequence in expected.items())

    def assert_states_equal_offline(self, bundles: Path | None = None) -> None:
        """Guarantee 8, for every user: fence, sequence, recent clicks equal; hidden within the tolerance."""
        models = {path.name: load_bundle(path)[1] for path in bundles.iterdir()} if bundles is not None else {}
        online, offline = self.states(), self.offline_states(lambda bundle: models.get(bundle))

        assert online.keys() == offline.keys()
        for user, state in online.items():
            assert _without_floats(state) == _without_floats(offline[user])
            here, there = (np.frombuffer(s.hidden, "<f2").astype(float) for s in (state, offline[user]))
            np.testing.assert_allclose(here, there, atol=HIDDEN_TOLERANCE)

    def assert_no_error_logged(self, *names: str) -> None:
        """The logs hold nothing above a warning."""
        for name in names:
            lines = [json.loads(line) for line in self.log(name).read_text().splitlines()]
            assert [line for line in lines if line["level"] in ("error", "fatal")] == []

    def stop(self) -> None:
        """End every process, at once: what a test says of a clean end it has checked by now."""
        for child in self.children:
            child.kill()


def _without_floats(state: UserState) -> UserState:
    return state._replace(hidden=b"", shown=b"")


@pytest.fixture
def playground(broker: str, topic_prefix: str, tmp_path: Path) -> Iterator[Playground]:
    """Topics of this test's own on the shared broker, folders of its own, and no process left behind."""
    name = topic_prefix
    settings = Settings(
        broker=broker,
        app=f"{name}-app",
        clicks_topic=f"{name}-clicks",
        recommendations_topic=f"{name}-recommendations",
        rejected_topic=f"{name}-clicks-rejected",
        models_topic=f"{name}-models",
        data_dir=tmp_path / "worker",
        log_dir=tmp_path / "click-log",
        bundle_dir=tmp_path / "bundles",
        worker_port=0,
        trainer_port=0,
        session_timeout_s=6,  # the least that a broker takes: a killed worker's partitions are free sooner
    )
    Topics(settings).create()
    playground = Playground(settings, tmp_path)
    yield playground
    playground.stop()
