"""Bundles and messages of an enemy: refused with the one documented error, or served with numbers. Nothing hangs.

Whoever can write into the folder of bundles can write a manifest that vouches for what he wrote: the damage is signed
anew here, else nothing behind the digests would ever be reached.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from nextclick.bundle import MODEL_FILE, VOCABULARY_FILE, copy_bundle, load_bundle, save_bundle
from nextclick.errors import BundleError
from nextclick.hashing import item_hash
from nextclick.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    BundleFile,
    Manifest,
    bundle_id_of,
    decode_manifest,
    encode_manifest,
)
from nextclick.network_config import NetworkConfig
from nextclick.popularity import Popularity, prepare_seed
from nextclick.updates import MAX_UPDATE_BYTES, RecommendationUpdate, decode_update
from nextclick.user_state import with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network

ITEMS = ("a", "b", "c", "d", "e")
FILES = (MODEL_FILE, VOCABULARY_FILE, MANIFEST_FILE)
CONFIGS: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": "lstm", "tied": False},
    {"cell": "rnn"},
    {"skip": True, "normalised": True, "n_neighbours": 3},
]

MAX_MESSAGE = 1_000  # characters: it goes into a log

Change = Callable[[Path], None]
T = TypeVar("T")
E = TypeVar("E", bound=Exception)
# Only when a test fails, and then the failure is the news.
pytestmark = pytest.mark.filterwarnings("default:Generating overly large repr")


def outcome_of(call: Callable[[], T], expected: type[E]) -> T | E:
    """Give what the call gives, or the one error that it may raise."""
    try:
        return call()
    except expected as error:
        return error


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A sound bundle of every cell, and one with all that is mixed in."""
    store = tmp_path_factory.mktemp("originals")
    folders = []
    for created_ms, config in enumerate(CONFIGS):
        fields = {"n_items": len(ITEMS), "hidden_size": 4} | config
        network = random_network(msgspec.convert(fields, NetworkConfig), created_ms)
        vocabulary = Vocabulary(ITEMS, np.arange(5.0))
        manifest = save_bundle(store, network, vocabulary, created_ms=created_ms, metrics={"m": 0.5})
        folders.append(store / manifest.bundle_id)
    return folders


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where damaged copies are made, one after the other."""
    path = tmp_path_factory.mktemp("damaged")
    yield path
    shutil.rmtree(path)


def judge(original: Path, place: Path, *changes: Change) -> bool:
    """Change a copy of a bundle, load it, serve from it; tells whether it could be loaded."""
    folder, copied = place / "bundle", place / "copied"
    shutil.rmtree(place)
    shutil.copytree(original, folder)
    for change in changes:
        change(folder)
    with contextlib.suppress(BundleError):
        copy_bundle(folder, copied)
    loaded = outcome_of(lambda: load_bundle(folder), BundleError)
    if isinstance(loaded, BundleError):
        assert len(str(loaded)) < MAX_MESSAGE
        return False

    manifest, model = loaded
    assert load_bundle(copied)[0] == manifest
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert math.isfinite(manifest.created_ms / 1000)
    popularity = Popularity(half_life_s=1.0)
    popularity.seed(prepare_seed(model.item_ids, model.popularity))
    popularity.add("u", "new", 0)
    hidden = [b""]
    recent = b""
    for _ in range(3):
        hidden = model.run(hidden, [[(0, 2**32 - 1, 255)]])
        recent = with_recent(recent, item_hash(model.item_ids[0]), 2**32 - 1, 255, keep=3)
    explained = model.rank([b"", *hidden], [b"", recent], 9, explain=True)
    for ranked in (*model.rank([b"", *hidden], [b"", recent], 9), *explained, popularity.ranked(9)):
        items = json.loads(bytes(ranked.items))
        assert items
        assert all(0 <= part["share"] <= 1 + 1e-6 for item in items for part in item.get("because", ()))
        assert all(0 <= item["score"] <= 1 + 1e-6 for item in items)
        assert all(0 < len(item["item_id"].encode()) <= 256 for item in items)
    return True


def sign(folder: Path) -> None:
    """Make the manifest vouch for the files as they are."""
    original = json.loads((folder / MANIFEST_FILE).read_bytes())
    files = tuple(
        BundleFile(name, hashlib.sha256((folder / name).read_bytes()).hexdigest(), (folder / name).stat().st_size)
        for name in (MODEL_FILE, VOCABULARY_FILE)
    )
    network, created_ms = original["network"], original["created_ms"]
    signed = original | {"files": msgspec.to_builtins(files), "bundle_id": bundle_id_of(files, network, created_ms)}
    (folder / MANIFEST_FILE).write_text(json.dumps(signed))


def _splice(name: str, position: int, removed: int, inserted: bytes) -> Change:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        # Headers and footers are where the meaning is: half of the positions count from the end.
        at = position % (len(data) + 1) if position >= 0 else max(0, len(data) + position)
        (folder / name).write_bytes(data[:at] + inserted + data[at + removed :])

    return change


splices = st.builds(
    _splice,
    st.sampled_from(FILES),
    st.integers(0, 3_000) | st.integers(-1_200, -1),
    st.sampled_from([0, 1, 1, 2, 8, 5_000]),
    st.binary(max_size=8),
)
folders = st.integers(0, len(CONFIGS) - 1)


@given(folders, st.lists(splices, min_size=1, max_size=3), st.booleans())
def test_wrong_bytes_are_a_clear_error(
    originals: list[Path], place: Path, which: int, changes: list[Change], signed: bool
) -> None:
    """In any file, with a manifest that does not notice, or does."""
    loaded = judge(originals[which], place, *changes, *([_sign_if_possible] if signed else []))

    if loaded and not signed:
        for name in (MODEL_FILE, VOCABULARY_FILE):
            assert (place / "bundle" / name).read_bytes() == (originals[which] / name).read_bytes()


def _sign_if_possible(folder: Path) -> None:
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):  # the manifest was damaged too
        sign(folder)


numbers = (-1, 0, 1, 4, 5, 6, 2**31, 2**63, 2**64, 10**18, 10**400, -(10**400), 1.5, 1e6, 1e308)
texts = ("", "x", "../x", "/etc/passwd", "a\0b", "\ud800", "x" * 2_000, MODEL_FILE, "0" * 16, "lstm", "gru")
types_of_weights = ("F16", "F64", "I64", "BOOL", "C64", "F8_E4M3", "U8", "F4")
shapes = ([], [0], [0, 2**63], [-1, -1], [2**62, 2**62], [5, 4], [4, 5], [20])
REMOVED = {"x": 1}  # stands for a member that is taken out
hostile_values: st.SearchStrategy[Any] = st.sampled_from(
    (None, True, *numbers, *texts, *types_of_weights, *shapes, {}, REMOVED)
)


def _replace(value: Any, path: list[int], new: Any) -> Any:
    """Give the JSON value with one place of it changed."""
    if not path or not isinstance(value, (dict, list)) or not value:
        return new
    key = list(value)[path[0] % len(value)] if isinstance(value, dict) else path[0] % len(value)
    changed = dict(value) if isinstance(value, dict) else list(value)
    if new == REMOVED:
        del changed[key]
    else:
        changed[key] = _replace(value[key], path[1:], new)
    return changed


paths = st.lists(st.integers(0, 20), min_size=1, max_size=4)
replacements = st.lists(st.tuples(paths, hostile_values), min_size=1, max_size=3)


@given(folders, replacements, st.booleans(), st.sampled_from(["", " " * 1_000_000, "[" * 50_000, "}"]))
def test_a_hostile_manifest_is_a_clear_error(
    originals: list[Path], place: Path, which: int, replaced: list[tuple[list[int], Any]], signed: bool, tail: str
) -> None:
    """Wrong types, huge numbers, other names of files, another configuration, whose id fits or not."""

    def change(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        for path, new in replaced:
            manifest = _replace(manifest, path, new)
        if signed:
            with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError):
                files = msgspec.convert(manifest["files"], tuple[BundleFile, ...])
                manifest["bundle_id"] = bundle_id_of(files, manifest["network"], manifest["created_ms"])
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest) + tail)

    judge(originals[which], place, change)


@given(folders, replacements)
@example(0, [([0], "x" * 2_000)])
def test_a_hostile_header_of_the_weights_is_a_clear_error(
    originals: list[Path], place: Path, which: int, replaced: list[tuple[list[int], Any]]
) -> None:
    """Tensors that claim any size, type or place."""

    def change(folder: Path) -> None:
        data = (folder / MODEL_FILE).read_bytes()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:end])
        for path, new in replaced:
            header = _replace(header, path, new)
        text = json.dumps(header).encode()
        (folder / MODEL_FILE).write_bytes(struct.pack("<Q", len(text)) + text + data[end:])

    judge(originals[which], place, change, sign)


ALL = 20  # more than there are weights: every one of them
weights = st.sampled_from(
    [0.0, 1.0, -1.0, 1e6, -1e6, 1.1e6, 1e30, 3.4e38, -3.4e38, math.nan, math.inf, -math.inf, 1e-45]
)
dtypes = st.sampled_from(
    [
        torch.float32,
        torch.float32,
        torch.float32,
        torch.float16,
        torch.float64,
        torch.int32,
        torch.int64,
        torch.complex64,
        torch.bool,
    ]
)


@given(folders, st.integers(0, ALL), st.lists(weights, min_size=1, max_size=2), dtypes)
@example(1, ALL, [3.4e38], torch.float32)
@example(3, ALL, [1e6], torch.float32)
@example(1, ALL, [math.nan], torch.float32)
def test_no_weights_serve_what_is_no_number(
    originals: list[Path], place: Path, which: int, tensor: int, values: list[float], dtype: torch.dtype
) -> None:
    """NaN, infinity, and what becomes one of them on its way to a score."""

    def change(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / MODEL_FILE)
        for name in list(tensors) if tensor == ALL else [sorted(tensors)[tensor % len(tensors)]]:
            tensors[name] = torch.tensor(np.resize(values, tensors[name].shape)).to(dtype)
        safetensors.torch.save_file(tensors, folder / MODEL_FILE)

    judge(originals[which], place, change, sign)


item_ids = st.sampled_from(
    [b"", b"b", b"x" * 256, b"x" * 257, b"x" * 100_000, b"\xff", b"\xed\xa0\x80", b"\0", b"\x01" * 256, None]
)
popularities = st.sampled_from([0.0, 1e300, -1.0, -0.0, math.nan, math.inf, -math.inf, 1.7e308, None])
rows = st.tuples(st.just(b"e") | item_ids, st.just(1.0) | popularities)
compressions = ({"compression": "zstd"}, {"compression": "gzip"}, {"compression": "none"})
layouts = ({"use_dictionary": False}, {"row_group_size": 1}, {"data_page_version": "2.0"}, {"store_schema": False})
options = st.just({}) | st.sampled_from((*compressions, *layouts))
types = st.just(pa.string()) | st.sampled_from([pa.large_string(), pa.binary(), pa.list_(pa.string())])


@given(
    folders,
    st.integers(3, 5),
    st.lists(rows, max_size=2),
    types,
    options,
)
@example(0, 4, [(b"x" * 257, 1.0)], pa.string(), {})
def test_a_hostile_vocabulary_is_a_clear_error(
    originals: list[Path],
    place: Path,
    which: int,
    n_sound: int,
    hostile: list[tuple[bytes | None, float | None]],
    kind: pa.DataType,
    options: dict[str, Any],
) -> None:
    """Ids that are none, twice or without end; popularities that are no weights; any other Parquet file."""
    sound = [(item_id.encode(), 1.0) for item_id in ITEMS[:n_sound]]
    ids, often = zip(*sound, *hostile, strict=True)

    def change(folder: Path) -> None:
        binary = pa.array(ids, pa.binary())
        if kind == pa.string():  # UTF-8 or not
            column: pa.Array = pa.Array.from_buffers(kind, len(binary), binary.buffers())
        else:
            column = pa.array([["x"] if kind == pa.list_(pa.string()) else "x"] * len(ids), kind)
        table = pa.table({"item_id": column, "popularity": pa.array(often, pa.float64())})
        pq.write_table(table, folder / VOCABULARY_FILE, **options)

    judge(originals[which], place, change, sign)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(target: str) -> Change:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def _sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**43)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


links = [_link(target) for target in ("/dev/zero", "/dev/full", "nowhere", MANIFEST_FILE, ".", "/proc/self/mem")]
kinds = st.sampled_from([Path.unlink, _pipe, _sparse, _folder, *links])


@given(folders, st.sampled_from(FILES), kinds)
def test_what_is_no_file_is_a_clear_error(
    originals: list[Path], place: Path, which: int, name: str, make: Change
) -> None:
    """Pipes that nobody writes to, endless devices, links in a circle, files of terabytes: nothing is waited for."""
    judge(originals[which], place, lambda folder: make(folder / name))


@given(folders, st.sampled_from(["extra", ".hidden", "z" * 200]), kinds)
def test_what_else_lies_in_the_folder_does_not_matter(
    originals: list[Path], place: Path, which: int, name: str, make: Change
) -> None:
    """It is neither read nor copied."""

    def change(folder: Path) -> None:
        (folder / name).touch()
        make(folder / name)

    judge(originals[which], place, change)

    assert sorted(path.name for path in (place / "copied").iterdir()) == sorted(FILES)


leaves = hostile_values.filter(lambda value: value != "\ud800")
json_values = leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=5), leaves, max_size=3)
MANIFEST = msgspec.to_builtins(
    Manifest(
        bundle_id="0123456789abcdef",
        created_ms=1,
        network={"n_items": 5, "hidden_size": 4, "cell": "gru", "tied": True},
        files=(BundleFile("model.safetensors", "ab" * 32, 10), BundleFile("vocabulary.parquet", "cd" * 32, 20)),
        metrics={"recall": 0.5},
        log_range={"0": (0, 9)},
    )
)
UPDATE = {
    "user_id": "u",
    "items": [
        {"item_id": "a", "score": 0.5, "because": [{"kind": "neighbour", "item_id": "b", "share": 0.5}]},
        {"item_id": "b", "score": 0.25},
    ],
    "strategy": "rnn",
    "bundle_id": "0123456789abcdef",
    "sequence": 1,
    "source": {"partition": 0, "offset": 1},
    "clicked_at_ms": 1,
    "produced_at_ms": 2,
}


def messages(sound: Any, limit: int) -> st.SearchStrategy[bytes]:
    """Sound JSON with hostile values in it, broken JSON, and what is no JSON at all."""
    text = json.dumps(sound)
    changed = st.builds(lambda path, new: json.dumps(_replace(sound, path, new)).encode(), paths, json_values)
    spliced = st.builds(
        lambda at, removed, junk: text[:at].encode() + junk + text[at + removed :].encode(),
        st.integers(0, len(text)),
        st.integers(0, 3),
        st.binary(max_size=3) | st.sampled_from([b"[" * 5_000, b'{"x":' * 5_000, b"1e999", b"9" * 5_000, b'"\\ud800"']),
    )
    encodings = (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), b" " * limit + text.encode())
    no_text = (
        b'{"user_id":"\xff"}',
        b'{"bundle_id":"\xff"}',
        b'{"\xff":1,' + text[1:].encode(),
        b'{"y":"\xff",' + text[1:].encode(),
    )
    odd = st.sampled_from((*encodings, *no_text, b"[" * 100_000, b'{"x":' + b"[" * 100_000))
    return st.binary(max_size=100) | changed | spliced | odd


@given(messages(MANIFEST, MAX_MANIFEST_BYTES))
@example(json.dumps(MANIFEST | {"bundle_id": "x" * 10_000}).encode())
def test_any_announcement_is_a_manifest_or_a_clear_error(value: bytes) -> None:
    """Anyone who may write to the topic of models can write anything."""
    manifest = outcome_of(lambda: decode_manifest(value), BundleError)
    if isinstance(manifest, BundleError):
        assert len(str(manifest)) < MAX_MESSAGE
        return

    assert len(value) <= MAX_MANIFEST_BYTES
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert int(manifest.bundle_id, 16) > 0
    assert math.isfinite(manifest.created_ms / 1000)
    assert len(bundle_id_of(manifest.files, manifest.network, manifest.created_ms)) == 16


@given(messages(UPDATE, MAX_UPDATE_BYTES))
@example(json.dumps(UPDATE | {"produced_at_ms": 10**400}).encode())
@example(b'{"user_id":"\xff"}')
def test_any_record_is_an_update_or_the_documented_error(value: bytes) -> None:
    """A feed reads a topic that others can write to."""
    update = outcome_of(lambda: decode_update(value), msgspec.DecodeError)
    if isinstance(update, msgspec.DecodeError):
        assert len(str(update)) < MAX_MESSAGE
        return

    assert len(value) <= MAX_UPDATE_BYTES
    assert isinstance(update, RecommendationUpdate)
    assert math.isfinite((update.produced_at_ms - update.clicked_at_ms) / 1000)
    assert decode_update(msgspec.json.encode(update)) == update
