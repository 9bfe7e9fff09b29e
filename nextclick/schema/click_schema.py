"""What the settings say of the records of the clicks topic, in one object."""

from dataclasses import dataclass, field
from typing import Self

from nextclick.schema.event_types import EventMap
from nextclick.schema.paths import FieldPath
from nextclick.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickSchema:
    """Where the fields of a click are, and what they mean.

    Attributes:
        user, item, time, event: where they are.
        list: where an object has a list of events; None: it is an event itself.
        id: of the event itself, by which a client's retry is known; None: events have none.
        events: which events are clicks.
        envelope: what stands around an event, see `nextclick.schema.envelopes`.
        key_format: how the record's key is written, see `nextclick.schema.keys`.
        check_key: whether the key names the user.
        needs_key: whether a record without a key can be a user's.
    """

    user: FieldPath = field(default_factory=lambda: FieldPath.parse("user_id"))
    item: FieldPath = field(default_factory=lambda: FieldPath.parse("item_id"))
    time: FieldPath = field(default_factory=lambda: FieldPath.parse("timestamp_ms"))
    event: FieldPath = field(default_factory=lambda: FieldPath.parse("event_type"))
    list: FieldPath | None = None
    id: FieldPath | None = None
    events: EventMap = field(default_factory=lambda: EventMap.parse(""))
    envelope: str = "none"
    key_format: str = "text"
    check_key: bool = True
    needs_key: bool = True

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Give the schema that the settings describe.

        Raises:
            PermanentError: a path or the list of events cannot be read.
        """
        return cls(
            user=FieldPath.parse(settings.user_field),
            item=FieldPath.parse(settings.item_field),
            time=FieldPath.parse(settings.time_field),
            event=FieldPath.parse(settings.event_field),
            list=FieldPath.parse(settings.list_field) if settings.list_field else None,
            id=FieldPath.parse(settings.id_field) if settings.id_field else None,
            events=EventMap.parse(settings.events),
            envelope=settings.envelope,
            key_format=settings.key_format,
            check_key=settings.check_key,
            needs_key=settings.check_key or settings.partitioner != "none",
        )
