"""Which names of events are clicks, and of which type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from nextclick.clicks import EVENT_TYPES, FORGET, OTHER_EVENT
from nextclick.errors import PermanentError

OTHER = "other"
_CODES: Mapping[str, int] = {name: code for code, name in enumerate(EVENT_TYPES)} | {OTHER: OTHER_EVENT}


@dataclass(frozen=True, slots=True)
class EventMap:
    """Names of events to the types that states and models know.

    Attributes:
        codes: name to the number of its type.
        default: of a name that is not listed; None: such an event is no click.
    """

    codes: Mapping[str, int]
    default: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the setting `events`: `view,add_to_cart:cart,purchase`; empty takes every event.

        Raises:
            PermanentError: a type that does not exist, an empty or a doubled name.
        """
        if not text.strip():
            return cls(_CODES, OTHER_EVENT)
        codes: dict[str, int] = {}
        for entry in text.split(","):
            name, colon, kind = (part.strip() for part in entry.rpartition(":"))
            if not colon:
                name, kind = kind, kind if kind in _CODES else OTHER
            if kind not in _CODES:
                raise PermanentError(
                    f"events has {entry.strip()!r:.60}, and there is no type {kind!r:.30}: write NAME:TYPE with one of "
                    f"{', '.join(_CODES)}"
                )
            if not name or name in codes or name == FORGET:
                raise PermanentError(
                    f"events has {entry.strip()!r:.60}: expected a name that is not empty, not {FORGET!r}, and not "
                    "there twice; write names with commas between them, each with :TYPE behind it where its type has "
                    "another name"
                )
            codes[name] = _CODES[kind]
        return cls(codes, None)

    def code(self, name: str) -> int | None:
        """Give the number of an event's type; None if it is no click."""
        return self.codes.get(name, self.default)

    def name(self, event_type: str) -> str:
        """Give a name that stands for a type.

        Raises:
            PermanentError: none does.
        """
        if self.default is not None:
            return event_type
        code = _CODES.get(event_type, OTHER_EVENT)
        for name, its_code in sorted(self.codes.items(), key=lambda each: each[0] != event_type):
            if its_code == code:
                return name
        raise PermanentError(
            f"the setting events has no name for events of the type {event_type!r:.30}; add one, NAME:{event_type:.30}"
        )
