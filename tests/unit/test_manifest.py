"""The manifest: what is announced, and what is refused before a file is touched."""

import json
from typing import Any

import msgspec
import pytest

from nextclick.errors import BundleError
from nextclick.manifest import MAX_MANIFEST_BYTES, BundleFile, Manifest, bundle_id_of, decode_manifest, encode_manifest

FILES = (BundleFile("model.safetensors", "ab" * 32, 10), BundleFile("vocabulary.parquet", "cd" * 32, 20))
NETWORK = {"n_items": 5, "hidden_size": 4, "cell": "gru", "tied": True}
MANIFEST = Manifest(
    bundle_id="0123456789abcdef",
    created_ms=1_700_000_000_000,
    network=NETWORK,
    files=FILES,
    metrics={"recall_at_20": 0.25},
    parent="fedcba9876543210",
    log_range={"0": (5, 900), "1": (0, 1)},
)


def test_a_manifest_is_read_back() -> None:
    """Through JSON, with every field."""
    assert decode_manifest(encode_manifest(MANIFEST)) == MANIFEST


def test_fields_of_a_later_version_are_passed_over() -> None:
    """A field may be added without a new format."""
    assert decode_manifest(_changed(licence="x")) == MANIFEST


def test_the_id_follows_from_the_content() -> None:
    """The same content has the same id wherever it was made; any change gives another."""
    bundle_id = bundle_id_of(FILES, NETWORK, 1)
    other_file = (BundleFile("model.safetensors", "ac" + "ab" * 31, 10), FILES[1])

    assert bundle_id == bundle_id_of(FILES, dict(reversed(NETWORK.items())), 1)
    assert len(bundle_id) == 16
    assert int(bundle_id, 16) > 0
    others = {
        bundle_id_of(other_file, NETWORK, 1),
        bundle_id_of(FILES, NETWORK | {"cell": "rnn"}, 1),
        bundle_id_of(FILES, NETWORK, 2),
    }
    assert len(others | {bundle_id}) == 4


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "..",
        ".",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..\\b",
        ".hidden",
        "",
        "a\0b",
    ],
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    """A manifest comes from a topic: its names are used as paths only when they are plain."""
    with pytest.raises(BundleError, match="plain names"):
        decode_manifest(_changed(files=[{"name": name, "sha256": "", "size_bytes": 1}]))
    with pytest.raises(BundleError, match=r"plain names|16 hexadecimal"):
        decode_manifest(_changed(bundle_id=name))


@pytest.mark.parametrize(
    "bundle_id",
    ["0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0x23456789abcdef", "\uff10123456789abcdef"],
)
def test_an_id_is_16_hexadecimal_digits(bundle_id: str) -> None:
    """States name the bundle as a 64-bit number."""
    with pytest.raises(BundleError, match="16 hexadecimal digits"):
        decode_manifest(_changed(bundle_id=bundle_id))


def test_the_id_zero_is_refused() -> None:
    """In a user's state 0 means that there is no bundle."""
    with pytest.raises(BundleError):
        decode_manifest(_changed(bundle_id="0" * 16))


def test_another_format_is_refused_and_says_what_to_do() -> None:
    """An older worker must not guess what a newer bundle means."""
    with pytest.raises(BundleError, match="expected bundle format 1, found 2; upgrade"):
        decode_manifest(_changed(format_version=2))


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'"\xff"', b'{"bundle_id":' + b"[" * 100_000, b'{"files":[{}]}'],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    """Anything can arrive on a topic."""
    with pytest.raises(BundleError):
        decode_manifest(data)


@pytest.mark.parametrize(
    ("field", "value"), [("created_ms", "now"), ("files", {}), ("network", []), ("metrics", {"a": "b"})]
)
def test_wrong_types_are_refused(field: str, value: Any) -> None:
    """Nothing of the wrong type reaches the code behind."""
    with pytest.raises(BundleError):
        decode_manifest(_changed(**{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_ms", 10**400),
        ("created_ms", -1),
        ("log_range", {"0": [0, 2**63]}),
        ("files", [{"name": "a", "sha256": "", "size_bytes": 2**64}]),
        ("files", [{"name": "a", "sha256": "", "size_bytes": -1}]),
        ("network", {"n_items": 2**64}),
        ("network", {"layers": [[1]]}),
        ("network", {"layers": {"a": 1}}),
    ],
    ids=str,
)
def test_values_that_nothing_can_reckon_with_are_refused(field: str, value: Any) -> None:
    """JSON knows neither 64 bits nor an end of nesting; metrics, digests and comparisons behind it do."""
    with pytest.raises(BundleError):
        decode_manifest(json.dumps(msgspec.to_builtins(MANIFEST) | {field: value}).encode())


def test_a_larger_announcement_than_a_broker_takes_is_refused() -> None:
    """Before it is parsed."""
    with pytest.raises(BundleError, match=f"at most {MAX_MANIFEST_BYTES} bytes, found {MAX_MANIFEST_BYTES + 1}"):
        decode_manifest(encode_manifest(MANIFEST).ljust(MAX_MANIFEST_BYTES + 1))
    assert decode_manifest(encode_manifest(MANIFEST).ljust(MAX_MANIFEST_BYTES)) == MANIFEST


@pytest.mark.parametrize(("field", "value"), [("bundle_id", "x" * 500_000), ("format_version", 10**4_000)])
def test_what_is_refused_is_named_in_short(field: str, value: Any) -> None:
    """The message goes into a log."""
    with pytest.raises(BundleError) as refused:
        decode_manifest(json.dumps(msgspec.to_builtins(MANIFEST) | {field: value}).encode())

    assert len(str(refused.value)) < 200


def test_a_manifest_is_frozen() -> None:
    """A bundle never changes after it was made."""
    with pytest.raises(AttributeError):
        MANIFEST.parent = ""  # type: ignore[misc]


def _changed(**fields: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(MANIFEST) | fields)
