"""How far a job is, and whether what it copies will be kept; says when a line is due, and has no clock."""

from typing import Any

EVERY_S = 5.0  # between two lines


class Progress:
    """Counts records."""

    def __init__(self, destination: str, keeps_ms: int) -> None:
        """Begin to count.

        Args:
            destination: the topic's name, for messages.
            keeps_ms: how long it keeps a record; negative: for ever.
        """
        self._destination = destination
        self._keeps_ms = keeps_ms
        self._records = 0
        self._said: tuple[float, int] | None = None
        self._oldest_ms: int | None = None
        self._is_warned = False

    def add(self, n_records: int) -> None:
        """Count records that are done."""
        self._records += n_records

    def note_time(self, timestamp_ms: int) -> None:
        """Note the timestamp of a record that was copied."""
        if self._oldest_ms is None or timestamp_ms < self._oldest_ms:
            self._oldest_ms = timestamp_ms

    def due(self, now_s: float, lag: int, *, is_last: bool) -> dict[str, Any] | None:
        """Give the fields of a line; None when none is due, or nothing has happened since the last one.

        Args:
            now_s: the time on any clock that does not go back.
            lag: records that wait.
            is_last: whether the job ends, which is always said.
        """
        before_s, before = self._said or (now_s, 0)
        if self._said is None:
            self._said = (now_s, 0)
        if is_last:
            return {"records": self._records}
        if now_s < before_s + EVERY_S or self._records == before:
            return None
        self._said = (now_s, self._records)
        rate = round((self._records - before) / (now_s - before_s))
        return {"records": self._records, "per_second": rate, "lag": lag}

    def warnings(self, time_s: float) -> list[str]:
        """Give the line, once, that copies are older than what the destination keeps.

        Args:
            time_s: since 1970.
        """
        if self._is_warned or self._keeps_ms < 0 or self._oldest_ms is None:
            return []
        age_ms = time_s * 1000 - self._oldest_ms
        if age_ms < self._keeps_ms:
            return []
        self._is_warned = True
        return [
            f"records that are {age_ms / 86_400_000:.1f} days old were copied with their time, and {self._destination} "
            f"keeps {self._keeps_ms / 86_400_000:.1f} days: it will remove them soon; raise retention.ms of the topic"
        ]
