"""What reading a click asks of a schema registry. `tools.schema_registry` implements it."""

from typing import Protocol

from nextclick.schema.paths import Headers


class Undecodable(Exception):
    """Bytes that no schema makes sense of. The text says why to a person, and never holds the bytes."""


class Registry(Protocol):
    """Gives a record's key or value as plain Python objects."""

    def decode(self, data: bytes, headers: Headers = None, *, is_key: bool = False) -> object:
        """Decode bytes whose schema is loaded; asks nobody, so it never waits.

        Raises:
            Undecodable: the bytes are not in Confluent's wire format, the registry does not know their schema, or
                they do not fit it.
        """
