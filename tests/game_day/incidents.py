"""What goes wrong, in which order, and which alert is to say so."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.bundles import announce, corrupt, untrained_bundle
from tests.game_day.application import STOP_S, WORKERS, Application, wait_for

FIRES_S, SETTLES_S, SWAPS_S = 450.0, 300.0, 600.0  # a disk must have been seen for half an hour of the rules
TICK_S = 0.5
OUTAGE_S = 60.0  # of the rules' time
DISK_BYTES, FILLED, WRITES_S = 256 * 1024**2, 0.75, 30.0  # a disk, how much of it is filled, and within which time
# How much is late says as much of the machine as of what was done to it: a worker starts as slowly as ever, while the
# rules' time passes faster. They are reported, and no failure.
OBJECTIVES = frozenset({"NextclickClicksSlow", "NextclickReadsSlow"})
_BAD_CLICK = b'{"page": "/checkout"}'


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong.

    Attributes:
        name: of it.
        alert: which is to fire.
        begin: does it.
        end: mends it.
        during: is called again and again in between.
        lasts_s: of the rules' time, whether the alert fires or not; 0: until it fires.
    """

    name: str
    alert: str
    begin: Callable[[Application], None]
    end: Callable[[Application], None]
    during: Callable[[Application, float], None] = lambda application, since_s: None
    lasts_s: float = 0.0


@dataclass
class Outcome:
    """What was seen.

    Attributes:
        name: of the incident, or of normal running.
        alert: which is to fire; empty: none.
        before: alerts that fired already.
        fired: alert to the seconds after the beginning, for each that fired then.
    """

    name: str
    alert: str = ""
    before: set[str] = field(default_factory=set)
    fired: dict[str, float] = field(default_factory=dict)

    @property
    def others(self) -> set[str]:
        """Alerts that ought not to have fired."""
        return self.fired.keys() - OBJECTIVES - {self.alert}

    @property
    def is_right(self) -> bool:
        """Whether the right alert fired, and no other."""
        return not self.others and (not self.alert or self.alert in self.fired)


def _kill_worker(application: Application) -> None:
    application.kill(WORKERS[0])


def _start_worker(application: Application) -> None:
    application.start(WORKERS[0])


def _stop_broker(application: Application) -> None:
    application.kafka.stop(keep_data=True)


def _start_broker(application: Application) -> None:
    application.kafka.start()
    application.stop("users")  # they do not wait for a broker
    application.start("users")


def _fill(application: Application, since_s: float) -> None:
    """Write as much as is to be there by now; a little more each second when most is."""
    share = min(since_s / WRITES_S, 1) * FILLED + since_s * 1e-4
    filler = application.feed_dir.parent / "filler"
    size = filler.stat().st_size if filler.exists() else 0
    with filler.open("ab") as file:
        file.write(bytes(max(0, int(share * DISK_BYTES) - size)))


def _free_disk(application: Application) -> None:
    (application.feed_dir.parent / "filler").unlink()


def _send_bad_clicks(application: Application, since_s: float) -> None:
    application.send(_BAD_CLICK, 20)


def _publish_bad_bundle(application: Application) -> None:
    store = application.settings.bundle_dir
    manifest = untrained_bundle(store, ["item-1", "item-2"], seed=1)
    corrupt(store, manifest)
    announce(application.settings, manifest)


def _roll_back(application: Application) -> None:
    application.run("models", "rollback")


INCIDENTS = (
    Incident("a worker is killed", "NextclickWorkerDown", _kill_worker, _start_worker),
    Incident("the broker is away for a minute", "NextclickBrokerAway", _stop_broker, _start_broker, lasts_s=OUTAGE_S),
    Incident("a disk fills", "NextclickDiskFills", lambda application: None, _free_disk, _fill),
    Incident(
        "only bad clicks come",
        "NextclickRejects",
        lambda application: application.stop("users"),
        lambda application: application.start("users"),
        _send_bad_clicks,
    ),
    Incident(
        "the trainer is stopped",
        "NextclickTrainerDown",
        lambda application: application.stop("trainer"),
        lambda application: application.start("trainer"),
    ),
    Incident("a bad bundle is published", "NextclickBundleRefused", _publish_bad_bundle, _roll_back),
)


def play(application: Application, incident: Incident) -> Outcome:
    """Let something go wrong for its time, mend it, and wait until nothing fires any more.

    Raises:
        TimeoutError: alerts went on after it was mended.
    """
    outcome = Outcome(incident.name, incident.alert, application.prometheus.firing())
    start_s = time.monotonic()
    incident.begin(application)
    while (since_s := time.monotonic() - start_s) < FIRES_S:
        incident.during(application, since_s)
        _look(application, outcome, start_s)
        lasted_s = since_s * application.factor
        if lasted_s > incident.lasts_s if incident.lasts_s else incident.alert in outcome.fired:
            break
        time.sleep(TICK_S)
    incident.end(application)
    wait_for(
        lambda: not _look(application, outcome, start_s) and application.is_serving(),
        "quiet after " + incident.name,
        SETTLES_S,
    )
    return outcome


def run_normally(application: Application, minutes: float) -> Outcome:
    """Let everything run: for some minutes of the rules' time, with a rolling restart and two swaps of bundles."""
    seconds = minutes * 60 / application.factor
    outcome, start_s = Outcome(f"{minutes:.0f} minutes of normal running"), time.monotonic()
    served = {application.value("max(nextclick_bundle_created_timestamp_seconds)")}
    restarts = [(place * seconds / 4, name) for place, name in enumerate(WORKERS, 1)]
    while (since_s := time.monotonic() - start_s) < seconds or len(served) < 3:
        if since_s > SWAPS_S + seconds:
            raise TimeoutError(f"two swaps of bundles within {since_s:.0f} s")
        if restarts and since_s > restarts[0][0]:
            _, name = restarts.pop(0)
            application.stop(name)
            application.start(name)
        served.add(application.value("max(nextclick_bundle_created_timestamp_seconds)"))
        _look(application, outcome, start_s)
        time.sleep(TICK_S)
    return outcome


def _look(application: Application, outcome: Outcome, start_s: float) -> set[str]:
    """Note what fires; gives it without the objectives."""
    firing = application.prometheus.firing()
    for alert in firing - outcome.before:
        outcome.fired.setdefault(alert, time.monotonic() - start_s)
    return firing - OBJECTIVES


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Make a folder a disk of its own, which can be filled; gives whether that is allowed here (it takes root)."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True, timeout=STOP_S)
