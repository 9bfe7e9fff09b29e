"""Which words for event types are clicks, and what they are called in the stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextclick.schema.event_types import OTHER, EventMap


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """Which words for event types are clicks, and what they are called in the stream.

    Attributes:
        known: the format's words to ours; empty: every word stands for itself.
        no_clicks: the format's words for what is no click.
        listed: what the user lists, word to type; None: all.
        always: the type of a row without an event type.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    no_clicks: frozenset[str] = frozenset()
    listed: Mapping[str, str] | None = None
    always: str = "view"

    def type_of(self, word: str) -> str | None:
        """Give the event type of a word; None if it is no click.

        Raises:
            ValueError: the format has no such word.
        """
        if word == "":
            return self.always if self.listed is None else self.listed.get(self.always)
        ours = self.known.get(word, word)
        if self.listed is not None:
            return self.listed.get(word, self.listed.get(ours))
        if word in self.no_clicks:
            return None
        if self.known and word not in self.known:
            raise ValueError(word)
        return ours


def listed_events(text: str, known: Mapping[str, str]) -> Mapping[str, str]:
    """Read a list of event types as the setting `events` has it.

    Args:
        text: `view,add_to_cart:cart`.
        known: the format's words to ours.

    Returns:
        The file's words, or ours, to the type that they are sent as.

    Raises:
        PermanentError: it cannot be read.
    """
    EventMap.parse(text)
    listed = {}
    for entry in text.split(","):
        name, colon, kind = (part.strip() for part in entry.rpartition(":"))
        if not colon:
            name, kind = kind, known.get(kind, kind)
        listed[name] = name if kind == OTHER else kind
    return listed
