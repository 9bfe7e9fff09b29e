"""Offsets in a transaction while the broker does not answer (`tools/transactions.py`)."""

import time
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from demo.local_kafka import LocalKafka
from tools.client_config import consumer_config, producer_config
from tools.transactions import Unanswered, send_offsets

ANSWER_S = 20.0


def test_offsets_that_are_not_answered_are_given_up_and_shut_out(outage: Any, broker_to_stop: LocalKafka) -> None:
    """The call ends in time, and the next producer of that name ends what is open."""
    settings = outage.settings
    config = producer_config(settings) | {"transactional.id": f"{settings.app}-t", "transaction.timeout.ms": 60_000}
    given_up, successor = Producer(config), Producer(config)
    member = Consumer(consumer_config(settings, f"{settings.app}-t"))
    membership, places = member.consumer_group_metadata(), [TopicPartition(settings.clicks_topic, 0, 7)]
    given_up.init_transactions(ANSWER_S)
    given_up.begin_transaction()
    given_up.send_offsets_to_transaction(places, membership, ANSWER_S)  # these are open
    broker_to_stop.pause()
    began_s = time.monotonic()
    with pytest.raises(Unanswered):
        send_offsets(given_up, places, membership, step_s=0.2, end_s=began_s + 1.0, wait=lambda: None)
    took_s = time.monotonic() - began_s
    broker_to_stop.resume()
    successor.init_transactions(ANSWER_S)
    [committed] = member.committed(places, ANSWER_S)  # waits while a transaction could change it
    member.close()

    assert took_s < 3.0
    assert committed.offset < 0
    with pytest.raises(KafkaException):
        given_up.commit_transaction(ANSWER_S)
