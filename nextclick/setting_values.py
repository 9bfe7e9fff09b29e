"""What one setting takes: its type and its range, read from a text or from a typed value, and how another is refused.

Knows no setting by name: `nextclick.settings` has them.
"""

import math
import re
import typing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.inspect import BoolType, FloatType, IntType, LiteralType, type_info

from nextclick.errors import PermanentError

_LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^@,]+(?=@)|(?<=\?)\S+")  # a key can hold a slash, and a query be a token
HIDDEN = "(hidden)"


class Given(NamedTuple):
    """A setting's value as somebody gave it: not checked yet.

    Attributes:
        value: a text, or what a TOML file can hold.
        where: what to correct when it is wrong: `--set`, a variable's name, a file.
        source: the kind of `where`.
    """

    value: object
    where: str
    source: Literal["file", "environment", "command line"]


class Kind(NamedTuple):
    """What a setting takes.

    Attributes:
        type: as msgspec understands it, the range included.
        is_secret: whether its value may be shown.
    """

    type: Any
    is_secret: bool

    def shown(self, value: object) -> object:
        """Give a value as people may see it: neither a secret, nor the login in an address. A path becomes a text."""
        if self.is_secret and value != "":
            return HIDDEN
        return _LOGIN_IN_ADDRESS.sub("***", str(value)) if isinstance(value, str | Path) else value


def read_value(name: str, kind: Kind, given: Given) -> Any:
    """Read what was given, a text or a typed value.

    Raises:
        PermanentError: the setting does not take it.
    """
    value = given.value
    if isinstance(value, str):
        value = _number(name, kind, value, given.where)
    return checked_value(name, kind, value, given.where, strict=False)


def checked_value(name: str, kind: Kind, value: Any, where: str, *, strict: bool = True) -> Any:
    """Give a setting's value if it is one that the setting takes; when not strict, also from a text.

    Raises:
        PermanentError: the setting does not take it.
    """
    try:
        checked = msgspec.convert(value, kind.type, strict=strict, dec_hook=lambda _, path: Path(path))
    except (msgspec.ValidationError, TypeError):
        raise _refusal(name, kind, value, where) from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise _refusal(name, kind, value, where)
    return checked


def choices(kind: Kind) -> tuple[str, ...]:
    """Give the texts that a setting takes when it takes no others."""
    return typing.get_args(kind.type) if typing.get_origin(kind.type) is Literal else ()


def _number(name: str, kind: Kind, text: str, where: str) -> str | int | float:
    """Read a number as Python writes it (`.5`, `10_000`), which is more than msgspec takes; the rest stays text."""
    try:
        match type_info(kind.type):
            case IntType():
                return int(text)
            case FloatType():
                return float(text)
    except ValueError:
        raise _refusal(name, kind, text, where) from None
    return text


def _refusal(name: str, kind: Kind, value: object, where: str) -> PermanentError:
    found = f"{kind.shown(value)!r:.60}"
    return PermanentError(f"setting {name} cannot be {found}: it takes {_allowed(kind)}; correct it in {where}")


def _allowed(kind: Kind) -> str:
    match type_info(kind.type):
        case BoolType():
            return "true or false"
        case IntType(ge=at_least, le=at_most):
            return f"a whole number {_range(at_least, at_most)}"
        case FloatType(ge=at_least, le=at_most):
            return f"a number {_range(at_least, at_most)}"
        case LiteralType():
            return f"one of {', '.join(choices(kind))}"
        case _:
            return "a text"


def _range(at_least: float | None, at_most: float | None) -> str:
    return f"of at least {at_least:,}" if at_most is None else f"from {at_least:,} to {at_most:,}"
