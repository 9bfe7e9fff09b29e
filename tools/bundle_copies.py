"""Bundles that were announced, for those that serve them: copied to a folder of their own, verified, loaded.

What was loaded last can be loaded again at the next start, whether or not broker and store of bundles are there.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nextclick.errors import BundleError
from nextclick.manifest import CHAMPION, Manifest, decode_manifest
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, UpdateFormat
from tools.files import write_whole

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

KEPT_COPIES = 2  # the served bundle and the one before


class BundleCopies:
    """The copies below one folder, which belongs to one process. Blocks; opens no connection."""

    def __init__(
        self, settings: Settings, folder: Path, *, explain: bool = False, output: UpdateFormat = JSON_FORMAT
    ) -> None:
        """Know where bundles are; nothing is read yet.

        Args:
            settings: where bundles are published, and where their served forms are.
            folder: of the copies.
            explain: make ready to say what items are listed for, too.
            output: how models write lists.
        """
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

    def fetch(self, announced: Manifest) -> "tuple[Manifest, ServedModel]":
        """Copy a bundle that was announced, and load the copy; older copies are removed.

        Raises:
            BundleError: it is not there, is damaged, or is not the one that was announced; or no copy can be written.
        """
        try:
            return self._fetch(announced)
        except OSError as error:  # its caller goes on with what it has
            raise BundleError(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def _fetch(self, announced: Manifest) -> "tuple[Manifest, ServedModel]":
        from nextclick.bundle import copy_bundle, verify_bundle

        source = self._bundle_dir / announced.bundle_id
        if verify_bundle(source) != announced:
            raise BundleError(f"bundle {source} is not the one that was announced; publish it again")
        copy = self._folder / announced.bundle_id
        copy_bundle(source, copy)
        loaded = self.load_folder(copy)
        write_whole(self._champion_file, announced.bundle_id.encode())
        copies = sorted(
            (path for path in self._folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
        )
        for old in [copy for copy in copies[:-KEPT_COPIES] if copy.name != announced.bundle_id]:
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
