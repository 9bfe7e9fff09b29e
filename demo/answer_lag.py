"""How far the worker is behind, by what was seen of both topics. Pure."""


class AnswerLag:
    """How many clicks have no update yet, by what was seen of both topics."""

    def __init__(self) -> None:
        self._clicked: dict[int, int] = {}  # partition to the newest offset
        self._answered: dict[int, int] = {}

    def click(self, partition: int, offset: int) -> None:
        """Take a click of the topic."""
        self._clicked[partition] = offset

    def update(self, partition: int, offset: int) -> None:
        """Take the source of an update; one that is sent again changes nothing."""
        self._answered[partition] = max(offset, self._answered.get(partition, -1))

    @property
    def clicks(self) -> int:
        return sum(max(0, offset - self._answered.get(partition, -1)) for partition, offset in self._clicked.items())
