"""The folder of bundles, which trainers and workers share: drafts, whole bundles, and the removal of old ones.

A bundle is written in a draft's folder, and takes its place when it is whole and is to be published. Other trainers may
do the same in the same folder: one that was paused, say, and does not know yet that another took its place; or that of
another application. Each notes in the folder which bundles its application uses, and nobody removes those.
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from nextclick.errors import PermanentError
from tools.files import make_folder, sync, write_whole

DRAFT_PREFIX = ".draft-"
_NOTE_PREFIX = "in-use-"
KEPT_BUNDLES = 5  # for a worker that is slow to fetch, and as a way back
_DRAFT_AGE_S = 3600.0  # a draft is written and gone within minutes: after an hour nobody writes it any more


class BundleStore:
    """The bundles below one folder, for one application."""

    def __init__(self, folder: Path, app: str) -> None:
        self.folder = folder
        self._note = folder / f"{_NOTE_PREFIX}{quote(app, safe='')}.json"

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

    def keep(self, draft: Path, bundle_id: str) -> None:
        """Let a bundle of a draft take its place; on return it outlives a power cut.

        Raises:
            PermanentError: the store cannot be written.
        """
        bundle = draft / bundle_id
        with store_errors(self.folder):
            for path in (*bundle.iterdir(), bundle):
                sync(path)
            bundle.rename(self.folder / bundle_id)
            for folder in (self.folder, draft):
                sync(folder)

    def note_in_use(self, bundle_ids: Collection[str]) -> None:
        """Say which bundles this application uses: no trainer removes them, however old they are.

        Raises:
            PermanentError: the store cannot be written.
        """
        with store_errors(self.folder):
            write_whole(self._note, msgspec.json.encode(sorted(bundle_ids)))

    def remove_old(self) -> None:
        """Keep the newest bundles, and those in use. What cannot be read or removed is left for the next time."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            notes = [path.read_bytes() for path in self.folder.glob(f"{_NOTE_PREFIX}*.json")]
            in_use = {bundle_id for note in notes for bundle_id in msgspec.json.decode(note, type=list[str])}
            bundles = [path for path in self.folder.iterdir() if path.is_dir() and _is_bundle_id(path.name)]
            newest_first = sorted(bundles, key=lambda path: path.stat().st_mtime, reverse=True)
            for bundle in newest_first[KEPT_BUNDLES:]:
                if bundle.name not in in_use:
                    shutil.rmtree(bundle, ignore_errors=True)

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


def _is_bundle_id(name: str) -> bool:
    return len(name) == 16 and not set(name) - set("0123456789abcdef")
