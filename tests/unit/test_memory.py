"""What memory a process may use, and what is used of it."""

import os
from pathlib import Path

import pytest

from tools.memory import Memory, find_memory

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def group(folder: Path, **files: str) -> Path:
    """Make a group; in names of files, _ stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


def found(cgroups: Path, said: str) -> Memory:
    own = cgroups.parent / "own"
    own.write_text(said)
    return find_memory(cgroups, own)


def test_the_least_limit_of_the_groups_around_a_process_counts(tmp_path: Path) -> None:
    """Kubernetes sets one for the pod, and one for the container in it; what is used is what that group uses."""
    groups = tmp_path / "groups"
    pod = group(groups / "pod", memory_max="50000000\n", memory_current="40000000\n", memory_stat="inactive_file 5\n")
    container = group(pod / "container", memory_max="max\n", memory_current="7000000\n", memory_stat="")

    memory = found(groups, "0::/pod/container\n")
    assert (memory.limit_bytes, memory.group, memory.used_bytes()) == (50_000_000, pod, 39_999_995)
    group(container, memory_max="20000000\n")
    memory = found(groups, "0::/pod/container\n")
    assert (memory.limit_bytes, memory.group, memory.used_bytes()) == (20_000_000, container, 7_000_000)


def test_what_the_system_can_take_back_is_not_used(tmp_path: Path) -> None:
    """Pages of files fill whatever is free; of anonymous memory, and of files that lie in memory, that is not so."""
    stat = "anon 600\nfile 300\nshmem 50\nactive_file 100\ninactive_file 150\nslab_reclaimable 30\n"
    group(tmp_path / "groups", memory_max="1000\n", memory_current="980\n", memory_stat=stat)

    assert found(tmp_path / "groups", "0::/\n").used_bytes() == 700


def test_groups_of_the_first_kind_count_what_is_inside_of_them(tmp_path: Path) -> None:
    box = group(
        tmp_path / "groups" / "memory" / "box",
        memory_limit_in_bytes="30000000\n",
        memory_usage_in_bytes="9000000\n",
        memory_stat="active_file 1\ninactive_file 1\ntotal_active_file 1000000\ntotal_inactive_file 3000000\n",
    )

    memory = found(tmp_path / "groups", "5:cpu:/other\n4:memory:/box\n")
    assert (memory.limit_bytes, memory.group, memory.used_bytes()) == (30_000_000, box, 5_000_000)


@pytest.mark.parametrize("said", ["0::/pod\n", ""])
def test_without_a_limit_it_is_the_memory_of_the_machine(tmp_path: Path, said: str) -> None:
    own, machine = tmp_path / "own", tmp_path / "meminfo"
    own.write_text(said)
    machine.write_text("MemTotal:       1000 kB\nMemFree:        100 kB\nMemAvailable:   400 kB\nHugePages_Total:  0\n")
    memory = find_memory(tmp_path / "groups", own, machine)

    assert (memory.limit_bytes, memory.group, memory.used_bytes()) == (MACHINE_BYTES, None, 600 * 1024)
    assert find_memory(tmp_path / "groups", tmp_path / "none") == Memory(MACHINE_BYTES, None, Path("/proc/meminfo"))


def test_what_the_system_does_not_say_is_not_known(tmp_path: Path) -> None:
    """The scrape goes on without it."""
    assert Memory(1000, None, tmp_path / "none").used_bytes() is None
    assert Memory(1000, tmp_path, tmp_path / "none").used_bytes() is None
    assert Memory(1000, group(tmp_path, memory_stat="active_file 1\n"), tmp_path / "none").used_bytes() is None


def test_this_machine_says_it() -> None:
    memory = find_memory()

    assert 0 < (memory.used_bytes() or 0) < memory.limit_bytes <= MACHINE_BYTES
