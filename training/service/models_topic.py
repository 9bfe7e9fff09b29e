"""The topic `models`: which bundle is served now, and the announcement of the next one. Uses confluent-kafka."""

import logging
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from nextclick.errors import BundleError, TemporaryError
from nextclick.manifest import CHAMPION, Manifest, decode_manifest, encode_manifest
from nextclick.settings import Settings
from tools.client_config import consumer_config, producer_config
from training.learning.cancellation import Cancellation

_READ_TIMEOUT_S = 15.0
_POLL_S = 0.2  # so a stop is seen soon
_log = logging.getLogger(__name__)


def read_champion(settings: Settings, cancellation: Cancellation) -> Manifest | None:
    """Give the bundle that was announced last, or None if none ever was.

    Raises:
        TemporaryError: the broker does not answer.
        TrainingCancelled: the trainer is to end.
    """
    config = consumer_config(settings, f"{settings.app}-trainer") | {"enable.partition.eof": True}
    consumer = Consumer(config)
    champion: Manifest | None = None
    try:
        consumer.assign([TopicPartition(settings.models_topic, 0, OFFSET_BEGINNING)])
        deadline_s = time.monotonic() + _READ_TIMEOUT_S
        while time.monotonic() < deadline_s:
            cancellation.check()
            message = consumer.poll(_POLL_S)
            error = message.error() if message is not None else None
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return champion
            if message is not None and error is None and message.key() == CHAMPION.encode():
                champion = _manifest(message.value())
    finally:
        consumer.close()
    raise TemporaryError(
        f"expected the topic {settings.models_topic} from the broker at {settings.broker}, found no answer within "
        f"{_READ_TIMEOUT_S:.0f} s; is the broker up?"
    )


def _manifest(value: bytes | None) -> Manifest | None:
    try:
        return decode_manifest(value) if value is not None else None
    except BundleError as error:
        _log.warning("an announcement is passed over: %s", error)
        return None


def announce(settings: Settings, manifest: Manifest, cancellation: Cancellation) -> None:
    """Tell the workers to serve a bundle; on return the brokers have the announcement.

    It is made within the session timeout or not at all: before another trainer can take over.

    Raises:
        TemporaryError: the broker refused it or did not answer in time.
        TrainingCancelled: the trainer is to end; the announcement may have been made.
    """
    failures: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error.str())

    producer = Producer(producer_config(settings) | {"delivery.timeout.ms": int(settings.session_timeout_s * 1000)})
    try:
        producer.produce(settings.models_topic, key=CHAMPION, value=encode_manifest(manifest), on_delivery=delivered)
        while producer.flush(_POLL_S):
            cancellation.check()
    except KafkaException as error:
        failures.append(error.args[0].str())
    if failures:
        raise TemporaryError(
            f"expected the topic {settings.models_topic} to take the announcement of bundle {manifest.bundle_id}, "
            f"found: {failures[0]}; the next training announces a bundle again"
        )
