"""The figures of a run, as `--json` writes them and `--write-docs` reads them."""

import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from bench.backlog import Throughput
from bench.steady import Steady

ROOT = Path(__file__).parents[1]
_MEASURED_PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "torch", "numpy", "numba")
_OTHERS = ROOT / ".venv-bench" / "bin" / "python"
_VERSIONS_OF_OTHERS = """
from importlib.metadata import version
for name in ("quixstreams", "bytewax", "confluent-kafka"):
    print(name, version(name))
"""


class Machine(msgspec.Struct):
    """Where and of what figures were taken.

    Attributes:
        taken_at: day and time, UTC.
        load_before: how many programs wanted a core in the minute before; not ours.
        versions: of programs and packages.
    """

    taken_at: str
    commit: str
    processor: str
    n_cores: int
    memory_gb: float
    system: str
    load_before: float
    versions: dict[str, str]


class ProgramFigures(msgspec.Struct):
    """What was measured of a program, a value for each round.

    Attributes:
        name: in tables.
        n_items: of the model; 0: without one.
        not_run: why there are no figures; empty if there are.
        rates: by share of the program's own capacity in %, in each round.
    """

    name: str
    n_items: int = 0
    not_run: str = ""
    throughput: list[Throughput] = msgspec.field(default_factory=list)
    rates: dict[int, list[Steady]] = msgspec.field(default_factory=dict)


class Comparison(msgspec.Struct):
    """All programs, in turn, in one run."""

    n_rounds: int
    programs: list[ProgramFigures]


class WorkerAtRates(msgspec.Struct):
    """The worker at given rates, with one model or none (0 items)."""

    n_items: int
    rates: list[Steady]


class Figures(msgspec.Struct):
    """All that is written down by machine.

    Attributes:
        machines: where each part was taken, by the part's name on the command line.
    """

    machines: dict[str, Machine] = msgspec.field(default_factory=dict)
    compare: Comparison | None = None
    steady: list[WorkerAtRates] = msgspec.field(default_factory=list)
    idle_cores: float | None = None


def write_figures(path: Path, figures: Figures) -> None:
    """Write figures as JSON. What this run did not measure stays as it is in the file."""
    if path.exists():
        before = read_figures(path)
        figures.machines = before.machines | figures.machines
        figures.compare = figures.compare or before.compare
        figures.steady = figures.steady or before.steady
        figures.idle_cores = before.idle_cores if figures.idle_cores is None else figures.idle_cores
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def read_figures(path: Path) -> Figures:
    """Read what `write_figures` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Figures)


def this_machine() -> Machine:
    """Describe this machine, commit and versions."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        _printed("git", "describe", "--always", "--dirty"),
        _processor(),
        len(os.sched_getaffinity(0)),
        round(pages / 1e9, 1),
        platform.platform(),
        os.getloadavg()[0],
        _versions(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _MEASURED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if _OTHERS.exists():
        for line in _printed(str(_OTHERS), "-c", _VERSIONS_OF_OTHERS).splitlines():
            name, _, number = line.partition(" ")
            found[f"{name} (beside Quix Streams)" if name in found else name] = number
    if shutil.which("java"):
        lines = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
        found["java"] = lines[0] if lines else "?"
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def _printed(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
