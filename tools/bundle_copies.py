"""Bundles that were announced, for those that serve them: copied to a folder of their own, verified, loaded.

What was loaded last can be loaded again at the next start, whether or not broker and store of bundles are there.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nextclick.errors import BundleError, NextclickError
from nextclick.manifest import CHAMPION, Manifest, decode_manifest
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, UpdateFormat
from tools.files import write_whole
from tools.object_store import open_store
from tools.stored_bundles import StoredBundles

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

KEPT_COPIES = 2  # the served bundle and the one before


class BundleCopies:
    """The copies below one folder, which belongs to one process. Blocks; speaks to an object store, if there is one."""

    def __init__(
        self, settings: Settings, folder: Path, *, explain: bool = False, output: UpdateFormat = JSON_FORMAT
    ) -> None:
        """Know where bundles are; nothing is read yet.

        Args:
            settings: where bundles are published, and where their served forms are.
            folder: of the copies.
            explain: make ready to say what items are listed for, too.
            output: how models write lists.

        Raises:
            PermanentError: the address of the object store cannot be used.
        """
        store = open_store(settings.bundle_store)
        self._stored = StoredBundles(store) if store is not None else None
        self._explain, self._output = explain, output
        self._bundle_dir, self._served_dir = settings.bundle_dir, settings.served_dir
        self._folder = folder
        self._champion_file = folder / CHAMPION

    def last(self) -> str | None:
        """Give the id of the bundle that was fetched last; None if none ever was."""
        with contextlib.suppress(FileNotFoundError):
            return self._champion_file.read_text(errors="replace").strip()
        return None

    def load(self, bundle_id: str) -> "tuple[Manifest, ServedModel]":
        """Load a copy, ready to answer; takes seconds.

        Raises:
            BundleError: it is missing or damaged.
        """
        return self.load_folder(self._folder / bundle_id)

    def load_folder(self, folder: Path) -> "tuple[Manifest, ServedModel]":
        """Load a bundle where it is, ready to answer; takes seconds.

        Raises:
            BundleError: it is missing or damaged.
        """
        from nextclick.bundle import load_bundle
        from tools.shared_forms import SharedForms

        manifest, model = load_bundle(folder, SharedForms(self._served_dir).form_of, self._output)
        model.warm_up(self._explain)
        return manifest, model

    def fetch(self, announced: Manifest, *, on_trial: bool = False) -> "tuple[Manifest, ServedModel]":
        """Copy a bundle that was announced, and load the copy; older copies are removed.

        Args:
            announced: its manifest.
            on_trial: it is not the champion, and not the one to start with.

        Raises:
            BundleError: it is not there, is damaged, or is not the one that was announced; no copy can be written; or
                the object store that it is in does not answer. Trying again can help.
        """
        try:
            if self._stored is not None:
                self._fetch_from(self._stored, announced)
            return self._fetch(announced, on_trial)
        except OSError as error:  # its caller goes on with what it has
            raise BundleError(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def promoted(self, bundle_id: str) -> None:
        """Let a bundle that was fetched on trial be the one to start with.

        Raises:
            BundleError: that cannot be noted.
        """
        try:
            write_whole(self._champion_file, bundle_id.encode())
        except OSError as error:
            raise BundleError(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _fetch_from(self, stored: StoredBundles, announced: Manifest) -> None:
        try:
            stored.fetch(announced, self._bundle_dir)
        except OSError as error:
            raise BundleError(f"{self._bundle_dir} cannot be written: {error.strerror or error}") from error
        except NextclickError as error:  # also a store that is away: its caller goes on with what it has
            raise BundleError(str(error)) from error

    def _fetch(self, announced: Manifest, on_trial: bool) -> "tuple[Manifest, ServedModel]":
        from nextclick.bundle import copy_bundle, verify_bundle

        source = self._bundle_dir / announced.bundle_id
        if verify_bundle(source) != announced:
            raise BundleError(f"bundle {source} is not the one that was announced; publish it again")
        copy = self._folder / announced.bundle_id
        copy_bundle(source, copy)
        loaded = self.load_folder(copy)
        if not on_trial:
            write_whole(self._champion_file, announced.bundle_id.encode())
        in_use = (announced.bundle_id, self.last())
        copies = sorted(
            (path for path in self._folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
        )
        for old in [copy for copy in copies[:-KEPT_COPIES] if copy.name not in in_use]:
            shutil.rmtree(old, ignore_errors=True)
        return loaded


def newest_announcements(values: Sequence[bytes]) -> Sequence[bytes]:
    """Give the newest announcement that can be decoded, and those behind it that cannot: they are said and counted.

    Args:
        values: of the records of `models` under the key `CHAMPION`, in order.
    """
    decodable = [place for place, value in enumerate(values) if _can_be_decoded(value)]
    return values[decodable[-1] :] if decodable else values


def _can_be_decoded(value: bytes) -> bool:
    try:
        decode_manifest(value)
    except BundleError:
        return False
    return True
