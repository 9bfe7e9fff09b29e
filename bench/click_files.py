"""How fast recorded clicks are read, as `replay` and `evaluate` do it, and how much memory that takes."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

_CLICKS_AT_ONCE = 1_000_000
_CLICKS_OF_A_SESSION = 3.6  # on average; as in the files of shops, a session's clicks stand together
_N_ITEMS = 52_000
_DAYS_MS = 180 * 86_400_000
_FIRST_MS = 1_700_000_000_000
_FIELDS = [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("event_type", pa.string())]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file was read. Memory is the most that the process had, the program itself included."""

    clicks_per_s: float
    cpu_us_per_click: float
    memory_mb: float


def write_clicks(path: Path, n_clicks: int) -> None:
    """Write a CSV file of clicks, session by session and not in the order of time."""
    rng = np.random.default_rng(1)
    kinds = pa.array(["view", "cart", "purchase"])
    first_session = 0
    with arrow_csv.CSVWriter(str(path), pa.schema(_FIELDS)) as file:
        for start in range(0, n_clicks, _CLICKS_AT_ONCE):
            n = min(_CLICKS_AT_ONCE, n_clicks - start)
            lengths = rng.geometric(1 / _CLICKS_OF_A_SESSION, n)
            session = np.repeat(np.arange(n), lengths)[:n]
            times = _FIRST_MS + rng.integers(0, _DAYS_MS, n)[session] + np.arange(n) % 50 * 7_000
            items = rng.zipf(1.3, n) % _N_ITEMS
            events = kinds.take(pa.array(rng.choice(3, n, p=[0.9, 0.07, 0.03])))
            users = pa.array(first_session + session).cast(pa.string())
            columns = [users, pa.array(items).cast(pa.string()), pa.array(times), events]
            file.write_batch(pa.record_batch(columns, names=[name for name, _ in _FIELDS]))
            first_session += int(session[-1]) + 1


def read_in_a_process(path: Path) -> Reading:
    """Read a file in a process of its own, whose memory is then that of the reading."""
    command = [sys.executable, "-m", "bench.click_files", str(path)]
    return Reading(**json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def _read(path: Path) -> dict[str, float]:
    from tools.click_files.choices import AUTO, Choices
    from tools.click_files.read import read_clicks
    from tools.click_files.recognise import recognise

    started_s, cpu_s = time.monotonic(), time.process_time()
    clicks = read_clicks(recognise(path, AUTO, Choices()))
    elapsed_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    return {
        "clicks_per_s": len(clicks) / elapsed_s,
        "cpu_us_per_click": cpu_s / len(clicks) * 1e6,
        "memory_mb": _most_memory_kb() / 1024,
    }


def _most_memory_kb() -> int:
    """Give the most memory since this program was loaded; `getrusage` counts the process that started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


if __name__ == "__main__":
    print(json.dumps(_read(Path(sys.argv[1]))))
