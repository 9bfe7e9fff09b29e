"""The folders of worker and trainer on this machine: whose they are, room, and whether bundles can be shared."""

import os
import shutil
from pathlib import Path

import psutil

from doctor.findings import Finding, Level, refusal
from nextclick.errors import BundleError, NextclickError, PermanentError
from nextclick.manifest import MANIFEST_FILE, Manifest, decode_manifest
from nextclick.settings import Settings
from stream.states.data_dir import NEEDED_BYTES, read_note, refuse_other_app, refuse_other_changelog
from tools.object_store import ObjectStore
from tools.stored_bundles import StoredBundles

_DISKS, _BUNDLES = "disks", "bundles"
_MIB = 1024**2
_STORE_S = 5.0  # for an object store that does not answer at once
_TIGHT_BYTES = 2 * 1024 * _MIB  # states, log and bundles of a shop grow to this within weeks
# File systems that several machines can share.
_SHARED = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "lustre", "efs", "beegfs"})


def check_disks(settings: Settings) -> list[Finding]:
    """Say whether there is room, and whether the folders can be written."""
    findings = []
    for name in ("data_dir", "log_dir", "bundle_dir"):
        path: Path = getattr(settings, name)
        place = nearest_folder(path)
        free_bytes = shutil.disk_usage(place).free
        if os.path.exists(path) and not os.path.isdir(path):
            found, advice = f"{name} {path} is no folder", f"choose another with --set {name}=PATH"
            findings.append(Finding(Level.ERROR, _DISKS, found, advice))
        elif not os.access(place, os.W_OK | os.X_OK):
            found = f"{name} {path} cannot be {'written' if os.path.exists(path) else 'made'} by this user"
            findings.append(Finding(Level.ERROR, _DISKS, found, f"correct the permissions, or set {name}=PATH"))
        elif free_bytes < _TIGHT_BYTES:
            level = Level.ERROR if free_bytes < NEEDED_BYTES else Level.WARNING
            found = f"{name} {path} has {free_bytes // _MIB:,} MiB of free disk"
            findings.append(Finding(level, _DISKS, found, f"free some space, or choose another with --set {name}=PATH"))
        else:
            found = f"{name} {path} has {free_bytes / 1024 / _MIB:,.0f} GiB of free disk"
            findings.append(Finding(Level.OK, _DISKS, found))
    free_bytes = shutil.disk_usage(nearest_folder(settings.log_dir)).free
    if free_bytes < settings.log_keep_bytes:
        findings.append(
            Finding(
                Level.NOTE,
                _DISKS,
                f"log_keep_bytes lets the click log take {settings.log_keep_bytes / 1024 / _MIB:,.0f} GiB, more than "
                f"the disk of {settings.log_dir} has left",
                "set log_keep_bytes to what the disk can give, where clicks are many",
            )
        )
    return findings


def check_data_dir(settings: Settings, changelog_id: str) -> list[Finding]:
    """Say whether a worker on this machine would refuse its folder; makes and locks nothing.

    Args:
        settings: of the worker.
        changelog_id: Kafka's; empty when there is no changelog yet.
    """
    path = settings.data_dir
    try:
        app, changelog = read_note(path, "app"), read_note(path, "changelog")
        if app:
            refuse_other_app(path, app, settings.app)
        if changelog and changelog_id:
            refuse_other_changelog(path, changelog, settings.changelog_topic, changelog_id)
    except PermanentError as error:
        return [refusal("workers", str(error))]
    except OSError as error:
        found = f"data_dir {path} cannot be read: {error.strerror or error}"
        return [Finding(Level.ERROR, "workers", found, "correct the permissions, or set data_dir=PATH")]
    return []


def check_bundles(settings: Settings, champion: Manifest | None) -> list[Finding]:
    """Say whether what was announced can be fetched on this machine, and whether others could share the folder.

    Args:
        settings: of worker or trainer.
        champion: the bundle that was announced last; None: none was.
    """
    findings = []
    folder = settings.bundle_dir
    if settings.bundle:
        findings += _bundle(Path(settings.bundle), "the bundle that the setting bundle names")
    if champion is None:
        found = "no bundle was announced yet: everyone gets the popular items"
        advice = f"run `nextclick train`: the first training comes after {settings.min_clicks:,} clicks"
        findings.append(Finding(Level.NOTE, _BUNDLES, found, advice))
    elif settings.bundle_store:
        findings += _stored_bundle(settings.bundle_store, champion)
    elif not os.path.isdir(folder / champion.bundle_id):
        findings.append(
            Finding(
                Level.WARNING,
                _BUNDLES,
                f"the bundle {champion.bundle_id}, which was announced last, is not below {folder} on this machine: a "
                "worker here cannot serve it",
                "set bundle_dir to the folder that the trainer writes, on a network file system if it runs elsewhere",
            )
        )
    else:
        findings += _bundle(folder / champion.bundle_id, "the bundle that was announced last")
    kind = _file_system(folder)
    if kind not in _SHARED and not settings.bundle_store:
        findings.append(
            Finding(
                Level.NOTE,
                _BUNDLES,
                f"bundle_dir {folder} is on a disk of this machine's, as far as can be seen ({kind})",
                "where trainer and workers are on several machines, give all of them one folder of a network file "
                "system; on one machine, nothing",
            )
        )
    return findings


def _stored_bundle(address: str, champion: Manifest) -> list[Finding]:
    """Look whether the object store has a bundle, by its manifest."""
    try:
        StoredBundles(ObjectStore(address, patience_s=_STORE_S)).manifest(champion.bundle_id)
    except NextclickError as error:
        return [refusal(_BUNDLES, str(error))]
    return [Finding(Level.OK, _BUNDLES, f"the bundle that was announced last, {champion.bundle_id}, is in {address}")]


def _bundle(folder: Path, what: str) -> list[Finding]:
    """Look whether a bundle is whole, by the sizes of its files: a worker compares every byte."""
    try:
        manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes())
        sizes = {file.name: (folder / file.name).stat().st_size for file in manifest.files}
    except (OSError, BundleError) as error:
        found = f"{what}, {folder}, cannot be read: {error}"
        return [Finding(Level.ERROR, _BUNDLES, found, "restore it, or train a new one")]
    wrong = [file.name for file in manifest.files if sizes[file.name] != file.size_bytes]
    if wrong:
        found = f"{what}, {folder}, is damaged: {', '.join(wrong)} has another size than its manifest says"
        return [Finding(Level.ERROR, _BUNDLES, found, "restore it, or train a new one")]
    return [Finding(Level.OK, _BUNDLES, f"{what}, {manifest.bundle_id}, is there")]


def _file_system(path: Path) -> str:
    """Give the kind of file system that a folder is on, or will be."""
    place = nearest_folder(path).resolve()
    mounts = [each for each in psutil.disk_partitions(all=True) if place.is_relative_to(each.mountpoint)]
    deepest = max(mounts, key=lambda each: len(each.mountpoint), default=None)
    return str(deepest.fstype) if deepest is not None else "unknown"


def nearest_folder(path: Path) -> Path:
    """Give a folder, or the nearest one above it that is there and can be seen by this user."""
    path = path.absolute()
    while not os.path.isdir(path) and path != path.parent:
        path = path.parent
    return path
