"""One run: broker, workers and clicks are started, a schedule is carried out, and the topics are judged."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from demo.children import Child
from demo.simulator import Law, Simulator
from nextclick.advance import Limits
from nextclick.bundle import load_bundle
from nextclick.manifest import Manifest
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tests.chaos.bundles import corrupt, load_models, untrained_bundle
from tests.chaos.click_log import check_log, is_logged
from tests.chaos.cluster import Cluster
from tests.chaos.created_anew import create_clicks_anew
from tests.chaos.evidence import count_records, gather, read_clicks, read_updates
from tests.chaos.feeder import Feeder
from tests.chaos.fleet import Exit, Fleet, StartChild
from tests.chaos.repartitioning import ADDED, Repartitioning
from tests.chaos.report import Report
from tests.chaos.schedule import FIRST_WORKERS, SESSION_TIMEOUT_S, SLOTS, TRAINERS, Action, Step
from tests.chaos.variants import check_variants
from tests.chaos.verifier import verify
from tests.experiments import experiment_of

PARTITIONS = 8
LAW = Law(active_users=500, resting_users=1_500)  # about 20 clicks a user in 50,000: histories grow past the window
TICK_S = 0.05
FIRST_ASSIGNMENT_S = 60.0
ANSWERED_S = 180.0  # for the backlog that the schedule leaves behind
QUIET_S = 45.0  # without any update for so long, no more will come: longer than rebalances and recoveries take
REPARTITIONED_S = 240.0
LOGGED_S = 60.0
LOG_DIR = "click-log"
TRAIN = ("train", "--set", "min_clicks=1000000000", "--set", "log_flush_s=1")  # logs clicks and trains nothing
CANARY_SHARE = 0.3
NOW_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of.

    Attributes:
        seed: of schedule, clicks and bundles.
        clicks: how many valid ones.
        seconds: over which they are sent.
        steps: the schedule.
        start_child: starts a worker.
    """

    seed: int
    clicks: int
    seconds: float
    steps: Sequence[Step]
    start_child: StartChild = Child


@dataclass
class Result:
    """What came of a run.

    Attributes:
        report: of the verifier.
        exits: workers that ended by themselves while the schedule ran: allowed, and started again.
        bad_stops: workers that did not end well when all was done and they were asked to: a failure.
        done: how often each action was carried out.
        kills, terms: signals that reached a running worker.
        slow_stops: workers that had to be killed after SIGTERM: a failure.
        repartitions: how often the command was started, and killed.
        leaderless_s: for how long a partition was without a leader.
        of_canary: updates with lists of the bundle on trial.
        others: what else is not as it must be, a line each.
        wall_s: for everything.
    """

    report: Report
    exits: list[Exit]
    bad_stops: list[Exit]
    done: Counter[str]
    kills: int
    terms: int
    slow_stops: list[Exit]
    repartitions: tuple[int, int] = (0, 0)
    leaderless_s: float = 0.0
    of_canary: int = 0
    others: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What is not as it must be, a line each."""
        report = self.report
        return [
            *(
                f"{n} {name.replace('_', ' ')}, at {', '.join(report.examples[name])}"
                for name, n in report.violations.items()
            ),
            *(
                f"worker {stop.worker} killed long after SIGTERM: {stop.last_line}\n{stop.stacks}"
                for stop in self.slow_stops
            ),
            *(f"worker {stop.worker} status {stop.status} at SIGTERM: {stop.last_line}" for stop in self.bad_stops),
            *self.others,
        ]


def run(plan: Plan, folder: Path, say: Callable[[str], None], port: int = 0) -> Result:
    """Carry out a run.

    Args:
        plan: what to do.
        folder: empty; gets everything but the broker's data.
        say: told a line for each step and each worker that ends by itself.
        port: of the broker; 0 picks a free one.
    """
    started_s = time.monotonic()
    with ExitStack() as stack:
        cluster = Cluster(port, with_second=any(step.action is Action.STOP_SECOND for step in plan.steps))
        stack.callback(cluster.end)
        settings = _settings(cluster.start(), folder)
        cluster.create_clicks(settings)
        Topics(settings).create()
        chaos = _Chaos(plan, settings, folder, cluster, say)
        stack.callback(chaos.end)
        result = chaos.run()
    result.wall_s = round(time.monotonic() - started_s, 1)
    return result


class _Chaos:
    def __init__(
        self, plan: Plan, settings: Settings, folder: Path, cluster: Cluster, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._folder = folder
        self._cluster = cluster
        self._say = say
        self._clicks = Simulator(LAW, plan.seed).next_clicks(NOW_MS, plan.clicks)
        self._fleet = Fleet(settings, folder, plan.start_child)
        self._trainers = Fleet(settings, folder, command=TRAIN)
        self._feeder = Feeder(settings, self._clicks, plan.seconds)
        items = sorted({click.item_id for click in self._clicks})
        self._good, self._damaged, tried = _bundles(plan, settings.bundle_dir, items)
        self._experiment = experiment_of(tried, share=CANARY_SHARE, experiment_id=f"chaos-{plan.seed}")
        self._repartitioning = Repartitioning(plan.seed, settings, folder, cluster, self._fleet, self._note)
        self._done: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._started_s = time.monotonic()

    def run(self) -> Result:
        for name in SLOTS[:FIRST_WORKERS]:
            self._fleet.start(name)
        if any(step.worker in TRAINERS for step in self._plan.steps):
            for name in TRAINERS:
                self._trainers.start(name)
        self._wait(self._fleet.all_serving, FIRST_ASSIGNMENT_S)
        self._started_s = time.monotonic()
        self._feeder.start()
        created_anew = [step for step in self._plan.steps if step.action is Action.CREATE_ANEW]
        for step in self._plan.steps:
            self._wait(lambda due_s=step.at_s: self._elapsed_s() >= due_s, float("inf"))  # type: ignore[misc]
            if step not in created_anew:
                self._do(step)
        result = self._judge()
        for step in created_anew:
            self._note(str(step))
            self._done[step.action.name.lower()] += 1
            result.others += self._create_anew()
        return result

    def _judge(self) -> Result:
        """Wait until all is answered, stop everything, and compare with what must be."""
        fleet, repartitioning = self._fleet, self._repartitioning
        fleet.calm_down()
        self._wait(self._cluster.settled, FIRST_ASSIGNMENT_S)
        if not self._wait(repartitioning.is_over, REPARTITIONED_S):
            raise RuntimeError("nextclick repartition did not end; see its logs, and run again")
        self._note("the schedule is over, waiting for answers")
        answers = _Answers(self._settings)
        self._wait(lambda: self._feeder.done, ANSWERED_S)
        self._wait(lambda: answers.complete() or answers.quiet_s() > QUIET_S, ANSWERED_S)
        self._note("all is answered" if answers.complete() else "gave up waiting for answers")
        self._wait(fleet.all_serving, FIRST_ASSIGNMENT_S)
        if self._feeder.failed is not None or not self._feeder.done:
            raise RuntimeError(f"expected every click to be delivered, found {self._feeder.failed}; run again")
        with_trainers = self._trainers.is_wanted()
        if with_trainers:
            self._wait(lambda: is_logged(self._settings), LOGGED_S)
        exits = list(fleet.exits)
        bad_stops = [*fleet.stop(), *self._trainers.stop()]
        limits = Limits(self._settings.recent_clicks, self._settings.list_length)
        report = verify(gather(self._settings), load_models(self._settings.bundle_dir), limits)
        if with_trainers:
            check_log(report, self._settings)
        result = Result(report, exits, bad_stops, self._done, fleet.kills, fleet.terms, fleet.slow_stops)
        if self._done[Action.CANARY.name.lower()]:
            result.of_canary, problems = check_variants(read_updates(self._settings), self._experiment)
            result.others += problems
        result.repartitions = repartitioning.runs, repartitioning.kills
        result.leaderless_s = round(self._cluster.leaderless_s, 1)
        return result

    def _create_anew(self) -> list[str]:
        for name in SLOTS[:FIRST_WORKERS]:
            self._fleet.start(name)
        for name in TRAINERS:
            self._trainers.start(name)
        self._wait(self._fleet.all_serving, FIRST_ASSIGNMENT_S)
        grown = ADDED if self._repartitioning.runs else 0
        settings = replace(self._settings, partitions=self._settings.partitions + grown)
        return create_clicks_anew(
            settings, self._cluster, (self._fleet, self._trainers), self._clicks, self._folder / "anew"
        )

    def end(self) -> None:
        """Leave nothing behind."""
        self._feeder.stop()
        self._repartitioning.end()
        self._fleet.end()
        self._trainers.end()

    def _do(self, step: Step) -> None:
        name = step.worker
        fleet, feeder, repartitioning = self._fleet, self._feeder, self._repartitioning
        actions: dict[Action, Callable[[], str | None]] = {
            Action.KILL: lambda: fleet.kill(name),
            Action.TERM: lambda: fleet.terminate(name),
            Action.START: lambda: fleet.start(name, wipe=step.wipe),
            Action.FREEZE: lambda: fleet.freeze(name),
            Action.THAW: lambda: fleet.thaw(name),
            Action.FILL_DISK: lambda: fleet.fill_disk(name),
            Action.FREE_DISK: lambda: fleet.free_disk(name),
            Action.SWAP: lambda: feeder.announce(self._good.pop()),
            Action.CORRUPT: lambda: feeder.announce(self._damaged.pop()),
            Action.CANARY: lambda: feeder.try_out(self._experiment),
            Action.END_CANARY: lambda: feeder.try_out(None),
            Action.BAD_CLICKS: lambda: feeder.send_bad(),
            Action.GROW: lambda: repartitioning.grow(),
            Action.REPARTITION: lambda: repartitioning.begin(),
            Action.KILL_TRAINER: lambda: self._trainers.kill(name),
            Action.START_TRAINER: lambda: self._trainers.start(name),
        }
        self._done[step.action.name.lower()] += 1
        at_s = self._elapsed_s()
        other = None
        if step.action in actions:
            other = actions[step.action]()
        else:
            self._cluster.ask(step.action)
        instead = f" ({other} in its place)" if other is not None and other != name else ""
        self._note(f"{step}{instead}", at_s)

    def _wait(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        """Look after the workers until a condition holds; tells whether it did in time."""
        end_s = time.monotonic() + deadline_s
        while not (met := condition()) and time.monotonic() < end_s:
            self._repartitioning.supervise()
            for kind, fleet in (("worker", self._fleet), ("trainer", self._trainers)):
                fleet.supervise()
                self._tell_exits(kind, fleet)
            time.sleep(TICK_S)
        return met

    def _tell_exits(self, kind: str, fleet: Fleet) -> None:
        for ended in fleet.exits[self._told[kind] :]:
            self._note(f"{kind} {ended.worker} ended by itself with status {ended.status}: {ended.last_line}")
        self._told[kind] = len(fleet.exits)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _note(self, what: str, at_s: float | None = None) -> None:
        self._say(f"{self._elapsed_s() if at_s is None else at_s:7.1f} s  {what}")


class _Answers:
    """Looks whether every click has an update of its own, and every bad record is rejected."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._n_updates = -1
        self._is_complete = False
        self._newest_s = time.monotonic()

    def complete(self) -> bool:
        """Whether all is answered now; must be asked again and again, once all clicks are sent."""
        settings = self._settings
        n_updates = count_records(settings, settings.recommendations_topic)
        if self._is_complete or n_updates == self._n_updates:
            return self._is_complete
        self._n_updates, self._newest_s = n_updates, time.monotonic()
        clicks, bad = read_clicks(settings)
        if n_updates < len(clicks) or count_records(settings, settings.rejected_topic) < len(bad):
            return False
        answered = {(update.source.partition, update.source.offset) for update in read_updates(settings)}
        self._is_complete = {(click.user[0], click.offset) for click in clicks} <= answered
        return self._is_complete

    def quiet_s(self) -> float:
        """How long no update has come."""
        return time.monotonic() - self._newest_s


def _settings(broker: str, folder: Path) -> Settings:
    return Settings(
        broker=broker,
        app="chaos",
        partitions=PARTITIONS,
        served_dir=folder / "served",
        bundle_dir=folder / "bundles",
        log_dir=folder / LOG_DIR,
        worker_port=0,
        trainer_port=0,
        session_timeout_s=SESSION_TIMEOUT_S,
    )


def _bundles(plan: Plan, store: Path, items: Sequence[str]) -> tuple[list[Manifest], list[Manifest], Manifest]:
    """Make the bundles that the schedule announces, good and damaged, and the one on trial: each knows another part of
    the items.
    """
    counts = Counter(step.action for step in plan.steps)
    total = counts[Action.SWAP] + counts[Action.CORRUPT]
    store.mkdir(parents=True)
    manifests = [
        untrained_bundle(store, items[number * len(items) // (4 * total) :], 1_000 * plan.seed + number + 1)
        for number in range(total)
    ]
    good, damaged = manifests[: counts[Action.SWAP]], manifests[counts[Action.SWAP] :]
    for manifest in damaged:
        corrupt(store, manifest)
    tried = untrained_bundle(store, items, 1_000 * plan.seed)
    load_bundle(store / tried.bundle_id)[1].warm_up()  # what is compiled is compiled now, not while the schedule runs
    return good, damaged, tried
