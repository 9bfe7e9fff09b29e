"""The manifest of a bundle: what is announced on the topic `models` and written last into the bundle's folder."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.errors import BundleError
from nextclick.updates import Int64

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000  # a broker's limit for a record: what is larger cannot have been announced
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")  # no way out of a folder, nothing hidden
_BUNDLE_ID = re.compile(r"[0-9a-f]{16}")
NO_BUNDLE = "0" * 16  # what a user's state names when there is none
_Offset = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
# Flat: what an older version passes over must still be hashed and compared, however it was nested.
NetworkFields = dict[str, bool | Int64 | float | str]
CHAMPION = "champion"  # the channel, that is the key on `models`, that workers serve


class BundleFile(msgspec.Struct, frozen=True):
    """A file of a bundle, to be verified before use."""

    name: str
    sha256: str
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a bundle but its files.

    Attributes:
        bundle_id: 16 hexadecimal digits, from `bundle_id_of`.
        format_version: of bundles, not of a bundle.
        created_ms: when it was made.
        network: the network's configuration.
        files: each to be verified.
        metrics: name to value, as measured on the validation part.
        parent: the bundle that it was fine-tuned from, or empty.
        log_range: partition to [first, last] offset of the clicks that it was trained from.
        judgement: why it was published, in a line for people; or empty.
        settings: name to value, as text, of those that shaped it.
        versions: of the software that made it, by name.
    """

    bundle_id: str
    format_version: int = FORMAT_VERSION
    created_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)]
    network: NetworkFields
    files: tuple[BundleFile, ...]
    metrics: dict[str, float]
    parent: str = ""
    log_range: dict[str, tuple[_Offset, _Offset]] = {}
    judgement: str = ""
    settings: dict[str, str] = {}
    versions: dict[str, str] = {}


class TrainedFrom(NamedTuple):
    """How a bundle came about, as its manifest says it (see `Manifest`)."""

    parent: str = ""
    log_range: Mapping[str, tuple[int, int]] = {}
    judgement: str = ""
    settings: Mapping[str, str] = {}
    versions: Mapping[str, str] = {}


UNKNOWN_ORIGIN = TrainedFrom()


def bundle_id_of(files: tuple[BundleFile, ...], network: NetworkFields, created_ms: int) -> str:
    """Derive a bundle's id from what it holds: 16 hexadecimal digits, never all zero."""
    digest = hashlib.sha256(msgspec.json.encode((files, network, created_ms), order="sorted")).hexdigest()
    return digest[:16] if digest[:16] != NO_BUNDLE else digest[16:32]


def is_bundle_id(name: str) -> bool:
    """Tell whether a name is one that a bundle can have."""
    return _BUNDLE_ID.fullmatch(name) is not None


def encode_manifest(manifest: Manifest) -> bytes:
    """Give the manifest's JSON."""
    return msgspec.json.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        BundleError: it is not one, is too large, is of another format, or names files outside its folder.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"expected a manifest of at most {MAX_MANIFEST_BYTES} bytes, found {len(data)}; publish another bundle"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"expected a bundle's manifest, found something else: {error!s:.300}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"expected bundle format {FORMAT_VERSION}, found {_shortened(manifest.format_version)}; "
            "upgrade this program"
        )
    if not all(_PLAIN_NAME.fullmatch(file.name) for file in manifest.files):
        raise BundleError("expected plain names in a bundle's manifest, found one that leaves its folder; refuse it")
    if not _BUNDLE_ID.fullmatch(manifest.bundle_id) or manifest.bundle_id == NO_BUNDLE:
        raise BundleError(
            f"expected a bundle id of 16 hexadecimal digits, found {_shortened(manifest.bundle_id)}; refuse it"
        )
    return manifest


def _shortened(value: object) -> str:
    return f"{value!r:.40}"  # goes into a log, and can be as long as the whole manifest
