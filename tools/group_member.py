"""Whether a member of a consumer group has lost sight of its group for good, though the broker is there.

A broker that is shutting down can say that the cluster has no brokers. librdkafka 2.16 then removes its handle of the
broker, and a request that is on its way to the handle in that moment is lost without a word. If it was the question who
coordinates the group, the client waits for the answer for ever: it is put out of the group, and gets nothing any more,
also when the broker has long been back. Only another client helps.
"""

import logging
from threading import Thread

import msgspec
from confluent_kafka import Consumer, KafkaException

_EVERY_S = 5.0  # between two looks of the client at itself
_LOST_AFTER_S = 10.0  # a broker that is there says at once who coordinates a group
_ANSWER_S = 1.0  # for an answer that only shows that the broker is there
_ASKING = "wait-coord"  # librdkafka's name of the state in which it only waits for that answer
_log = logging.getLogger(__name__)


class _GroupState(msgspec.Struct):
    state: str
    stateage: int  # in ms


class _Statistics(msgspec.Struct):
    cgrp: _GroupState | None = None


class GroupWatch:
    """What one client says of its group. Used by the thread that polls the client."""

    def __init__(self) -> None:
        self.config = {"statistics.interval.ms": int(_EVERY_S * 1000), "stats_cb": self.on_statistics}
        self._asking_s = 0.0

    def on_statistics(self, statistics: str) -> None:
        """Take librdkafka's statistics, which it gives while it is polled."""
        group = msgspec.json.decode(statistics, type=_Statistics).cgrp
        self._asking_s = group.stateage / 1000 if group is not None and group.state == _ASKING else 0.0

    def is_lost(self, consumer: Consumer) -> bool:
        """Tell whether the client is to be replaced by another one; asks the broker when it looks like it.

        Blocks for a second at most, once in five.
        """
        asking_s, self._asking_s = self._asking_s, 0.0
        if asking_s < _LOST_AFTER_S:
            return False
        try:
            consumer.list_topics(timeout=_ANSWER_S)
        except KafkaException:
            return False
        _log.warning(
            "the broker is there, and the client has heard nothing of its group for %.0f s: it joins anew", asking_s
        )
        return True


def close_aside(consumer: Consumer) -> None:
    """Close a client that may not come to an end; nobody waits for it. Does not block."""
    Thread(target=consumer.close, name="close", daemon=True).start()
