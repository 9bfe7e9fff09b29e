"""What an item is listed for, said for a person. Pure."""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from nextclick.feed_types import Reason
from nextclick.updates import Part

_TEXTS = {"reclick": "you clicked it before", "network": "fits what you did"}


def reasons(because: Sequence[Part] | UnsetType) -> list[Reason] | UnsetType:
    """Give the parts of an item's score with a text each, in their order; UNSET where the list does not have them."""
    if because is UNSET:
        return UNSET
    return [Reason(part.kind, part.share, _text(part), part.item_id) for part in because]


def _text(part: Part) -> str:
    if part.kind != "neighbour":
        return _TEXTS[part.kind]
    return "often clicked after " + ("what you clicked" if part.item_id is UNSET else part.item_id)
