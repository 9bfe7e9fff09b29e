"""Waits for the ends of transactions, which the broker writes some time after it has taken a commit."""

import time

from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from tests.chaos.evidence import count_records
from tools.client_config import librdkafka_config
from tools.kafka import offset_ranges

_ANSWER_S, _PATIENCE_S, _POLL_S = 10.0, 60.0, 0.05


def is_decided(settings: Settings, topic: str) -> bool:
    """Tell whether nothing in a topic is of a transaction that has not ended there yet."""
    admin = AdminClient(librdkafka_config(settings))
    partitions = range(len(admin.list_topics(topic, _ANSWER_S).topics[topic].partitions))
    ranges = offset_ranges(admin, topic, partitions)
    return sum(end for _, end in ranges.values()) <= count_records(settings, topic)


def wait_until_decided(settings: Settings, topic: str) -> None:
    """Return when everybody who reads a topic sees what was committed."""
    end_s = time.monotonic() + _PATIENCE_S
    while not is_decided(settings, topic):
        assert time.monotonic() < end_s, f"{topic} has an open transaction"
        time.sleep(_POLL_S)
