"""Which schema a key or value says it was written with."""

from uuid import UUID

import pytest

from nextclick.schema.wire_format import read_frame

NAME = UUID("01234567-89ab-cdef-0123-456789abcdef")


def test_the_number_in_front_is_read() -> None:
    """A zero and four bytes, the highest first."""
    frame = read_frame(b"\0\0\0\1\2rest")

    assert frame == (258, b"\0\0\0\1\2rest")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\0\0\0\0\0rest",  # no registry counts from 0
        b"\0\x80\0\0\0rest",  # nor beyond a signed number
        b'{"user_id": "ann"}',
        b"\1" + NAME.bytes + b"rest",  # only headers hold UUIDs
    ],
)
def test_other_bytes_are_not_in_the_format(data: bytes) -> None:
    """Nothing is asked of a registry for them."""
    assert read_frame(data) is None


@pytest.mark.parametrize(("prefix", "expected"), [(b"\1" + NAME.bytes, NAME), (b"\0\0\0\0\7", 7)])
@pytest.mark.parametrize(("header", "is_key"), [("__value_schema_id", False), ("__key_schema_id", True)])
def test_a_header_names_the_schema(prefix: bytes, expected: object, header: str, is_key: bool) -> None:
    """Newer producers leave the bytes as they are; the other half of the record has a header of its own."""
    headers = [("trace", None), (header, prefix)]

    assert read_frame(b"rest", headers, is_key=is_key) == (expected, prefix + b"rest")
    assert read_frame(b"rest", headers, is_key=not is_key) is None


@pytest.mark.parametrize("prefix", [b"\1short", b"\2" + NAME.bytes, b"\0\0\0\0\0"])
def test_a_header_that_names_none_is_not_in_the_format(prefix: bytes) -> None:
    """However the bytes begin."""
    assert read_frame(b"\0\0\0\0\7rest", [("__value_schema_id", prefix)]) is None
