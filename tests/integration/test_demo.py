"""`nextclick demo` as a process: what it shows, what it starts again, and that Ctrl-C leaves nothing behind."""

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

COMMAND = (sys.executable, "-c", "from cli.main import main; main()", "demo")
COLUMNS, LINES = 100, 40


def test_ctrl_c_ends_the_demo_and_leaves_neither_process_nor_folder(playground: Any, tmp_path: Path) -> None:
    """Everything runs below the demo's process, and all of its folders below TMPDIR."""
    with running_demo(playground, tmp_path) as (demo, log, folder):
        demo.send_signal(signal.SIGINT)
        status = demo.wait(30)

    assert status == 0
    assert "\ndemo: stopping\nclicks read " in log.read_text()
    assert list(folder.iterdir()) == []
    assert processes_that_use(folder) == {}


@pytest.mark.parametrize("made", ["", "kafka", "kafka/data/meta.properties", "worker.log", "simulator.log"])
def test_ctrl_c_while_it_starts_leaves_nothing_however_often(tmp_path: Path, made: str) -> None:
    """Whatever has been made by then, the broker's data among it; a second one does not cut the clean-up short."""
    with own_demo(tmp_path) as (demo, log, folder):
        wait_for(lambda: list(folder.glob(f"nextclick-demo-*/{made}")), "the moment to interrupt")
        demo.send_signal(signal.SIGINT)
        wait_for(lambda: "demo: stopping" in log.read_text(), "that it says so")
        demo.send_signal(signal.SIGINT)
        status = demo.wait(60)

    assert status in (0, 130, -signal.SIGINT)  # the last: the second one came when all was done
    assert log.read_text().count("demo: stopping") == 1
    assert "Traceback" not in log.read_text()
    assert list(folder.iterdir()) == []
    assert processes_that_use(folder) == {}


@pytest.mark.parametrize("why", ["no broker", "no Kafka"])
def test_a_start_that_fails_leaves_nothing(tmp_path: Path, why: str) -> None:
    """Whether a broker was named that is not there, or one's own ends at once."""
    libraries = tmp_path / "home" / "libs"
    libraries.mkdir(parents=True)
    (libraries / "kafka_2.13.jar").touch()
    options = ["--broker", "127.0.0.1:1"] if why == "no broker" else []
    with own_demo(tmp_path, *options, KAFKA_HOME=str(libraries.parent)) as (demo, log, folder):
        status = demo.wait(60)

    assert status == 1
    assert len(re.findall("^nextclick: ", log.read_text(), re.MULTILINE)) == 1
    assert "Traceback" not in log.read_text()
    assert list(folder.iterdir()) == []


def test_on_a_terminal_the_table_shows_a_user_and_is_gone_at_the_end(playground: Any, tmp_path: Path) -> None:
    """What is left on the screen is what happened, and the summary."""
    screen, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    demo = subprocess.Popen(
        [*COMMAND, "--broker", playground.settings.broker],
        env=dict(os.environ) | {"TMPDIR": str(tmp_path), "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = bytearray()
    reader = threading.Thread(target=read_all, args=(screen, written))
    reader.start()
    try:
        wait_for(lambda: re.search(r"user-\d+ clicked", on_screen(written)), "a user in the table")
        during = on_screen(written)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    finally:
        demo.kill()
        demo.wait()
        reader.join()

    assert re.search(r"│ user-\d+ clicked +│ item-\d+\*? > item-\d+\*?", during)
    assert re.search(r"│   and now gets +│ item-\d+, item-\d+", during)
    left = on_screen(written)
    assert not re.search("[│┌└]", left)
    assert "\ndemo: stopping\nclicks read " in left


@pytest.mark.release
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
    options = ["--broker", playground.settings.broker, "--set", "session_timeout_s=6"]
    with own_demo(tmp_path, *options) as (demo, log, folder):
        wait_for(lambda: "first recommendation after" in log.read_text(), "a first recommendation")
        yield demo, log, folder


@contextmanager
def own_demo(tmp_path: Path, *options: str, **more: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path, Path]]:
    """A demo that has just been started; gives the process, its log, and the folder of all that it makes."""
    folder, log = tmp_path / "temporary", tmp_path / "demo.log"
    folder.mkdir()
    base = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP"}
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [*COMMAND, *options],
            env=base | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"} | more,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield demo, log, folder
    finally:
        demo.kill()
        demo.wait()


def wait_for(condition: Any, what: str, deadline_s: float = 90.0) -> None:
    """Wait until a condition is true, and look so often that a moment is met."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            pytest.fail(f"{what} within {deadline_s:.0f} s")
        time.sleep(0.01)


def read_all(screen: int, written: bytearray) -> None:
    """Read what is written to a terminal until its program ends."""
    with open(screen, "rb", buffering=0) as file, suppress(OSError):  # the end of a terminal is an error on Linux
        while part := file.read(65_536):
            written += part


def on_screen(written: bytearray) -> str:
    """What a terminal shows after these bytes: text, line ends, and the moves up and the erasing of a live table."""
    lines, row, column = [""], 0, 0
    for move, text in re.findall(r"(\x1b\[[?\d;]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", written.decode(errors="ignore")):
        if text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif move == "\r":
            column = 0
        elif move == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif move.endswith("A"):
            row -= int(move[2:-1])
        elif move.endswith("K"):
            lines[row] = ""
    return "\n".join(lines)


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
