"""What the readers of several formats share."""

from typing import Any


def text_of(data: bytes) -> str:
    """Give bytes, which JSON does not have, as text: their own if they are UTF-8, hexadecimal digits otherwise."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.hex()


def no_subject(*_: Any) -> None:
    """Say that the id alone names the schema: with a subject, the registry would be asked more."""
