"""Notices that the clicks topic has grown: users have then moved away from their states, and every click has to wait
until these have moved too.
"""

from collections.abc import Callable

from stream.protocol.port import BrokerAway, Port

RETRY_S = 1.0


class PartitionCount:
    """How many partitions the states were made with, and the question whether the clicks topic still has so many."""

    def __init__(self, port: Port, known: int, refuse: Callable[[int], None]) -> None:
        """Make one.

        Args:
            port: to ask the broker.
            known: partitions that the states were made with.
            refuse: called with another count; raises what the worker ends with.
        """
        self._port = port
        self._known = known
        self._refuse = refuse

    async def check(self) -> None:
        """Ask the broker, for as long as it is away, and go on if the count is what it was.

        Raises:
            PermanentError: the topic has grown.
        """
        while True:
            try:
                count = await self._port.partition_count()
            except BrokerAway:
                await self._port.sleep(RETRY_S)
                continue
            if count != self._known:
                self._refuse(count)
            return
