"""What bytes that are no JSON look like, in words."""

import base64
import bz2
import gzip
import json
import lzma
import pickle
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextclick.schema.bytes_kind import describe_bytes

CLICK = json.dumps({"user_id": "ann-the-first", "item_id": "lamp"})
PROTOBUF = b"\x0a\x0dann-the-first\x12\x04lamp\x18\x80\x90\xd4\xb6\xab\x33"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "nothing"),
        (b"\0\0\0\0\x11" + CLICK.encode(), "Confluent's wire format, with schema id 17 and JSON behind it"),
        (b"\0\0\0\1\0\x1aann-the-first", "Confluent's wire format, with schema id 256 and Avro or Protobuf behind it"),
        (b"Obj\x01\x04\x14avro.codec", "an Avro file"),
        (b"\xc3\x01" + bytes(8), "single-object encoding"),
        (b"\xac\xed\0\x05sr", "a serialised Java object"),
        (gzip.compress(CLICK.encode(), mtime=0), "gzip;"),
        (zlib.compress(CLICK.encode()), "zlib;"),
        (bz2.compress(CLICK.encode()), "bzip2;"),
        (lzma.compress(CLICK.encode()), "xz;"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "zstd;"),
        (b"\xff\x06\0\0sNaPpY\0", "snappy;"),
        (b"\x82SNAPPY\0\0\0\0\1", "snappy;"),
        (b"\x04\x22\x4d\x18\x64", "lz4;"),
        (msgspec.msgpack.encode({"user_id": "ann-the-first"}), "MessagePack"),
        (pickle.dumps({"user_id": "ann-the-first"}), "a pickled Python object"),
        (b"\x10\0\0\0\x02a\0\4\0\0\0ann\0\0", "BSON"),
        (b"\x03\x00" + bytes(range(16)) + b"\x02", "AWS Glue"),
        (PROTOBUF, "perhaps Protobuf"),
        (PROTOBUF[:-1], "binary data of 27 bytes"),
        (CLICK.encode("utf-16"), "text in UTF-16"),
        (CLICK.encode("utf-16-le"), "text in UTF-16"),
        (CLICK.encode("utf-16-be"), "text in UTF-16"),
        (CLICK.encode("utf-32"), "text in UTF-32"),
        ('{"user_id": "Jürgen"}'.encode("latin-1"), "Latin-1"),
        (CLICK.encode()[:-4], "damaged or cut off"),
        (b"{'user_id': 'ann-the-first'}", "single quotes"),
        (base64.b64encode(CLICK.encode()), "Base64"),
        (b"<click><user>ann-the-first</user></click>", "XML"),
        (b"ann-the-first,lamp,1764000000", "commas"),
        (b"ann-the-first;lamp;1764000000", "semicolons"),
        (b"ann-the-first\tlamp\t1764000000", "tabs"),
        (b"user=ann-the-first&item=lamp", "parameters of an address"),
        (b"1764000000", "a number as text"),
        (b"ann-the-first", "text that is no JSON"),
        (b" \n", "only spaces"),
        (b"\xfe\xdc\xba\x98\x76\x54\x32\x10", "binary data of 8 bytes"),
    ],
)
def test_bytes_are_described_without_their_contents(data: bytes, expected: str) -> None:
    """A person learns what the topic holds, and nothing of a user."""
    described = describe_bytes(data)

    assert expected in described
    assert "ann-the-first" not in described


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[" + "é".encode() * 3_000, "begins as JSON"),
        (PROTOBUF * 1_000, "perhaps Protobuf"),
        (CLICK.encode("utf-16-le") * 100, "text in UTF-16"),
        (msgspec.msgpack.encode({"user_id": "ann-the-first" * 1_000}), "MessagePack"),
    ],
)
def test_long_values_are_told_by_how_they_begin(data: bytes, expected: str) -> None:
    """Wherever the part that is looked at ends."""
    assert expected in describe_bytes(data)


def test_what_helps_is_said() -> None:
    """The setting for the wire format, the producer's own compression for compressed values."""
    assert describe_bytes(b"\0\0\0\0\x11" + CLICK.encode()).endswith("; set schema_registry")
    assert "compression.type" in describe_bytes(gzip.compress(CLICK.encode()))


@given(st.binary(max_size=200))
def test_any_bytes_are_described(data: bytes) -> None:
    """Hostile ones, too."""
    assert describe_bytes(data)
