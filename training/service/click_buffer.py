"""Clicks that were read and wait to be written to the click log."""

from collections.abc import Iterable

from nextclick.clicks import Click
from training.service.click_consumer import ReadRecord
from training.service.click_log import ClickLog, LogRow


class ClickBuffer:
    """Collects per partition which records were read, and the clicks among them.

    Attributes:
        n_clicks: that wait.
    """

    def __init__(self, positions: dict[int, int]) -> None:
        """Start empty; `positions` says which record of each partition is read first."""
        self._first = dict(positions)
        self._next = dict(positions)
        self._clicks: dict[int, list[LogRow]] = {partition: [] for partition in positions}
        self.n_clicks = 0

    def add(self, records: Iterable[ReadRecord]) -> None:
        """Take records, in order per partition. What is no click counts as read all the same."""
        for partition, offset, click in records:
            self._next[partition] = offset + 1
            if isinstance(click, Click):
                self._clicks[partition].append(LogRow(offset, click))
                self.n_clicks += 1

    def write_to(self, log: ClickLog) -> None:
        """Write everything; also where no click was among the records, so that the log's end moves on."""
        for partition, end in self._next.items():
            if end > self._first[partition]:
                clicks = self._clicks[partition]
                log.append(partition, self._first[partition], end - 1, clicks)
                self._first[partition] = end
                self._clicks[partition] = []
                self.n_clicks -= len(clicks)
