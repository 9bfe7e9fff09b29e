"""`nextclick demo` as a process: what it shows, and that Ctrl-C leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_ctrl_c_ends_the_demo_and_leaves_neither_process_nor_folder(playground: Any, tmp_path: Path) -> None:
    """Everything runs below the demo's process, and all of its folders below TMPDIR."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-c", "from nextclick.cli import main; main()", "demo", "--broker"]
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [*command, playground.settings.broker],
            env=dict(os.environ) | {"TMPDIR": str(folder)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        playground.wait_for(lambda: "first recommendation after" in log.read_text(), "a first recommendation")
        demo.send_signal(signal.SIGINT)
        status = demo.wait(30)
    finally:
        demo.kill()
        demo.wait()

    assert status == 0
    assert "hit rate at 20" in log.read_text()
    assert list(folder.iterdir()) == []
    assert processes_that_use(folder) == []


def processes_that_use(folder: Path) -> list[str]:
    """Command lines of processes whose environment names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue  # it has ended, or is someone else's
    return found
