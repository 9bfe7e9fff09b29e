"""Writes simulated clicks to a file instead of a topic: for `nextclick backtest` and `replay`, the same for a seed."""

import csv
import io
from pathlib import Path

from demo.simulator import Simulator
from nextclick.errors import PermanentError
from tools.files import whole_file

_FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z: not now, so that the same seed gives the same file
_BLOCK_CLICKS = 10_000


def write_simulated(path: Path, simulator: Simulator, n_clicks: int, clicks_per_s: float) -> None:
    """Write clicks as a CSV file with a header; whoever reads the path sees all of them or the file of before.

    Args:
        path: of the file.
        simulator: where the clicks come from.
        n_clicks: how many.
        clicks_per_s: how far apart their event times are.

    Raises:
        PermanentError: it cannot be written.
    """
    try:
        with whole_file(path) as file:
            file.write(b"user_id,item_id,timestamp,event_type\n")
            for begin in range(0, n_clicks, _BLOCK_CLICKS):
                block = io.StringIO(newline="")
                writer = csv.writer(block, lineterminator="\n")
                clicks = simulator.next_clicks(0, min(_BLOCK_CLICKS, n_clicks - begin))
                for number, click in enumerate(clicks, begin):
                    # In seconds: a number is milliseconds only if it is large enough.
                    time_s = (_FIRST_MS + int(1000 * number / clicks_per_s)) / 1000
                    writer.writerow((click.user_id, click.item_id, f"{time_s:.3f}", click.event_type))
                file.write(block.getvalue().encode())
    except OSError as error:
        raise PermanentError(f"--to: {path} cannot be written: {error.strerror}") from None
