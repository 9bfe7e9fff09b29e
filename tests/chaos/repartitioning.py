"""What an operator does when the clicks topic has grown, and what goes wrong meanwhile: the command is killed, the
broker goes away. It is started again until it has ended well.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from demo.children import Child
from nextclick.settings import Settings
from tests.chaos.cluster import Cluster
from tests.chaos.feeder import REFRESH_S
from tests.chaos.fleet import Fleet

ADDED = 3  # partitions
KILLS = 2  # of the command
AGAIN_S = 1.0
PRODUCERS_REFRESH_S = 2 * REFRESH_S


class Repartitioning:
    """One growth of the clicks topic, from the decision to the end."""

    def __init__(
        self, seed: int, settings: Settings, folder: Path, cluster: Cluster, fleet: Fleet, say: Callable[[str], None]
    ) -> None:
        """Nothing is done yet.

        Args:
            seed: decides when the command is killed.
            settings: of the application.
            folder: for the command's logs, and its data.
            cluster: whose topic grows.
            fleet: the workers, which are held while the command runs.
            say: told what happens.
        """
        rng = random.Random(seed)
        self._kill_after_s = [rng.uniform(0.5, 8) for _ in range(KILLS)]
        self._settings = settings
        self._folder = folder
        self._cluster = cluster
        self._fleet = fleet
        self._say = say
        self._growing: threading.Thread | None = None
        self._child: Child | None = None
        self._started_s = self._again_s = 0.0
        self._is_under_way = False
        self.runs = self.kills = 0

    def grow(self) -> None:
        """Let the topic grow, now or when the broker is back."""
        arguments = (self._settings, self._settings.partitions + ADDED)
        self._growing = threading.Thread(target=self._cluster.grow_clicks, args=arguments, daemon=True)
        self._growing.start()

    def begin(self) -> None:
        """Stop the workers, and run the command until it has ended well; `supervise` does it."""
        self._fleet.hold()
        self._is_under_way = True

    def is_over(self) -> bool:
        """Whether nothing is under way."""
        return not self._is_under_way

    def supervise(self) -> None:
        """Do what is to be done next; must be called often."""
        if not self._is_under_way or (self._growing is not None and self._growing.is_alive()):
            return
        if self._child is None:
            if self._fleet.is_idle() and time.monotonic() > self._again_s:
                self._run()
            return
        status = self._child.exit_status
        if status is None:
            if self._kill_after_s and time.monotonic() > self._started_s + self._kill_after_s[0]:
                self._kill_after_s.pop(0)
                self._child.kill()
                self.kills += 1
            return
        self._say(f"nextclick repartition ended with status {status}: {self._child.log_tail.splitlines()[-1:]}")
        self._child, self._again_s = None, time.monotonic() + AGAIN_S
        if status == 0:
            self._is_under_way = False
            self._fleet.release()

    def end(self) -> None:
        """Leave nothing behind."""
        if self._child is not None:
            self._child.kill()

    def _run(self) -> None:
        self.runs += 1
        base = {k: v for k, v in os.environ.items() if not k.startswith(("NEXTCLICK_", "KAFKA_BOOTSTRAP"))}
        arguments = ("repartition", "--producers-refresh-s", str(PRODUCERS_REFRESH_S))
        environment = base | self._settings.as_environment() | {"NEXTCLICK_DATA_DIR": str(self._folder / "operator")}
        log = self._folder / f"repartition-{self.runs}.log"
        self._child = Child("repartition", arguments, environment, log)
        self._started_s = time.monotonic()
