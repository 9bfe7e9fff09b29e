"""Bundles in an object store, where trainer and workers share no folder:

    0123456789abcdef/model.safetensors, .../vocabulary.parquet, .../manifest.json      written in this order
    in-use-shop.json                                                                   what an application uses

A bundle without a manifest is one that is being written, or was never finished. What is announced is whole: workers
fetch the files that the announcement names, and compare every byte with the digests that it has.
"""

import contextlib
import hashlib
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from nextclick.errors import BundleError, PermanentError
from nextclick.manifest import MANIFEST_FILE, BundleFile, Manifest, decode_manifest, encode_manifest, is_bundle_id
from tools.files import make_folder, sync
from tools.object_store import ObjectMissing, ObjectStore, StoreAway, StoredObject
from tools.turns import turn

KEPT_BUNDLES = 5  # for a worker that is slow to fetch, and as a way back
KEPT_COPIES = 2  # where the others can be fetched again: the one that came last, and one that is still being loaded
NOTE_PREFIX = "in-use-"
_FETCH_PREFIX = ".fetching-"
_LOCK_FILE = ".fetching.lock"
_WAIT_S = 600.0  # for another process of the machine that fetches a bundle: a gigabyte by a slow line
_TRIES = 3  # of a file that comes whole and is another one: damaged on its way, or where it lies
_UNFINISHED_S = 24 * 3600.0  # a bundle without a manifest: after a day nobody writes it any more


class StoredBundles:
    """The bundles in one object store. Every call blocks."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def upload(self, bundle: Path) -> None:
        """Write a bundle; on return it is whole. What was written of it before is written again.

        Args:
            bundle: its folder, which is named by its id.

        Raises:
            StoreAway: the store does not answer.
            PermanentError: it refuses.
            OSError, BundleError: the folder is not as it was written.
        """
        manifest = decode_manifest((bundle / MANIFEST_FILE).read_bytes())
        for name in (*(file.name for file in manifest.files), MANIFEST_FILE):
            self._store.write(f"{manifest.bundle_id}/{name}", bundle / name)

    def fetch(self, announced: Manifest, folder: Path) -> None:
        """Have a bundle in a folder of this machine, which fetches it once for all processes that share the folder.

        Args:
            announced: its manifest.
            folder: where bundles are, each in a folder that is named by its id.

        Raises:
            StoreAway: the store does not answer.
            BundleError: the bundle is not in the store, or is damaged there.
            PermanentError: the store refuses.
            OSError: the folder cannot be written.
        """
        make_folder(folder)
        with turn(folder / _LOCK_FILE, _WAIT_S) as is_alone:
            if not _is_whole(folder / announced.bundle_id, announced):
                if is_alone:
                    _remove_unfinished(folder)
                remove_old(folder, KEPT_COPIES - 1)  # before it: a disk need not have room for one more
                self._fetch(announced, folder)

    def manifest(self, bundle_id: str) -> Manifest:
        """Give a bundle's manifest.

        Raises:
            BundleError: there is none, or it is none.
            StoreAway, PermanentError: as from `fetch`.
        """
        try:
            return decode_manifest(self._store.read(f"{bundle_id}/{MANIFEST_FILE}"))
        except ObjectMissing as missing:
            raise BundleError(f"bundle {bundle_id} is not in {self._store.address}") from missing

    def manifests(self) -> list[Manifest]:
        """Give the manifests of all bundles that can be read.

        Raises:
            StoreAway, PermanentError: as from `fetch`.
        """
        found = []
        for bundle_id in _written(self._store.list()):
            with contextlib.suppress(BundleError):
                found.append(self.manifest(bundle_id))
        return found

    def note_in_use(self, note: str, bundle_ids: Collection[str]) -> None:
        """Write a note that names bundles which nobody may remove.

        Raises:
            StoreAway, PermanentError: as from `fetch`.
        """
        self._store.write(note, msgspec.json.encode(sorted(bundle_ids)))

    def remove_old(self) -> None:
        """Keep the newest bundles, and those in use. What cannot be read or removed is left for the next time."""
        with contextlib.suppress(StoreAway, PermanentError, msgspec.DecodeError):
            objects = self._store.list()
            notes = [self._store.read(name) for name in objects if name.startswith(NOTE_PREFIX)]
            for bundle_id in superfluous(_written(objects), _named_in(notes), KEPT_BUNDLES):
                self._remove(bundle_id, objects)
            before_s = time.time() - _UNFINISHED_S
            for bundle_id, modified_s in _unfinished(objects).items():
                if modified_s < before_s:
                    self._remove(bundle_id, objects)

    def _remove(self, bundle_id: str, objects: Collection[str]) -> None:
        """Remove a bundle, the manifest first: what is left of it is none."""
        self._store.remove([f"{bundle_id}/{MANIFEST_FILE}"])
        self._store.remove([name for name in objects if name.startswith(f"{bundle_id}/")])

    def _fetch(self, announced: Manifest, folder: Path) -> None:
        draft = folder / f"{_FETCH_PREFIX}{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            for file in announced.files:
                self._fetch_file(announced.bundle_id, file, draft / file.name)
            (draft / MANIFEST_FILE).write_bytes(encode_manifest(announced))
            for path in (*draft.iterdir(), draft):
                sync(path)
            bundle = folder / announced.bundle_id
            if not _is_whole(bundle, announced):  # by another process that did not wait any longer, either
                shutil.rmtree(bundle, ignore_errors=True)  # it was damaged
                draft.rename(bundle)
            sync(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _fetch_file(self, bundle_id: str, expected: BundleFile, path: Path) -> None:
        name = f"{bundle_id}/{expected.name}"
        for _ in range(_TRIES):
            try:
                with path.open("wb") as file:
                    self._store.download(name, expected.size_bytes, file)
            except ObjectMissing as missing:
                raise BundleError(f"{name} is not in {self._store.address}: publish the bundle again") from missing
            if _is(path, expected):
                return
        raise BundleError(f"{name} in {self._store.address} is not what was announced; publish the bundle again")


def _remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have left half fetched."""
    for left in folder.glob(f"{_FETCH_PREFIX}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def remove_old(folder: Path, n_kept: int) -> None:
    """Keep of a folder the newest bundles, and those in use. What cannot be read or removed is left for the next time.

    Args:
        folder: with a folder for each bundle, and notes of those in use.
        n_kept: how many of the newest.
    """
    with contextlib.suppress(OSError, msgspec.DecodeError):
        in_use = _named_in([path.read_bytes() for path in folder.glob(f"{NOTE_PREFIX}*.json")])
        bundles = {
            path.name: path.stat().st_mtime for path in folder.iterdir() if path.is_dir() and is_bundle_id(path.name)
        }
        for bundle_id in superfluous(bundles, in_use, n_kept):
            shutil.rmtree(folder / bundle_id, ignore_errors=True)


def superfluous(bundles: Mapping[str, float], in_use: Collection[str], n_kept: int) -> list[str]:
    """Give the bundles that are neither among the newest nor in use.

    Args:
        bundles: id to when it was written.
        in_use: ids.
        n_kept: how many are the newest.
    """
    newest_first = sorted(bundles, key=lambda bundle_id: bundles[bundle_id], reverse=True)
    return [bundle_id for bundle_id in newest_first[n_kept:] if bundle_id not in in_use]


def _named_in(notes: Collection[bytes]) -> set[str]:
    return {bundle_id for note in notes for bundle_id in msgspec.json.decode(note, type=list[str])}


def _by_bundle(objects: Mapping[str, StoredObject]) -> dict[str, dict[str, float]]:
    """Give bundle id to file to when it was written."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, stored in objects.items():
        bundle_id, _, file = name.partition("/")
        if is_bundle_id(bundle_id):
            found[bundle_id][file] = stored.modified_s
    return found


def _written(objects: Mapping[str, StoredObject]) -> dict[str, float]:
    """Give the bundles that are whole, and when they were."""
    found = _by_bundle(objects)
    return {bundle_id: files[MANIFEST_FILE] for bundle_id, files in found.items() if MANIFEST_FILE in files}


def _unfinished(objects: Mapping[str, StoredObject]) -> dict[str, float]:
    """Give the bundles without a manifest, and when one of their files was written last."""
    found = _by_bundle(objects)
    return {bundle_id: max(files.values()) for bundle_id, files in found.items() if MANIFEST_FILE not in files}


def _is_whole(bundle: Path, announced: Manifest) -> bool:
    try:
        found = decode_manifest((bundle / MANIFEST_FILE).read_bytes())
        return found == announced and all(_is(bundle / file.name, file) for file in announced.files)
    except (OSError, BundleError):
        return False


def _is(path: Path, expected: BundleFile) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
