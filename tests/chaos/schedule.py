"""What happens when, as a pure function of a seed: the same seed gives the same steps, on any machine.

An episode is something that begins and ends: a kill and the start after it, a pause and its end. Every run has the
same episodes; the seed decides their order, times, lengths, workers, and which data folders are wiped.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

SLOTS = ("a", "b", "c", "d")  # the workers' names; each has a data folder of its own
FIRST_WORKERS = 3
MIN_WORKERS = 2
TRAINERS = ("trainer-1", "trainer-2")  # of one application, with one click log
SESSION_TIMEOUT_S = 6.0  # the least that a broker takes by default


class Action(StrEnum):
    """What a step does; the value is what the run prints."""

    KILL = "SIGKILL worker"
    TERM = "SIGTERM worker"
    START = "start worker"
    FREEZE = "SIGSTOP worker"
    THAW = "SIGCONT worker"
    FILL_DISK = "fill the disk of worker"
    FREE_DISK = "free the disk of worker"
    STOP_BROKER = "stop the broker"
    START_BROKER = "start the broker"
    PAUSE_BROKER = "SIGSTOP the broker"
    RESUME_BROKER = "SIGCONT the broker"
    SWAP = "announce a bundle"
    CORRUPT = "announce a damaged bundle"
    CANARY = "try a bundle on some users"
    END_CANARY = "try it no more"
    BAD_CLICKS = "send bad clicks"
    GROW = "let the clicks topic grow"
    REPARTITION = "stop the workers and run nextclick repartition"
    STOP_SECOND = "stop the second broker: a partition has no leader"
    START_SECOND = "start the second broker"
    KILL_TRAINER = "SIGKILL trainer"
    START_TRAINER = "start trainer"
    CREATE_ANEW = "create the clicks topic anew"


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One thing that is done.

    Attributes:
        at_s: seconds from the start of the clicks; never earlier, and later when a step before it takes long.
        action: what.
        worker: to which of `SLOTS` or `TRAINERS`; empty for brokers, bundles and clicks.
        wipe: whether the worker starts with an empty data folder.
    """

    at_s: float
    action: Action
    worker: str = ""
    wipe: bool = False

    def __str__(self) -> str:
        return f"{self.action.value} {self.worker}{' with an empty data folder' if self.wipe else ''}".rstrip()


class Amounts(NamedTuple):
    """How many episodes of each kind a run has."""

    kills: int
    terms: int
    joins: int  # and as many leaves
    long_freezes: int  # past the eviction
    short_freezes: int
    broker_stops: int
    broker_pauses: int
    long_outages: int  # stops and pauses of the broker past the session timeout, in turn
    swaps: int
    corrupt_bundles: int
    bad_clicks: int
    full_disks: int
    trainer_kills: int = 0
    growth: bool = False  # and a repartition
    leaderless_s: float = 0.0  # a partition is without a leader for so long
    canary: bool = False  # for most of the run
    created_anew: bool = False  # when all the rest is over and judged


FULL = Amounts(
    kills=12,
    terms=10,
    joins=3,
    long_freezes=2,
    short_freezes=1,
    broker_stops=2,
    broker_pauses=2,
    long_outages=2,
    swaps=5,
    corrupt_bundles=2,
    bad_clicks=5,
    full_disks=3,
    trainer_kills=3,
    growth=True,
    leaderless_s=100.0,
    canary=True,
    created_anew=True,
)
SHORT = Amounts(
    kills=2,
    terms=2,
    joins=1,
    long_freezes=1,
    short_freezes=0,
    broker_stops=1,
    broker_pauses=1,
    long_outages=0,
    swaps=2,
    corrupt_bundles=1,
    bad_clicks=1,
    full_disks=1,
    trainer_kills=1,
    growth=True,
    leaderless_s=8.0,
    canary=True,
    created_anew=True,
)


def make_schedule(seed: int, seconds: float, amounts: Amounts) -> list[Step]:
    """Make the steps of a run, in the order of their times.

    Args:
        seed: decides everything that is not given here.
        seconds: over which the episodes begin; the last may end a little later.
        amounts: of episodes.
    """
    rng = random.Random(seed)
    planner = _Planner(rng)
    kinds = planner.kinds(amounts)
    rng.shuffle(kinds)
    spacing_s = seconds / len(kinds)
    for number, kind in enumerate(kinds):
        kind((number + rng.random()) * spacing_s)
    planner.one_after_another(seconds, amounts)
    if amounts.canary:
        planner.canary(seconds)
    steps = sorted(planner.steps)
    return [*steps, Step(steps[-1].at_s, Action.CREATE_ANEW)] if amounts.created_anew else steps


class _Planner:
    """Keeps track of who is there and until when the broker is away while steps are laid out in time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._joined = list(SLOTS[:FIRST_WORKERS])
        self._busy_until_s = dict.fromkeys(SLOTS, 0.0)
        self._broker_back_s = 0.0
        self.steps: list[Step] = []

    def kinds(self, amounts: Amounts) -> "list[Callable[[float], None]]":
        """One call per episode; each lays its steps out from a time on."""
        stop, pause = (Action.STOP_BROKER, Action.START_BROKER), (Action.PAUSE_BROKER, Action.RESUME_BROKER)
        counted: Sequence[tuple[int, Callable[[float], None]]] = (
            (amounts.kills, lambda at_s: self._restart(Action.KILL, at_s)),
            (amounts.terms, lambda at_s: self._restart(Action.TERM, at_s)),
            (2 * amounts.joins, self._join_or_leave),
            (amounts.long_freezes, lambda at_s: self._freeze(at_s, SESSION_TIMEOUT_S + 2, SESSION_TIMEOUT_S + 6)),
            (amounts.short_freezes, lambda at_s: self._freeze(at_s, 1, 3)),
            (amounts.broker_stops, lambda at_s: self._outage(at_s, stop, 2, 5)),
            (amounts.broker_pauses, lambda at_s: self._outage(at_s, pause, 2, 5)),
            ((amounts.long_outages + 1) // 2, lambda at_s: self._long_outage(at_s, pause)),
            (amounts.long_outages // 2, lambda at_s: self._long_outage(at_s, stop)),
            (amounts.swaps, lambda at_s: self._add(at_s, Action.SWAP)),
            (amounts.corrupt_bundles, lambda at_s: self._add(at_s, Action.CORRUPT)),
            (amounts.bad_clicks, lambda at_s: self._add(at_s, Action.BAD_CLICKS)),
            (amounts.full_disks, self._full_disk),
            (amounts.trainer_kills, self._kill_trainer),
        )
        return [kind for count, kind in counted for _ in range(count)]

    def one_after_another(self, seconds: float, amounts: Amounts) -> None:
        """A growth and the time without a leader, in any order: a repartition needs all leaders."""
        is_growth_first = self._rng.random() < 0.5
        growth_s = seconds * (self._rng.uniform(0.05, 0.15) if is_growth_first else self._rng.uniform(0.7, 0.85))
        leaderless_s = seconds * (self._rng.uniform(0.35, 0.45) if is_growth_first else self._rng.uniform(0.05, 0.1))
        if amounts.growth:
            self._add(growth_s, Action.GROW)
            self._add(growth_s + self._rng.uniform(0, 6), Action.REPARTITION)
        if amounts.leaderless_s:
            self._add(leaderless_s, Action.STOP_SECOND)
            self._add(leaderless_s + amounts.leaderless_s, Action.START_SECOND)

    def canary(self, seconds: float) -> None:
        """A bundle on trial: it begins early, ends, begins again, and answers the backlog that the schedule leaves."""
        self._add(seconds * self._rng.uniform(0.05, 0.15), Action.CANARY)
        self._add(seconds * self._rng.uniform(0.4, 0.5), Action.END_CANARY)
        self._add(seconds * self._rng.uniform(0.6, 0.8), Action.CANARY)

    def _kill_trainer(self, at_s: float) -> None:
        trainer = self._rng.choice(TRAINERS)
        self._add(at_s, Action.KILL_TRAINER, trainer)
        self._add(at_s + self._rng.uniform(0.2, 4), Action.START_TRAINER, trainer)

    def _add(self, at_s: float, action: Action, worker: str = "", *, wipe: bool = False) -> None:
        self.steps.append(Step(round(at_s, 2), action, worker, wipe))

    def _restart(self, action: Action, at_s: float) -> None:
        worker = self._free_worker(at_s)
        back_s = at_s + self._rng.uniform(0.2, 4)
        self._busy_until_s[worker] = back_s
        self._add(at_s, action, worker)
        self._add(back_s, Action.START, worker, wipe=self._rng.random() < 0.4)

    def _join_or_leave(self, at_s: float) -> None:
        away = [slot for slot in SLOTS if slot not in self._joined]
        if away and (len(self._joined) <= MIN_WORKERS or self._rng.random() < 0.5):
            worker = self._rng.choice(away)
            self._joined.append(worker)
            self._add(max(at_s, self._busy_until_s[worker]), Action.START, worker, wipe=self._rng.random() < 0.4)
        else:
            worker = self._free_worker(at_s)
            self._joined.remove(worker)
            self._busy_until_s[worker] = max(at_s, self._busy_until_s[worker]) + 1  # else a start would follow
            self._add(self._busy_until_s[worker], Action.TERM, worker)

    def _freeze(self, at_s: float, least_s: float, most_s: float) -> None:
        self._pair(at_s, least_s, most_s, Action.FREEZE, Action.THAW)

    def _full_disk(self, at_s: float) -> None:
        self._pair(at_s, 3, 6, Action.FILL_DISK, Action.FREE_DISK)

    def _pair(self, at_s: float, least_s: float, most_s: float, begin: Action, end: Action) -> None:
        worker = self._free_worker(at_s)
        end_s = self._busy_until_s[worker] = at_s + self._rng.uniform(least_s, most_s)
        self._add(at_s, begin, worker)
        self._add(end_s, end, worker)

    def _long_outage(self, at_s: float, actions: tuple[Action, Action]) -> None:
        self._outage(at_s, actions, SESSION_TIMEOUT_S + 2, SESSION_TIMEOUT_S + 6)

    def _outage(self, at_s: float, actions: tuple[Action, Action], least_s: float, most_s: float) -> None:
        start_s = max(at_s, self._broker_back_s + 1)
        self._broker_back_s = start_s + self._rng.uniform(least_s, most_s)
        self._add(start_s, actions[0])
        self._add(self._broker_back_s, actions[1])

    def _free_worker(self, at_s: float) -> str:
        """One that has joined; of those to whom nothing else is being done, if there are any."""
        free = [slot for slot in self._joined if self._busy_until_s[slot] <= at_s]
        return self._rng.choice(free or self._joined)
