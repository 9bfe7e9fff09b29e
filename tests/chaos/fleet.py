"""The workers of a run, and their supervisor: a worker that ends by itself is started again after a short while.
Trainers have the same kind of supervisor.

Everything is called from the thread that the processes shall live with: they are killed with it.
"""

import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from demo.children import Child
from nextclick.settings import Settings

STOP_PATIENCE_S = 10.0  # a worker cuts its own stop short after 4 s
FIRST_BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 4.0
HEALTHY_S = 15.0  # a worker that lived so long starts again without delay
FULL_DISK_BYTES = 16 * 1024  # no file grows by more than this while the disk is "full"

StartChild = Callable[[str, Sequence[str], Mapping[str, str], Path], Child]


@dataclass(frozen=True, slots=True)
class Exit:
    """A worker that ended in another way than it was asked to.

    Attributes:
        worker: its name.
        status: as the supervisor sees it; minus the signal's number if by one.
        last_line: of its log.
        stacks: what every thread was at, when it had to be aborted.
    """

    worker: str
    status: int
    last_line: str
    stacks: str = ""


@dataclass(slots=True)
class _Slot:
    """A worker's place: the same name and data folder over all its lives."""

    name: str
    data_dir: Path
    child: Child | None = None
    log: Path | None = None
    wanted: bool = False
    wipe: bool = False  # before the next start
    frozen_for: str = ""  # the worker that the schedule meant; empty while it is not frozen
    disk_full: bool = False
    asked_to_stop_s: float | None = None
    killed: bool = False
    started_s: float = 0.0
    start_at_s: float = 0.0
    back_off_s: float = FIRST_BACK_OFF_S
    lives: int = 0

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.exit_status is None

    def send(self, number: signal.Signals) -> None:
        if self.child is not None and self.running:
            os.kill(self.child.pid, number)


@dataclass
class Fleet:
    """The workers.

    Attributes:
        settings: of all of them.
        folder: gets their data folders and logs.
        start_child: starts a process; another one for workers that are broken on purpose.
        command: what is run, with its options; each gets a data folder of its own as well.
        exits: those that nobody asked for.
        kills, terms: signals that reached a running worker.
        slow_stops: workers that had to be killed after SIGTERM.
    """

    settings: Settings
    folder: Path
    start_child: StartChild = Child
    command: Sequence[str] = ("stream",)
    exits: list[Exit] = field(default_factory=list)
    kills: int = 0
    terms: int = 0
    slow_stops: list[Exit] = field(default_factory=list)
    _slots: dict[str, _Slot] = field(default_factory=dict)
    _held: bool = False

    def start(self, name: str, *, wipe: bool = False) -> None:
        """Want a worker to run from now on, or from the end of the one that is being stopped."""
        slot = self._slots.setdefault(name, _Slot(name, self.folder / name))
        slot.wanted, slot.wipe, slot.start_at_s = True, wipe, 0.0
        self.supervise()

    def kill(self, name: str) -> str:
        """SIGKILL a worker, or one that runs in its place; gives the name of the one that it was."""
        slot = self._running_slot(name)
        if slot.name == name:
            slot.wanted = False
        if slot.running:
            slot.killed = True
            self.kills += 1
            slot.send(signal.SIGKILL)
        return slot.name

    def terminate(self, name: str) -> str:
        """SIGTERM a worker, or one that runs in its place; gives the name of the one that it was."""
        slot = self._running_slot(name)
        if slot.name == name:
            slot.wanted = False
        if slot.running:
            slot.asked_to_stop_s = time.monotonic()
            self.terms += 1
            slot.send(signal.SIGTERM)
        return slot.name

    def freeze(self, name: str) -> str:
        """SIGSTOP a worker, or one that runs in its place; gives the name of the one that it was."""
        slot = self._running_slot(name)
        slot.frozen_for = name
        slot.send(signal.SIGSTOP)
        return slot.name

    def thaw(self, name: str) -> None:
        """SIGCONT the worker that was frozen under this name."""
        for slot in self._slots.values():
            if slot.frozen_for == name:
                slot.frozen_for = ""
                slot.send(signal.SIGCONT)
                if slot.asked_to_stop_s is not None:
                    slot.asked_to_stop_s = time.monotonic()  # it hears only now

    def calm_down(self) -> None:
        """End whatever is being done to workers."""
        for slot in self._slots.values():
            self.thaw(slot.frozen_for)
            self.free_disk(slot.name)

    def fill_disk(self, name: str) -> None:
        """Let a worker's files grow no further, also after a restart; its log has a little room left."""
        self._slots[name].disk_full = True
        self._limit_files(self._slots[name])

    def free_disk(self, name: str) -> None:
        """Let them grow again."""
        self._slots[name].disk_full = False
        self._limit_files(self._slots[name])

    def hold(self) -> None:
        """Stop all workers, and start none until `release`."""
        self._held = True

    def release(self) -> None:
        """Start those that are wanted."""
        self._held = False

    def is_idle(self) -> bool:
        """Whether no worker runs that could do anything."""
        return not any(slot.running and not slot.frozen_for for slot in self._slots.values())

    def supervise(self) -> None:
        """Look after the workers; must be called often."""
        for slot in self._slots.values():
            self._bury(slot)
            late_s = time.monotonic() - (slot.asked_to_stop_s or time.monotonic())
            is_slow = slot.running and not slot.killed and not slot.frozen_for and late_s > STOP_PATIENCE_S
            if slot.child is not None and is_slow:
                last_line = _last_line(slot.log)
                slot.killed = True
                slot.send(signal.SIGABRT)  # its log then ends with what every thread was at
                slot.child.wait(STOP_PATIENCE_S)
                self.slow_stops.append(Exit(slot.name, -signal.SIGABRT, last_line, _stacks(slot.log)))
            if self._held and slot.running and not slot.frozen_for and slot.asked_to_stop_s is None:
                slot.asked_to_stop_s = time.monotonic()
                slot.send(signal.SIGTERM)
            if slot.wanted and not self._held and not slot.running and time.monotonic() >= slot.start_at_s:
                self._launch(slot)

    def is_wanted(self) -> bool:
        """Whether any worker is to run."""
        return any(slot.wanted for slot in self._slots.values())

    def all_serving(self) -> bool:
        """Whether every worker that is wanted runs and has taken its partitions."""
        wanted = [slot for slot in self._slots.values() if slot.wanted]
        return all(
            slot.running and slot.log is not None and b"partitions assigned" in slot.log.read_bytes() for slot in wanted
        )

    def all_ended_with(self, words: str) -> bool:
        """Whether the last thing that every wanted worker said before it ended by itself has these words."""
        last = {ended.worker: ended.last_line for ended in self.exits}
        return all(words in last.get(slot.name, "") for slot in self._slots.values() if slot.wanted)

    def stop(self) -> list[Exit]:
        """SIGTERM all workers, wait, and give those that did not end well."""
        n_known = len(self.exits)
        self.calm_down()
        for slot in self._slots.values():
            slot.wanted = False
            if slot.running:
                slot.asked_to_stop_s = time.monotonic()
                slot.send(signal.SIGTERM)
        while any(slot.running for slot in self._slots.values()):
            self.supervise()
            time.sleep(0.05)
        self.supervise()
        return self.exits[n_known:]

    def end(self) -> None:
        """SIGKILL all workers."""
        for slot in self._slots.values():
            slot.wanted = False
            if slot.child is not None:
                slot.child.kill()

    def _running_slot(self, name: str) -> _Slot:
        """The worker, or if it is down (it may have ended by itself) the next one that runs."""
        names = sorted(self._slots)
        first = names.index(name)
        for other in names[first:] + names[:first]:
            slot = self._slots[other]
            if slot.running and slot.asked_to_stop_s is None:
                return slot
        return self._slots[name]

    def _launch(self, slot: _Slot) -> None:
        if slot.wipe:
            shutil.rmtree(slot.data_dir, ignore_errors=True)
            slot.wipe = False
        slot.lives += 1
        slot.frozen_for, slot.killed = "", False
        slot.asked_to_stop_s = None
        slot.started_s = time.monotonic()
        slot.log = self.folder / f"{slot.name}-{slot.lives}.log"
        base = {k: v for k, v in os.environ.items() if not k.startswith(("NEXTCLICK_", "KAFKA_BOOTSTRAP"))}
        arguments = (*self.command, "--set", f"data_dir={slot.data_dir}")
        environment = base | self.settings.as_environment() | {"PYTHONFAULTHANDLER": "1"}
        slot.child = self.start_child(slot.name, arguments, environment, slot.log)
        if slot.disk_full:
            self._limit_files(slot)

    def _bury(self, slot: _Slot) -> None:
        """Note how a worker ended, once, and when it shall start again."""
        if slot.child is None or slot.running:
            return
        status = slot.child.exit_status or 0
        stopped = slot.asked_to_stop_s is not None and status in (0, -signal.SIGTERM)  # it may have had no handler yet
        if not slot.killed and not stopped:
            self.exits.append(Exit(slot.name, status, _last_line(slot.log)))
            if time.monotonic() - slot.started_s > HEALTHY_S:
                slot.back_off_s = FIRST_BACK_OFF_S
            slot.start_at_s = time.monotonic() + slot.back_off_s
            slot.back_off_s = min(2 * slot.back_off_s, MAX_BACK_OFF_S)
        slot.child = None

    def _limit_files(self, slot: _Slot) -> None:
        if slot.child is None or not slot.running or slot.log is None:
            return
        _, hard = resource.prlimit(slot.child.pid, resource.RLIMIT_FSIZE)
        soft = slot.log.stat().st_size + FULL_DISK_BYTES if slot.disk_full else hard
        resource.prlimit(slot.child.pid, resource.RLIMIT_FSIZE, (soft, hard))


def _last_line(log: Path | None) -> str:
    """Give what a worker said at its end: its own last word, else the last line of any library."""
    lines = log.read_text(errors="replace").splitlines() if log is not None else []
    own = [line for line in lines if line.startswith("nextclick:")]
    line = (own or lines or ["(nothing logged)"])[-1]
    try:
        return str(json.loads(line)["message"]).splitlines()[0]
    except (ValueError, KeyError, TypeError, IndexError):
        return line


def _stacks(log: Path | None) -> str:
    """Give what Python's fault handler wrote when a worker was aborted."""
    text = log.read_text(errors="replace") if log is not None else ""
    return text[text.rfind("Fatal Python error") :] if "Fatal Python error" in text else "(no stacks in the log)"
