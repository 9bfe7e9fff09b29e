"""One run: broker, workers and clicks are started, a schedule is carried out, and the topics are judged."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from demo.children import Child
from demo.local_kafka import LocalKafka
from demo.simulator import Law, Simulator
from nextclick.advance import Limits
from nextclick.manifest import Manifest
from nextclick.settings import Settings
from nextclick.updates import decode_update
from stream.topics.topics import Topics
from tests.chaos.bundles import corrupt, load_models, untrained_bundle
from tests.chaos.eras import Place
from tests.chaos.evidence import count_records, gather, read_clicks
from tests.chaos.feeder import Feeder
from tests.chaos.fleet import Exit, Fleet, StartChild
from tests.chaos.report import Report
from tests.chaos.schedule import FIRST_WORKERS, SESSION_TIMEOUT_S, SLOTS, Action, Step
from tests.chaos.verifier import verify
from tools.client_config import consumer_config

PARTITIONS = 8
LAW = Law(active_users=500, resting_users=1_500)  # about 20 clicks a user in 50,000: histories grow past the window
TICK_S = 0.05
FIRST_ASSIGNMENT_S = 60.0
ANSWERED_S = 180.0  # for the backlog that the schedule leaves behind
QUIET_S = 45.0  # without any update for so long, no more will come: longer than rebalances and recoveries take
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
        wall_s: for everything.
    """

    report: Report
    exits: list[Exit]
    bad_stops: list[Exit]
    done: Counter[str]
    kills: int
    terms: int
    slow_stops: list[Exit]
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
        broker = _Broker(port)
        stack.callback(broker.end)
        settings = _settings(broker.start(), folder)
        Topics(settings).create()
        chaos = _Chaos(plan, settings, folder, broker, say)
        stack.callback(chaos.end)
        result = chaos.run()
    result.wall_s = round(time.monotonic() - started_s, 1)
    return result


class _Broker:
    """The broker, in a thread of its own: a start takes seconds, and the schedule and the supervisor do not wait."""

    def __init__(self, port: int) -> None:
        self._kafka = LocalKafka(port=port)
        self._thread = ThreadPoolExecutor(1, "broker")  # the broker lives as long as the thread that starts it
        self._asked: list[Future[None]] = []

    def start(self) -> str:
        """Start it, wait until it answers, and give its address."""
        self._thread.submit(self._kafka.start).result()
        return self._kafka.bootstrap

    def ask(self, action: Action) -> None:
        """Do one of the things that the schedule does to a broker, after what was asked for before."""
        actions: dict[Action, Callable[[], None]] = {
            Action.STOP_BROKER: lambda: self._kafka.stop(keep_data=True),
            Action.START_BROKER: self._kafka.start,
            Action.PAUSE_BROKER: self._kafka.pause,
            Action.RESUME_BROKER: self._kafka.resume,
        }
        self._asked.append(self._thread.submit(actions[action]))

    def settled(self) -> bool:
        """Whether all that was asked for is done; raises what went wrong with it."""
        return all(asked.done() and asked.result() is None for asked in self._asked)

    def end(self) -> None:
        """Stop it for good."""
        self._thread.submit(self._kafka.stop).result()
        self._thread.shutdown()


class _Chaos:
    def __init__(
        self, plan: Plan, settings: Settings, folder: Path, broker: _Broker, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._broker = broker
        self._say = say
        clicks = Simulator(LAW, plan.seed).next_clicks(NOW_MS, plan.clicks)
        self._fleet = Fleet(settings, folder, plan.start_child)
        self._feeder = Feeder(settings, clicks, plan.seconds)
        self._good, self._damaged = _bundles(plan, settings.bundle_dir, sorted({click.item_id for click in clicks}))
        self._done: Counter[str] = Counter()
        self._n_told = 0
        self._started_s = time.monotonic()

    def run(self) -> Result:
        for name in SLOTS[:FIRST_WORKERS]:
            self._fleet.start(name)
        self._wait(self._fleet.all_serving, FIRST_ASSIGNMENT_S)
        self._started_s = time.monotonic()
        self._feeder.start()
        for step in self._plan.steps:
            self._wait(lambda due_s=step.at_s: self._elapsed_s() >= due_s, float("inf"))  # type: ignore[misc]
            self._do(step)
        self._fleet.calm_down()
        self._wait(self._broker.settled, FIRST_ASSIGNMENT_S)
        self._note("the schedule is over, waiting for answers")
        answers = _Answers(self._settings)
        self._wait(lambda: self._feeder.done, ANSWERED_S)
        self._wait(lambda: answers.complete() or answers.quiet_s() > QUIET_S, ANSWERED_S)
        self._note("all is answered" if answers.complete() else "gave up waiting for answers")
        self._wait(self._fleet.all_serving, FIRST_ASSIGNMENT_S)
        if self._feeder.failed is not None or not self._feeder.done:
            raise RuntimeError(f"expected every click to be delivered, found {self._feeder.failed}; run again")
        exits = list(self._fleet.exits)
        bad_stops = self._fleet.stop()
        evidence = gather(self._settings)
        limits = Limits(self._settings.recent_clicks, self._settings.list_length)
        report = verify(evidence, load_models(self._settings.bundle_dir), limits)
        fleet = self._fleet
        return Result(report, exits, bad_stops, self._done, fleet.kills, fleet.terms, fleet.slow_stops)

    def end(self) -> None:
        """Leave nothing behind."""
        self._feeder.stop()
        self._fleet.end()

    def _do(self, step: Step) -> None:
        name = step.worker
        fleet, broker, feeder = self._fleet, self._broker, self._feeder
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
            Action.BAD_CLICKS: lambda: feeder.send_bad(),
        }
        self._done[step.action.name.lower()] += 1
        at_s = self._elapsed_s()
        other = None
        if step.action in actions:
            other = actions[step.action]()
        else:
            broker.ask(step.action)
        instead = f" ({other} in its place)" if other is not None and other != name else ""
        self._note(f"{step}{instead}", at_s)

    def _wait(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        """Look after the workers until a condition holds; tells whether it did in time."""
        end_s = time.monotonic() + deadline_s
        while not (met := condition()) and time.monotonic() < end_s:
            self._fleet.supervise()
            self._tell_exits()
            time.sleep(TICK_S)
        return met

    def _tell_exits(self) -> None:
        for ended in self._fleet.exits[self._n_told :]:
            self._note(f"worker {ended.worker} ended by itself with status {ended.status}: {ended.last_line}")
        self._n_told = len(self._fleet.exits)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _note(self, what: str, at_s: float | None = None) -> None:
        self._say(f"{self._elapsed_s() if at_s is None else at_s:7.1f} s  {what}")


class _Answers:
    """Follows the updates until every click has one of its own and every bad record is rejected."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: set[Place] | None = None
        self._n_bad = 0
        self._newest_s = time.monotonic()
        self._consumer = Consumer(consumer_config(settings, "answers"))
        topic = settings.recommendations_topic
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])

    def complete(self) -> bool:
        """Whether all is answered now; must be asked again and again, once all clicks are sent."""
        if self._open is None:
            clicks, bad = read_clicks(self._settings)
            self._open, self._n_bad = {(click.user[0], click.offset) for click in clicks}, len(bad)
        for message in self._consumer.consume(10_000, 0.5):
            if message.error() is None:
                source = decode_update(message.value()).source
                self._open.discard((source.partition, source.offset))
                self._newest_s = time.monotonic()
        return not self._open and count_records(self._settings, self._settings.rejected_topic) >= self._n_bad

    def quiet_s(self) -> float:
        """How long no update has come."""
        return time.monotonic() - self._newest_s


def _settings(broker: str, folder: Path) -> Settings:
    return Settings(
        broker=broker,
        app="chaos",
        partitions=PARTITIONS,
        bundle_dir=folder / "bundles",
        worker_port=0,
        session_timeout_s=SESSION_TIMEOUT_S,
    )


def _bundles(plan: Plan, store: Path, items: Sequence[str]) -> tuple[list[Manifest], list[Manifest]]:
    """Make the bundles that the schedule announces: each knows another part of the items."""
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
    return good, damaged
