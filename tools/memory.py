"""How much memory a process may use, and how much of that is in use: of its container, or else of the machine."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
# Of the second and the first kind of groups.
_LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")
_USED_FILES = ("memory.current", "memory.usage_in_bytes")
# Pages of files, and what the kernel remembers of names: it lets go of these before it kills anybody. With them, every
# container that reads much would always be near its limit.
_TAKEN_BACK = ("active_file", "inactive_file", "slab_reclaimable")


class Memory(NamedTuple):
    """What bounds a process first.

    Attributes:
        limit_bytes: that may be used.
        group: folder of the group whose limit it is; None: the machine's memory.
        machine: file that says what the machine has left.
    """

    limit_bytes: int
    group: Path | None
    machine: Path

    def used_bytes(self) -> int | None:
        """Give what is in use and cannot be taken back, by whoever shares the limit; None: the system does not say."""
        with suppress(OSError, ValueError, KeyError, StopIteration):
            if self.group is None:
                free = _figures(self.machine)
                return 1024 * (free["MemTotal:"] - free["MemAvailable:"])
            figures = _figures(self.group / "memory.stat")
            # Of the first kind: with the groups inside, as the limit counts them.
            taken_back = (figures.get(f"total_{name}", figures.get(name, 0)) for name in _TAKEN_BACK)
            return max(0, next(_numbers(self.group, _USED_FILES)) - sum(taken_back))
        return None


def find_memory(
    cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup"), machine: Path = Path("/proc/meminfo")
) -> Memory:
    """Find the least limit of the groups that the process is in, or else the memory of the machine.

    Args:
        cgroups: where the kernel shows groups.
        own: names those of the process.
        machine: says what the machine has left.
    """
    found = [Memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None, machine)]
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds in ("", "memory"):
                found.extend(Memory(limit, group, machine) for limit, group in _limits(cgroups / kinds, path))
    return min(found, key=lambda each: each.limit_bytes)


def _limits(root: Path, path: str) -> Iterator[tuple[int, Path]]:
    """Give the limits of a group and of those around it."""
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        yield from ((limit, folder) for limit in _numbers(folder, _LIMIT_FILES))
        if folder == root:
            return


def _numbers(folder: Path, names: tuple[str, ...]) -> Iterator[int]:
    """Give the numbers in those files that are there and have one; a limit can be `max`."""
    for name in names:
        with suppress(OSError, ValueError):
            yield int((folder / name).read_text())


def _figures(path: Path) -> Mapping[str, int]:
    """Read lines of a name and a number."""
    return {name: int(value) for name, value, *_ in map(str.split, path.read_text().splitlines())}
