"""Where a field is in a record: a path into nested objects and lists, alternatives, or a header."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec

from nextclick.errors import PermanentError

HEADER: Final = "header:"
MAX_PARTS: Final = 10  # bounds the ways in which names with dots can be read
Headers = Sequence[tuple[str, bytes | None]] | None


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A field's place: the first of these alternatives that is there, and not null and not empty.

    Attributes:
        text: as the setting has it: `event.product.id`, `items.0.sku`, `userId|anonymousId`, `header:ce_time`.
        alternatives: each a header's name, or the parts of a path.
        plain: the name, if that is all; most topics are like this.
    """

    text: str
    alternatives: tuple[str | tuple[str, ...], ...]
    plain: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a setting.

        Raises:
            PermanentError: a part of it is empty, or it is too deep; says what to write instead.
        """
        alternatives = tuple(_alternative(part.strip(), text) for part in text.split("|"))
        first = alternatives[0]
        is_plain = len(alternatives) == 1 and isinstance(first, tuple) and len(first) == 1
        return cls(text, alternatives, first[0] if is_plain else None)

    def read(self, documents: Sequence[Any], headers: Headers) -> Any:
        """Give what the field holds; None when nothing is there.

        Args:
            documents: where to look, one after another: the event itself, then what its envelope says.
            headers: of the record.
        """
        for alternative in self.alternatives:
            if isinstance(alternative, str):
                found = _header(headers, alternative)
            else:
                found = next((value for each in documents if (value := _find(each, alternative)) is not None), None)
            if found is not None and found != "":
                return found
        return None


def _alternative(part: str, text: str) -> str | tuple[str, ...]:
    if part.startswith(HEADER) and len(part) > len(HEADER):
        return part.removeprefix(HEADER)
    parts = tuple(part.split("."))
    if not all(parts) or part.startswith(HEADER):
        raise PermanentError(
            f"the field {text!r} has an empty part: write names with dots between them (event.product.id), places in "
            "lists as numbers (items.0.sku), alternatives with | (userId|anonymousId) and headers as header:NAME"
        )
    if len(parts) > MAX_PARTS:
        raise PermanentError(f"the field {text!r} has {len(parts)} parts, and {MAX_PARTS} is the most; shorten it")
    return parts


def _header(headers: Headers, name: str) -> str | None:
    """Give a header's text; names are compared as HTTP does, whose gateways change their case."""
    name = name.lower()
    for each, value in headers or ():
        if value is not None and each.lower() == name:
            return header_text(value)
    return None


def header_text(value: bytes) -> str:
    """Give what a header holds; of bytes that are no text their digits, so that two never become the same."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _find(node: Any, parts: tuple[str, ...]) -> Any:
    """Follow a path; a name may have dots itself, and the longest name that is there is taken first."""
    if not parts:
        return node
    if isinstance(node, str):
        node = parsed_text(node)
    if isinstance(node, Mapping):
        for n_parts in range(len(parts), 0, -1):
            inner = node.get(parts[0] if n_parts == 1 else ".".join(parts[:n_parts]))
            if inner is not None and (found := _find(inner, parts[n_parts:])) is not None:
                return found
    elif isinstance(node, list) and parts[0].removeprefix("-").isdecimal():
        place = int(parts[0])
        if -len(node) <= place < len(node):
            return _find(node[place], parts[1:])
    return None


def parsed_text(value: Any) -> Any:
    """Give the object or array that somebody wrote as text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return value
    return value


def write_at(document: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    """Put a value where `FieldPath.read` finds it; the lists and objects on the way are made."""
    node: Any = document
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        inner: Any = value if following is None else [] if following.isdecimal() else {}
        if isinstance(node, list):
            while len(node) <= int(part):
                node.append({})
            if following is None or not node[int(part)]:
                node[int(part)] = inner
            node = node[int(part)]
        else:
            node = node.setdefault(part, inner)
