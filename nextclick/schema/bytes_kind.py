"""What bytes that are no JSON look like, so that a person knows at once what a topic holds. Never says contents."""

import codecs
import re
import zlib

import msgspec

from nextclick.schema.wire_format import read_frame

_LOOKED_AT = 2_000  # bytes: enough to tell, and quick when every record of a topic is large and hostile
_COMPRESS = "let the producer's compression.type compress instead"
_UTF_16 = "text in UTF-16; JSON must be in UTF-8"
# How data begins, and what it then is. The longest come first where one begins like another.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"Obj\x01", "an Avro file (object container); clicks must be one record each"),
    (b"\xc3\x01", "Avro with a fingerprint of its schema in front (single-object encoding), which is not read"),
    (b"\xac\xed\x00\x05", "a serialised Java object"),
    (b"\x1f\x8b", f"gzip; {_COMPRESS}"),
    (b"\x28\xb5\x2f\xfd", f"zstd; {_COMPRESS}"),
    (b"\xff\x06\x00\x00sNaPpY", f"snappy; {_COMPRESS}"),
    (b"\x82SNAPPY\x00", f"snappy; {_COMPRESS}"),
    (b"\x04\x22\x4d\x18", f"lz4; {_COMPRESS}"),
    (b"\xfd7zXZ\x00", f"xz; {_COMPRESS}"),
    (b"BZh", f"bzip2; {_COMPRESS}"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PAR1", "a Parquet file"),
    (b":)\n", "Smile (binary JSON)"),
    (b"\xd9\xd9\xf7", "CBOR"),
    (b"\xff\xfe\x00\x00", "text in UTF-32; JSON must be in UTF-8"),
    (b"\x00\x00\xfe\xff", "text in UTF-32; JSON must be in UTF-8"),
    (b"\xff\xfe", _UTF_16),
    (b"\xfe\xff", _UTF_16),
)
_GLUE_BYTES = 18  # version 3, compression 0 or 5, a UUID
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")  # no text has them
_PICKLES = (b"\x02", b"\x03", b"\x04", b"\x05")
_MAX_FIELD_NUMBER = 2**29
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"\s*<", "XML or HTML"),
    (r"\s*[\[{]\s*'", "JSON with single quotes, as Python prints it; JSON needs double quotes"),
    (r"\s*[\[{]", "text that begins as JSON and is damaged or cut off"),
    (r'\s*"', "a quoted text"),
    (r"\s*-?\d+(\.\d+)?\s*\Z", "a number as text"),
    (r"eyJ[\w+/-]+=*(\.|\s*\Z)", "JSON in Base64, or a signed token"),
    (r"[\w.%-]+=[^&=\s]*(&[\w.%-]+=[^&=\s]*)+\s*\Z", "parameters of an address (name=value&...)"),
    (r"[^\n]*\t[^\n]*\t", "lines with tabs (TSV)"),
    (r"[^\n]*,[^\n]*,", "lines with commas (CSV)"),
    (r"[^\n]*;[^\n]*;", "lines with semicolons (CSV)"),
    (r"[^\n]*\|[^\n]*\|", "lines with | as separator"),
)


def describe_bytes(data: bytes) -> str:
    """Say in a few words what bytes look like that cannot be read as JSON.

    Returns:
        A text that goes on from "found": a noun, and where something helps, what to do after a semicolon. It says
        what begins how, for certain, and guesses what has no mark of its own.
    """
    if not data:
        return "nothing (0 bytes)"
    if _is_utf_16(data):
        return _UTF_16
    if (frame := read_frame(data)) is not None:
        behind = "JSON" if data[5:6] in (b"{", b"[", b'"') else "Avro or Protobuf"
        return (
            f"what begins as Confluent's wire format, with schema id {frame.schema_id} and {behind} behind it; "
            "set schema_registry"
        )
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    if data[0] == 3 and data[1:2] in (b"\0", b"\5") and len(data) > _GLUE_BYTES:
        return "the wire format of AWS Glue's schema registry, which is not read"
    if _is_zlib(data):
        return f"zlib; {_COMPRESS}"
    return _text(data) or _binary(data)


def _is_utf_16(data: bytes) -> bool:
    """Tell whether it is text of Latin letters in UTF-16: every other byte is zero, and none of the others."""
    first, second = data[:_LOOKED_AT:2], data[1:_LOOKED_AT:2]
    return len(data) > 3 and ((not any(first) and all(second)) or (all(first) and not any(second)))


def _is_zlib(data: bytes) -> bool:
    if len(data) < 2 or data[0] & 0x0F != 8 or int.from_bytes(data[:2]) % 31 != 0:
        return False
    try:
        zlib.decompressobj().decompress(data, 1)
    except zlib.error:
        return False
    return True


def _text(data: bytes) -> str | None:
    """Say what kind of text it is; None for what is none."""
    is_whole, data = len(data) <= _LOOKED_AT, data[:_LOOKED_AT]
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=is_whole)
    except UnicodeDecodeError:
        is_latin = data.lstrip()[:1] in (b"{", b"[") and not _CONTROLS.search(data)
        return "JSON in Latin-1 or another encoding of one byte; JSON must be in UTF-8" if is_latin else None
    if _CONTROLS.search(data):
        return None
    if not text.strip():
        return "only spaces"
    return next((kind for pattern, kind in _TEXTS if re.match(pattern, text)), "text that is no JSON")


def _binary(data: bytes) -> str:
    if data[0] == 0x80 and data[1:2] in _PICKLES and data.endswith(b"."):
        return "a pickled Python object"
    if len(data) >= 5 and int.from_bytes(data[:4], "little") == len(data) and data[-1] == 0:
        return "BSON"
    try:
        if isinstance(msgspec.msgpack.decode(data), dict | list):
            return "MessagePack"
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    if _is_protobuf(data):
        return "perhaps Protobuf without a schema's id in front; only what a schema registry's producers write is read"
    return f"binary data of {len(data)} bytes, of no kind that is known"


def _is_protobuf(data: bytes) -> bool:
    """Tell whether the bytes are fields of Protobuf, one behind the other."""
    is_whole, data = len(data) <= _LOOKED_AT, data[:_LOOKED_AT]
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind, number = tag & 7, tag >> 3
        if not 0 < number < _MAX_FIELD_NUMBER or kind not in (0, 1, 2, 5):
            return False
        n_bytes = {1: 8, 5: 4}.get(kind, 0)
        if kind in (0, 2):
            value, place = _varint(data, place)
            n_bytes = value if kind == 2 else 0
        place += n_bytes
    return place == len(data) or not is_whole


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of Protobuf's; gives it and the place behind it, beyond the end where the data is cut off."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            return 8, len(data) + 1
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return value, place
    return 0, place
