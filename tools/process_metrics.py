"""What every process says of itself: what runs, whether it works, and what it takes of its machine."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector

from tools.memory import find_memory
from tools.metrics import Declaring

_LOOK_EVERY_S = 30.0  # a click log is thousands of files


class ProcessMetrics:
    """What all processes measure alike."""

    def __init__(self, registry: CollectorRegistry) -> None:
        declare = Declaring(registry)
        self.declared = declare.declared
        ProcessCollector(registry=registry)
        build = declare.info(
            "nextclick_build", "What runs; `torch` is empty where it is not installed.", "version", "python", "torch"
        )
        build.info({"version": _version("nextclick"), "python": python_version(), "torch": _version("torch")})
        self.ready = declare.gauge("nextclick_ready", "1: /readyz says that the process does its work, else 0.")
        self.broker = declare.gauge(
            "nextclick_broker_reachable",
            "1: the broker answers, as far as the process knows; 0: it is waited for.",
        )
        limit = declare.gauge(
            "nextclick_memory_limit_bytes", "Memory that the process may use: of its container, or of the machine."
        )
        used = declare.read_value(
            "nextclick_memory_used_bytes",
            "What is used of that, without what the system can take back: by all processes in the container, or on the "
            "machine.",
        )
        memory = find_memory()
        limit.set(memory.limit_bytes)
        used.set_function(memory.used_bytes)
        self.folder_bytes = declare.read_gauge(
            "nextclick_folder_bytes", "Bytes of the files in a folder, by the setting that names it.", "folder"
        )
        self.disk_free = declare.read_gauge(
            "nextclick_disk_free_bytes", "What can still be written to the file system of a folder.", "folder"
        )
        self.disk_size = declare.read_gauge("nextclick_disk_size_bytes", "Size of that file system.", "folder")

    def follow(
        self,
        ready: Callable[[], tuple[bool, str]],
        is_reachable: Callable[[], bool],
        folders: Mapping[str, Path],
    ) -> None:
        """Read these at every scrape, in the thread of whoever scrapes.

        Args:
            ready: what /readyz asks.
            is_reachable: whether the broker answers, as far as the process knows.
            folders: setting to folder; one that is not there yet is empty.
        """
        self.ready.set_function(lambda: ready()[0])
        self.broker.set_function(lambda: is_reachable())
        sizes = _Sizes(folders)
        self.folder_bytes.set_function(sizes.bytes)
        self.disk_free.set_function(lambda: {name: disk.free_bytes for name, disk in _disks(folders).items()})
        self.disk_size.set_function(lambda: {name: disk.size_bytes for name, disk in _disks(folders).items()})


class _Sizes:
    """Adds up files, once in a while."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._looking, self._looked_s = threading.Lock(), float("-inf")
        self._bytes: dict[str, float] = {}

    def bytes(self) -> Mapping[str, float]:
        with self._looking:
            if time.monotonic() > self._looked_s + _LOOK_EVERY_S:
                self._bytes = {name: float(sum(_file_sizes(path))) for name, path in self._folders.items()}
                self._looked_s = time.monotonic()
        return self._bytes


def _file_sizes(folder: Path) -> Iterator[int]:
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it was removed just now
                yield os.lstat(os.path.join(path, name)).st_size


class _Disk(NamedTuple):
    free_bytes: float
    size_bytes: float


def _disks(folders: Mapping[str, Path]) -> Mapping[str, _Disk]:
    """Give the file systems of folders; without those that do not answer, as of a network that is away."""
    disks: dict[str, _Disk] = {}
    for name, folder in folders.items():
        with suppress(OSError):
            disks[name] = _disk(folder)
    return disks


def _disk(folder: Path) -> _Disk:
    """Give the free bytes and the size of a folder's file system; of the one it will be in, if it is not there yet."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    found = os.statvfs(there)
    return _Disk(float(found.f_bavail * found.f_frsize), float(found.f_blocks * found.f_frsize))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
