"""Consumer offsets in a producer's transaction, without waiting for ever."""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

from confluent_kafka import KafkaException, Producer, TopicPartition


class Unanswered(Exception):
    """The broker did not answer, and the client does not say whether it goes on asking.

    Another producer with the same transactional id ends what this one has left open, and shuts it out.
    """


def send_offsets(
    producer: Producer,
    places: list[TopicPartition],
    membership: bytes,
    *,
    step_s: float,
    end_s: float,
    wait: Callable[[], None],
) -> None:
    """Add offsets to the open transaction, with the membership for which alone it then succeeds.

    Args:
        producer: has a transaction open.
        places: the offsets.
        membership: of the consumer group.
        step_s: after each, `wait` is called.
        end_s: when to wait no longer, by the monotonic clock.
        wait: may raise, to stop waiting.

    Raises:
        KafkaException: the broker refuses, or the transaction has failed.
        Unanswered: the producer cannot be used any more.
    """
    # Not asked twice, and in a thread of its own: when the broker goes away, librdkafka 2.16 can lose the request and
    # keep the call for ever, and the one after a failure even when the broker is back.
    most_s = end_s - time.monotonic()
    answers = SimpleQueue[Exception | None]()

    def ask() -> None:
        try:
            producer.send_offsets_to_transaction(places, membership, most_s)
        except Exception as error:
            answers.put(error)
        else:
            answers.put(None)

    Thread(target=ask, name="offsets", daemon=True).start()
    while time.monotonic() < end_s:
        try:
            error = answers.get(timeout=step_s)
        except Empty:
            producer.poll(0)  # lets the client say that the broker is away
            wait()
            continue
        if error is None:
            return
        if not isinstance(error, KafkaException) or not is_to_be_asked_again(error):
            raise error
        break
    raise Unanswered("the broker did not take the offsets in time")


def is_to_be_asked_again(error: KafkaException) -> bool:
    """Tell whether a call has only not been answered yet."""
    failure = error.args[0]
    return bool(failure.retriable() and not failure.fatal() and not failure.txn_requires_abort())
