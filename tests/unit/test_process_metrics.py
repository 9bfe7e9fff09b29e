"""What every process says of itself: whether it works, its folders and disks."""

import errno
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import tools.process_metrics
from tools.process_metrics import ProcessMetrics


def test_readiness_and_the_broker_are_asked_at_every_scrape() -> None:
    registry, state = CollectorRegistry(), {"ready": False, "broker": True}
    ProcessMetrics(registry).follow(lambda: (state["ready"], ""), lambda: state["broker"], {})
    before = _values(registry)
    state.update(ready=True, broker=False)

    assert before == (0.0, 1.0)
    assert _values(registry) == (1.0, 0.0)


def test_a_disk_that_does_not_answer_leaves_all_else_to_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a network whose server has forgotten the folder."""
    registry, statvfs, stale = CollectorRegistry(), os.statvfs, tmp_path / "stale"
    stale.mkdir()

    def answer(path: Path) -> os.statvfs_result:
        if path == stale:
            raise OSError(errno.ESTALE, "Stale file handle")
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", answer)
    ProcessMetrics(registry).follow(lambda: (True, ""), lambda: True, {"bundle_dir": stale, "data_dir": tmp_path})

    for name in ("disk_free_bytes", "disk_size_bytes"):
        assert _of(registry, name, "bundle_dir") is None
        assert _of(registry, name, "data_dir")
    assert _of(registry, "folder_bytes", "bundle_dir") == 0


def test_folders_are_measured_with_all_that_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there yet is empty, on the disk where it will be."""
    registry = CollectorRegistry()
    folders = {"log_dir": tmp_path / "log", "bundle_dir": tmp_path / "no" / "such"}
    (folders["log_dir"] / "below").mkdir(parents=True)
    (folders["log_dir"] / "a").write_bytes(b"1" * 1_000)
    (folders["log_dir"] / "below" / "b").write_bytes(b"1" * 500)
    ProcessMetrics(registry).follow(lambda: (True, ""), lambda: True, folders)

    assert _of(registry, "folder_bytes", "log_dir") == 1_500
    assert _of(registry, "folder_bytes", "bundle_dir") == 0
    disk = os.statvfs(tmp_path)
    for name in folders:
        assert _of(registry, "disk_size_bytes", name) == disk.f_blocks * disk.f_frsize
        assert 0 < (_of(registry, "disk_free_bytes", name) or 0) < disk.f_blocks * disk.f_frsize

    (folders["log_dir"] / "c").write_bytes(b"1")
    assert _of(registry, "folder_bytes", "log_dir") == 1_500, "not looked at again so soon"
    monkeypatch.setattr(tools.process_metrics, "_LOOK_EVERY_S", 0.0)
    assert _of(registry, "folder_bytes", "log_dir") == 1_501


def _values(registry: CollectorRegistry) -> tuple[float | None, float | None]:
    return registry.get_sample_value("nextclick_ready"), registry.get_sample_value("nextclick_broker_reachable")


def _of(registry: CollectorRegistry, name: str, folder: str) -> float | None:
    return registry.get_sample_value(f"nextclick_{name}", {"folder": folder})
