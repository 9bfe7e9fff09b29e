"""One Apache Kafka for a whole run of the tests, also when several processes run them.

The process that the run was started in keeps the broker, and starts it when the first test asks for it: a run of unit
tests never has one. The broker ends with that process, however it ends.
"""

import os
import threading
from multiprocessing.connection import Client, Listener
from pathlib import Path

from demo.local_kafka import LocalKafka
from nextclick.errors import NextclickError

# Kafka's default is 6 s: a test that waits for a killed or sleeping process to be forgotten need not wait so long.
BROKER_CONFIG = {
    "group.min.session.timeout.ms": "500",
    # 10 s by default: a transaction that a killed process left open hides what follows until then.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}


class BrokerKeeper:
    """Starts the broker at the first question, and answers every question with its address."""

    def __init__(self) -> None:
        """Listen; nothing is started yet."""
        kafka_home = os.environ.get("KAFKA_HOME")
        self._kafka = LocalKafka(kafka_home=Path(kafka_home) if kafka_home else None, config=BROKER_CONFIG)
        self._listener = Listener(family="AF_UNIX")
        # The broker lives as long as the thread that starts it, and this one as long as the process.
        threading.Thread(target=self._answer, name="broker keeper", daemon=True).start()

    @property
    def address(self) -> str:
        """Where `ask` finds this keeper: the path of a socket."""
        return str(self._listener.address)

    def close(self) -> None:
        """Stop the broker, if there is one."""
        self._listener.close()
        self._kafka.stop()

    def _answer(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            with connection:
                try:
                    self._kafka.start()
                    connection.send((True, self._kafka.bootstrap))
                except NextclickError as error:
                    connection.send((False, str(error)))


def ask(keeper: str) -> str:
    """Give the address of the broker, once it answers clients.

    Args:
        keeper: `BrokerKeeper.address`.

    Raises:
        RuntimeError: it cannot be started, with the reason.
    """
    with Client(keeper) as connection:
        started, answer = connection.recv()
    if not started:
        raise RuntimeError(answer)
    return str(answer)
