"""A worker with one mechanism switched off, to show that the suite notices. The production code knows nothing of it.

`python -m tests.chaos.broken_worker NAME ...` runs `nextclick ...` in a process where that mechanism does nothing.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from demo.children import Child
from tests.chaos.fleet import StartChild
from tools.processes import dying_with_parent

SLOW_S = 3.0  # between an acknowledgement that comes too early and the results: a kill hits it for certain


def switch_off_the_fence() -> None:
    """Apply a click again whenever it is read again."""
    import nextclick.advance as module

    after = module._after

    def without_fence(before: Any, last_place: int, logged: Any, keep: int) -> Any:
        return after((*before[:3], -1, *before[4:]), last_place, logged, keep)

    module._after = without_fence


def acknowledge_first() -> None:
    """Let the clicks be committed before the broker has what follows from them."""
    from stream.protocol.assignment import Partition
    from stream.protocol.publisher import Publisher

    publish, acknowledge = Publisher.publish, Partition.acknowledge

    async def too_late(self: Any, assignment: Any, results: Any, on_durable: Any) -> None:
        for result in results:
            acknowledge(assignment.partitions[result.partition], result.first, result.end)
        await asyncio.sleep(SLOW_S)
        await publish(self, assignment, results, on_durable)

    Publisher.publish = too_late  # type: ignore[method-assign]
    Partition.acknowledge = lambda self, first, end: None  # type: ignore[method-assign]


def last_record_wins() -> None:
    """Restore the last record of the changelog, whatever its fence."""
    import stream.protocol.restoration as module

    def all_win(topic: str, partition: int, stored: Any, records: Any) -> Any:
        """Let every record win over what was there before it."""
        for record in records:
            yield record, module.NO_FENCE

    module.judged = all_win


MECHANISMS: Mapping[str, Callable[[], None]] = {
    "fence": switch_off_the_fence,
    "order": acknowledge_first,
    "recovery": last_record_wins,
}


class BrokenWorker(Child):
    """A process like `Child`, with one mechanism switched off."""

    def __init__(
        self, mechanism: str, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.output = None
        self._log = log
        with log.open("wb") as log_file:
            self._process = subprocess.Popen(
                dying_with_parent([sys.executable, "-m", "tests.chaos.broken_worker", mechanism, *arguments]),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )


def broken(mechanism: str) -> StartChild:
    """Give what starts workers without a mechanism."""
    return partial(BrokenWorker, mechanism)


def main() -> None:
    """Switch a mechanism off and run the command line."""
    MECHANISMS[sys.argv.pop(1)]()
    from cli.main import main as nextclick_main

    nextclick_main()


if __name__ == "__main__":
    main()
