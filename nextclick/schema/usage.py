"""What becomes of the records of a topic, and when to say so: nothing is dropped in silence, and no log is flooded.

Worker and trainer each keep one. It has no clock and writes no log: it says which lines are due.
"""

from collections import Counter
from dataclasses import dataclass, field

from nextclick.clicks import Ignored, IgnoreReason, Rejected, RejectReason
from nextclick.schema.placement import guess_partitioner

FIRST_RECORDS = 1_000  # when none of so many can be used, something does not fit
FIRST_IGNORED = 100_000  # where nothing is a mistake: purchases, for example, are rare among events
EVERY_S = 60.0  # between two lines about the same reason
MAX_SAMPLE = 200  # keys that a guess looks at
FEW_CLICKS = 1_000  # a share of repeated clicks is judged over at least so many
MOST_REPEATED = 0.5  # of the clicks: no client tries again so often

_REMEDIES = {
    RejectReason.NO_KEY: "let the producer use the user as key, or copy the records with `nextclick rekey`",
    RejectReason.WRONG_KEY: (
        "set user_field to what the key names, key_format to how it is written, or check_key=false when it is another "
        "function of the user"
    ),
    RejectReason.MISSING_FIELD: (
        "set user_field or item_field to where they are, for example --set user_field=visitor.id; `nextclick doctor` "
        "looks for them"
    ),
    RejectReason.BAD_FIELD: (
        "set user_field, item_field, time_field, event_field and id_field to the places that hold them (id_field= if "
        "none holds an id of the event); `nextclick doctor` looks for them"
    ),
    RejectReason.BAD_JSON: "records must be JSON, or in Confluent's wire format with schema_registry set",
    RejectReason.NEEDS_REGISTRY: "set schema_registry to its address",
    RejectReason.UNDECODABLE: "register the schema that the producer uses, and look whether its bytes fit it",
    RejectReason.TOO_LARGE: "let the producer send smaller records",
    RejectReason.IN_THE_FUTURE: "correct the clock of the producer, or of this machine",
    RejectReason.FORGET_UNSUPPORTED: "let the producer send no such events yet",
    IgnoreReason.EVENT_TYPE: "list in events what is a click",
    IgnoreReason.DELETE: "set envelope to what the records have",
}


@dataclass(slots=True)
class _Dropped:
    """Records of one reason.

    Attributes:
        since: how many there were since the last line.
        records_before: how many records of all kinds there had been at the last line.
        said_s: when that was; None: never.
        example: of one since then: its detail, partition and offset.
    """

    since: int = 0
    records_before: int = 0
    said_s: float | None = None
    example: tuple[str, int, int] = ("", -1, -1)


@dataclass(slots=True)
class Usage:
    """Counts what becomes of the records of a topic.

    Attributes:
        topic: its name, for messages.
        n_partitions: that it has now.
        records: how many there were.
        used: how many of them were used.
        by_reason: how many of them were not, by reason.
    """

    topic: str
    n_partitions: int
    records: int = 0
    used: int = 0
    by_reason: Counter[RejectReason | IgnoreReason] = field(default_factory=Counter)
    _dropped: dict[RejectReason | IgnoreReason, _Dropped] = field(default_factory=dict)
    _misplaced: dict[bytes, int] = field(default_factory=dict)
    _clicks: int = 0
    _repeated: int = 0
    _due: list[str] = field(default_factory=list)
    _said_repeated: bool = False

    def note_used(self, n_records: int = 1) -> None:
        """Count records that hold clicks."""
        self.records += n_records
        self.used += n_records

    def note_dropped(self, why: Rejected | Ignored, key: bytes | None, partition: int, offset: int) -> None:
        """Count a record that is not used."""
        self.records += 1
        self.by_reason[why.reason] += 1
        dropped = self._dropped.get(why.reason)
        if dropped is None:
            dropped = self._dropped[why.reason] = _Dropped()
        dropped.since += 1
        dropped.example = (why.detail if isinstance(why, Rejected) else "", partition, offset)
        is_misplaced = why.reason is RejectReason.WRONG_PARTITION and key is not None
        if is_misplaced and len(self._misplaced) < MAX_SAMPLE:
            assert key is not None
            self._misplaced[key] = partition

    def note_repeated(self, n_repeated: int, n_clicks: int) -> None:
        """Count clicks, and how many of them came before under the same id of their event: if most, it is said once."""
        self._clicks += n_clicks
        self._repeated += n_repeated
        if self._clicks < FEW_CLICKS:
            return
        if self._repeated > MOST_REPEATED * self._clicks and not self._said_repeated:
            self._said_repeated = True
            self._due.append(
                f"{self._repeated:,} of {self._clicks:,} clicks of {self.topic} were passed over as repeats, for a "
                "click of the same user shortly before had the same id: what id_field names is hardly an id of each "
                "event's own. With --set id_field= for worker, trainer and feeds every click counts; `nextclick "
                "doctor` looks for a better place"
            )
        self._clicks = self._repeated = 0

    def lines(self, now_s: float, *, is_last: bool = False) -> list[str]:
        """Give the lines that are due: of a reason that is new at once, of one that goes on once a minute.

        Args:
            now_s: the time on any clock that does not go back.
            is_last: whether nobody asks again: everything that was not said yet is due.
        """
        lines, self._due = self._due, []
        for reason, dropped in self._dropped.items():
            is_early = dropped.said_s is not None and now_s < dropped.said_s + EVERY_S
            if not dropped.since or (is_early and not is_last):
                continue
            of = self.records - dropped.records_before
            lines.append(self._line(reason, dropped, of, is_first=dropped.said_s is None))
            dropped.since, dropped.records_before, dropped.said_s = 0, self.records, now_s
        return lines

    def nothing_fits(self) -> str | None:
        """Say why, while none of the records could be used, and there were many; None otherwise."""
        by_reason = Counter(self.by_reason.copy())  # asked by another thread, while records go on
        n_rejected = sum(number for reason, number in by_reason.items() if isinstance(reason, RejectReason))
        if self.used or (n_rejected < FIRST_RECORDS and self.records < FIRST_IGNORED):
            return None
        reason, number = by_reason.most_common(1)[0]
        detail, partition, offset = self._dropped[reason].example
        return (
            f"none of the first {self.records:,} records of {self.topic} could be used, {number:,} for {reason.value}"
            f"{': ' + detail if detail else ''} (partition {partition}, offset {offset}); {self.remedy(reason)}"
        )

    def remedy(self, reason: RejectReason | IgnoreReason) -> str:
        """Say what to do about a reason."""
        if reason is not RejectReason.WRONG_PARTITION:
            return _REMEDIES[reason]
        guess = guess_partitioner(self._misplaced, self.n_partitions)
        if guess is not None:
            return f"the keys are where {guess} puts them: set partitioner={guess}"
        return (
            "set partitioner to the one that the producer uses (consistent_random: librdkafka's default, fnv1a_random: "
            "Sarama's), or none if a user's clicks are in one partition all the same; if not, copy them with "
            "`nextclick rekey`"
        )

    def _line(self, reason: RejectReason | IgnoreReason, dropped: _Dropped, of: int, *, is_first: bool) -> str:
        detail, partition, offset = dropped.example
        verb = "passed over" if isinstance(reason, IgnoreReason) else "rejected"
        since = "so far" if is_first else "since the last line about it"
        return (
            f"{dropped.since:,} of {of:,} records of {self.topic} {since} are {verb} as {reason.value}"
            f"{': ' + detail if detail else ''}; the last one is at partition {partition}, offset {offset}; "
            f"{self.remedy(reason)}"
        )
