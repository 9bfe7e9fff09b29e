"""Notices that the clicks topic is not what the states were made from any more. One that has grown has users who have
moved away from their states; in one that was created anew, offsets have begun again. Every click has to wait then.
"""

from collections.abc import Callable

from stream.protocol.port import BrokerAway, Port
from tools.kafka import TopicIdentity

RETRY_S = 1.0


class TopicCheck:
    """The question whether the clicks topic is still the one that the states were made from."""

    def __init__(self, port: Port, judge: Callable[[TopicIdentity], None]) -> None:
        """Make one.

        Args:
            port: to ask the broker.
            judge: is told what the topic is now; raises what the worker ends with if that is another one.
        """
        self._port = port
        self._judge = judge

    async def ask(self) -> None:
        """Ask the broker, and go on if the topic is what it was; bounded in time.

        Raises:
            BrokerAway: no answer.
            PermanentError: it has grown, or was created anew.
        """
        self._judge(await self._port.identity())

    async def wait(self) -> None:
        """The same, for as long as the broker is away.

        Raises:
            PermanentError: it has grown, or was created anew.
        """
        while True:
            try:
                return await self.ask()
            except BrokerAway:
                await self._port.sleep(RETRY_S)
