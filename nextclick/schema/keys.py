"""How a record's key says whose click it is."""

import struct
from typing import Any

import msgspec

from nextclick.schema.ids import read_id

UserNames = tuple[str, ...]  # no Sequence: a single text would pass for one, as its letters


def user_names(user_field: str) -> UserNames:
    """Give the last name of each of the user's paths: by these an object of several fields names the user."""
    return tuple(each.strip().rpartition(".")[2] for each in user_field.split("|"))


def read_key(key_format: str, key: bytes, names: UserNames) -> str:
    """Give the user that a key names.

    Args:
        key_format: `text`, `json`, `int`, `long` or `connect`.
        key: the record's.
        names: of the user, see `user_names`.

    Raises:
        ValueError: it is not of this format; the message says what was expected.
    """
    match key_format:
        case "text":
            return key.decode()
        case "int" | "long":
            size = 4 if key_format == "int" else 8
            if len(key) != size:
                raise ValueError(f"expected a key of {size} bytes, found {len(key)}")
            return str(int.from_bytes(key, "big", signed=True))
        case _:
            try:
                document = msgspec.json.decode(key)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                raise ValueError("expected a key of JSON, found other bytes") from None
            return id_of(document, names, is_connect=key_format == "connect")


def id_of(document: Any, names: UserNames, *, is_connect: bool = False) -> str:
    """Give the id in a key that is parsed already: the value itself, or an object's only field, or its user's.

    Raises:
        ValueError: there is none.
    """
    if is_connect and isinstance(document, dict) and "payload" in document:
        document = document["payload"]
    if isinstance(document, dict):
        values = list(document.values())
        named = (document[name] for name in names if document.get(name) is not None)
        document = values[0] if len(values) == 1 else next(named, None)
        if document is None:
            raise ValueError(f"expected an object with one field, or with {' or '.join(names)}; found another")
    return read_id(document)


def write_key(key_format: str, user_id: str) -> bytes:
    """Give the key of a user's records.

    Raises:
        ValueError: it cannot be written like this.
    """
    match key_format:
        case "text":
            return user_id.encode()
        case "int" | "long":
            try:
                return struct.pack(">i" if key_format == "int" else ">q", int(user_id))
            except struct.error:
                raise ValueError("a number that is too large") from None
        case "connect":
            return msgspec.json.encode({"schema": {"type": "string", "optional": False}, "payload": user_id})
        case _:
            return msgspec.json.encode(user_id)
