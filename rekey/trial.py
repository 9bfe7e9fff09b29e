"""Whether anything of the source can be used: tried before the first commit, so that a wrong setting costs nothing."""

from collections.abc import Iterable

from confluent_kafka import Message

from nextclick.errors import PermanentError
from nextclick.schema.usage import Usage
from rekey.outcomes import Outcome
from tools.kafka import TopicIdentity

LONGEST_S = 2.0  # fewer records than it takes for a verdict are then copied as they are


class Trial:
    """Judges the first records; nothing of it is written or committed. Has no clock.

    Attributes:
        is_over: whether records are to be copied.
        moved: partitions that were read, and must be read again.
    """

    def __init__(self, source: TopicIdentity) -> None:
        self.is_over = False
        self.moved: set[int] = set()
        self._usage = Usage(source.topic, source.partitions)
        self._began_s: float | None = None

    def note(self, moved: set[int], judged: Iterable[tuple[int, int, Message, Outcome]], now_s: float) -> None:
        """Note what was read.

        Args:
            moved: partitions that gave something.
            judged: partition and offset of each record, the record, and what would become of it.
            now_s: the time on any clock that does not go back.

        Raises:
            PermanentError: none of many records can be used.
        """
        self.moved |= moved
        self._began_s = now_s if self._began_s is None else self._began_s
        self.is_over = now_s >= self._began_s + LONGEST_S
        for partition, offset, record, outcome in judged:
            if outcome.copies or not outcome.rejected:  # what is ignored has been understood
                self.is_over = True
                return
            self._usage.note_dropped(outcome.rejected[0][0], record.key(), partition, offset)
        if (nothing_fits := self._usage.nothing_fits()) is not None:
            raise PermanentError(
                f"{nothing_fits}. Nothing was copied, and no offset committed: then start the job again"
            )
