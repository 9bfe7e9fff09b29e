"""Whether the broker answers, for programs that wait for one that does not."""

import logging

from confluent_kafka import KafkaError

_log = logging.getLogger(__name__)


class BrokerPresence:
    """Whether the broker answers, as far as a program's clients have noticed. Says so once when that changes.

    Attributes:
        is_away: that it did not, when it was last noticed.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.is_away = False

    def on_error(self, error: KafkaError) -> None:
        """Take what a client reports by itself."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.missed()

    def missed(self) -> None:
        """The broker did not answer."""
        if not self.is_away:
            self.is_away = True
            _log.warning("waiting: the broker at %s does not answer", self._address)

    def answered(self) -> None:
        """The broker did."""
        if self.is_away:
            self.is_away = False
            _log.info("the broker is back")
