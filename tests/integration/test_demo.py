"""`nextclick demo` as a process: what it shows, what it starts again, and that Ctrl-C leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


def test_ctrl_c_ends_the_demo_and_leaves_neither_process_nor_folder(playground: Any, tmp_path: Path) -> None:
    """Everything runs below the demo's process, and all of its folders below TMPDIR."""
    with running_demo(playground, tmp_path) as (demo, log, folder):
        demo.send_signal(signal.SIGINT)
        status = demo.wait(30)

    assert status == 0
    assert "hit rate at 20" in log.read_text()
    assert list(folder.iterdir()) == []
    assert processes_that_use(folder) == {}


def test_killed_parts_are_started_again_and_the_demo_goes_on(playground: Any, tmp_path: Path) -> None:
    """One line for each says so, and clicks are answered again."""
    with running_demo(playground, tmp_path) as (demo, log, folder):
        killed = {part: pids_of(folder, part) for part in ("stream", "train")}
        topic = psutil.Process(*killed["stream"]).environ()["NEXTCLICK_RECOMMENDATIONS_TOPIC"]
        for pids in killed.values():
            os.kill(*pids, signal.SIGKILL)
        for part, pids in killed.items():
            playground.wait_for(lambda p=part, k=pids: pids_of(folder, p) not in ([], k), f"another {part}")
        n_updates = playground.count(topic)
        playground.wait_for(lambda: playground.count(topic) > n_updates, "another recommendation")
        demo.send_signal(signal.SIGINT)
        status = demo.wait(30)

    ends = {line.split()[2]: line for line in log.read_text().splitlines() if "ended with" in line}
    said = "demo: the {} ended with SIGKILL and is started again in 0.5 s; its last line: "
    assert status == 0
    assert ends.keys() == {"worker", "trainer"}
    assert all(line.startswith(said.format(part)) for part, line in ends.items())


@contextmanager
def running_demo(playground: Any, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path, Path]]:
    """A demo whose first recommendation has come; gives the process, its log, and the folder of all that it makes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-c", "from cli.main import main; main()", "demo", "--broker"]
    options = [playground.settings.broker, "--set", "session_timeout_s=6"]
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [*command, *options],
            env=dict(os.environ) | {"TMPDIR": str(folder)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        playground.wait_for(lambda: "first recommendation after" in log.read_text(), "a first recommendation")
        yield demo, log, folder
    finally:
        demo.kill()
        demo.wait()


def pids_of(folder: Path, part: str) -> list[int]:
    """The demo's processes that run a part."""
    return [pid for pid, command in processes_that_use(folder).items() if command[-1:] == [part]]


def processes_that_use(folder: Path) -> dict[int, list[str]]:
    """Command lines, by process, of those whose environment names the folder."""
    return {
        process.pid: process.info["cmdline"] or []
        for process in psutil.process_iter(["environ", "cmdline"])
        if any(str(folder) in value for value in (process.info["environ"] or {}).values())
    }
