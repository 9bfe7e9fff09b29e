"""Sends all that a run needs, from one producer that rides over every outage of the broker and doubles nothing."""

import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, Message, Producer

from demo.simulator import SimulatedClick
from nextclick.clicks import MAX_VALUE_BYTES
from nextclick.experiment import EXPERIMENT, Experiment, encode_experiment
from nextclick.hashing import partition_of
from nextclick.manifest import CHAMPION, Manifest, encode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from tools.client_config import producer_config

DELIVERY_S = 600.0  # longer than any run: a click is late, never lost
STEP_S = 0.05
REFRESH_S = 2.0  # how soon the producer hears of new partitions


class Feeder:
    """Sends clicks evenly over a time, in a thread of its own."""

    def __init__(self, settings: Settings, clicks: Sequence[SimulatedClick], seconds: float) -> None:
        self._settings = settings
        self._schema = ClickSchema.of(settings)
        self._clicks = clicks
        self._seconds = seconds
        self._producer = Producer(
            producer_config(settings)
            | {
                "delivery.timeout.ms": int(DELIVERY_S * 1000),
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 500,
                "queue.buffering.max.messages": 1_000_000,
                "topic.metadata.refresh.interval.ms": int(REFRESH_S * 1000),
            }
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_clicks, name="feeder", daemon=True)
        self.failed: KafkaError | None = None
        self.n_bad = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the broker has everything."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Give up what is not sent yet."""
        self._over.set()
        self._producer.purge()
        if self._thread.ident is not None:
            self._thread.join()

    def send_bad(self) -> None:
        """Send one record of each bad kind; the last is a click in a partition that its key does not give."""
        good = encode_click(self._schema, "bad", "i1", 0).value
        for key, value in (
            (b"bad", b"{broken"),
            (b"bad", b'{"user_id":"bad"}'),
            (b"bad", b'{"user_id":"bad","item_id":"' + b"x" * MAX_VALUE_BYTES + b'"}'),
            (None, good),
            (b"other", good),
        ):
            self._produce(self._settings.clicks_topic, key, value)
        home = partition_of(b"bad", self._settings.partitions, self._settings.partitioner)
        self._produce(self._settings.clicks_topic, b"bad", good, (home + 1) % self._settings.partitions)
        self.n_bad += 6

    def announce(self, manifest: Manifest) -> None:
        """Announce a bundle, now or when the broker is back."""
        self._produce(self._settings.models_topic, CHAMPION.encode(), encode_manifest(manifest))

    def try_out(self, experiment: Experiment | None) -> None:
        """Announce a bundle on trial, or that there is none any more, now or when the broker is back."""
        value = encode_experiment(experiment) if experiment is not None else None
        self._produce(self._settings.models_topic, EXPERIMENT.encode(), value)

    def _send_clicks(self) -> None:
        started_s = time.monotonic()
        sent = 0
        while sent < len(self._clicks) and not self._over.is_set():
            due = min(len(self._clicks), int((time.monotonic() - started_s) / self._seconds * len(self._clicks)) + 1)
            for click in self._clicks[sent:due]:
                value = encode_click(self._schema, *click).value
                self._produce(self._settings.clicks_topic, click.user_id.encode(), value)
            sent = due
            self._producer.poll(0)
            self._over.wait(STEP_S)
        while len(self._producer) and not self._over.is_set():
            self._producer.flush(0.5)

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        self._producer.produce(topic, value, key, partition, on_delivery=self._note)

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and not self._over.is_set():
            self.failed = error
