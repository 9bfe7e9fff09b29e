"""Where bundles are published: drafts, whole bundles, and the removal of old ones.

A folder that trainers and workers share; or a folder of this machine, and an object store that all machines share
(`tools.stored_bundles`): a bundle is whole there before it is announced.

A bundle is written in a draft's folder, and takes its place when it is whole and is to be published. Other trainers may
do the same in the same folder: one that was paused, say, and does not know yet that another took its place; or that of
another application. Each notes in the folder which bundles its application uses, and nobody removes those.
"""

import contextlib
import logging
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

import msgspec

from nextclick.errors import BundleError, PermanentError
from nextclick.manifest import MANIFEST_FILE, Manifest, decode_manifest, is_bundle_id
from nextclick.settings import Settings
from tools.files import make_folder, sync, write_whole
from tools.object_store import StoreAway, open_store
from tools.stored_bundles import KEPT_BUNDLES, KEPT_COPIES, NOTE_PREFIX, StoredBundles, remove_old
from training.learning.cancellation import NEVER_CANCELLED, Cancellation

DRAFT_PREFIX = ".draft-"
_UPLOAD_S = 600.0  # a training is not thrown away for a store that is away for a few minutes
_AGAIN_S = 1.0
_DRAFT_AGE_S = 3600.0  # a draft is written and gone within minutes: after an hour nobody writes it any more
_log = logging.getLogger(__name__)


class BundleStore:
    """The bundles below one folder, and in the object store if there is one, for one application.

    Attributes:
        folder: where they are on this machine.
    """

    def __init__(self, folder: Path, app: str, stored: StoredBundles | None = None) -> None:
        """Do nothing yet.

        Args:
            folder: where bundles are on this machine; where there is no object store, workers read them there.
            app: notes which bundles are in use under its name.
            stored: the bundles in an object store.
        """
        self.folder = folder
        self._note = folder / f"{NOTE_PREFIX}{quote(app, safe='')}.json"
        self._stored = stored

    @classmethod
    def of(cls, settings: Settings, app: str) -> Self:
        """Give the bundles of some settings.

        Raises:
            PermanentError: the address of the object store cannot be used.
        """
        store = open_store(settings.bundle_store)
        return cls(settings.bundle_dir, app, StoredBundles(store) if store is not None else None)

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Give a folder to write a bundle in. It goes when the block ends, with everything that was not kept.

        Raises:
            PermanentError: the store cannot be written.
        """
        folder = self.folder / f"{DRAFT_PREFIX}{uuid.uuid4().hex}"
        with store_errors(self.folder):
            make_folder(self.folder)
            self._remove_old_drafts()
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, draft: Path, bundle_id: str, cancellation: Cancellation = NEVER_CANCELLED) -> None:
        """Let a bundle of a draft take its place; on return it outlives a power cut, and workers find it.

        Args:
            draft: where it was written.
            bundle_id: of it.
            cancellation: asked while an object store is waited for.

        Raises:
            PermanentError: the folder cannot be written, or the object store refuses.
            StoreAway: the object store has not answered for ten minutes.
            TrainingCancelled: the end was requested meanwhile.
        """
        bundle = draft / bundle_id
        with store_errors(self.folder):
            for path in (*bundle.iterdir(), bundle):
                sync(path)
            bundle.rename(self.folder / bundle_id)
            for folder in (self.folder, draft):
                sync(folder)
            if self._stored is not None:
                self._upload(self._stored, self.folder / bundle_id, cancellation)

    def fetch(self, announced: Manifest) -> None:
        """Have a bundle in the folder of this machine, if there is an object store to fetch it from.

        Raises:
            PermanentError: the folder cannot be written, or the object store refuses.
            BundleError: the bundle is not there, or is damaged.
            StoreAway: the object store does not answer.
        """
        if self._stored is not None:
            with store_errors(self.folder):
                self._stored.fetch(announced, self.folder)

    def manifests(self) -> dict[str, Manifest]:
        """Give the manifests of the bundles that can be read, by id, the newest first.

        Raises:
            StoreAway, PermanentError: the object store does not answer, or refuses.
        """
        found = self._stored.manifests() if self._stored is not None else list(_manifests_in(self.folder))
        return {each.bundle_id: each for each in sorted(found, key=lambda each: -each.created_ms)}

    def note_in_use(self, bundle_ids: Collection[str]) -> None:
        """Say which bundles this application uses: no trainer removes them, however old they are.

        Raises:
            PermanentError: the folder cannot be written, or the object store refuses.
            StoreAway: the object store does not answer.
        """
        with store_errors(self.folder):
            write_whole(self._note, msgspec.json.encode(sorted(bundle_ids)))
        if self._stored is not None:
            self._stored.note_in_use(self._note.name, bundle_ids)

    def remove_old(self) -> None:
        """Keep the newest bundles, and those in use. What cannot be read or removed is left for the next time."""
        remove_old(self.folder, KEPT_BUNDLES if self._stored is None else KEPT_COPIES)
        if self._stored is not None:
            self._stored.remove_old()

    def _upload(self, stored: StoredBundles, bundle: Path, cancellation: Cancellation) -> None:
        end_s = time.monotonic() + _UPLOAD_S
        while True:
            cancellation.check()
            try:
                return stored.upload(bundle)
            except StoreAway as away:
                if time.monotonic() > end_s:
                    raise
                _log.warning("bundle %s waits to be published: %s", bundle.name, away)
                time.sleep(_AGAIN_S)

    def _remove_old_drafts(self) -> None:
        """Remove what a trainer left behind that was killed; never what another writes now."""
        before_s = time.time() - _DRAFT_AGE_S
        for draft in self.folder.glob(f"{DRAFT_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):  # another trainer has just finished it
                if all(path.lstat().st_mtime < before_s for path in (draft, *draft.rglob("*"))):
                    shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Say in one line what keeps bundles from being written below a folder.

    Raises:
        PermanentError: in the place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"no bundle can be written below {folder}: {error.strerror or error}; make room or correct the "
            "permissions, or choose another folder with --set bundle_dir=PATH"
        ) from error


def _manifests_in(folder: Path) -> Iterator[Manifest]:
    for bundle in folder.iterdir() if folder.is_dir() else ():
        if is_bundle_id(bundle.name):
            with contextlib.suppress(OSError, BundleError):
                yield decode_manifest((bundle / MANIFEST_FILE).read_bytes())
