"""A damaged bundle, forced in as a canary: after how many clicks the trainer has rolled it back by itself.

On a broker, with two workers, and a trainer that judges what they count. The damaged bundle has the champion's vectors,
each at another item. Users are simulated, and click the same whatever is listed.

    python -m bench --only canary
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import click
from confluent_kafka import Producer

from bench import measure
from bench.backlog import UpdateCounter
from bench.programs import ProgramStuckError, RunningProgram, python, running
from demo.simulator import Law, Simulator
from nextclick.manifest import Manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from tests.damaged_bundles import with_shuffled_vectors
from tools.client_config import producer_config
from training.service.operator import Operator, Trial

SHARE = 0.1  # of the users
LAW = Law(groups=20, items_per_group=20, active_users=500, resting_users=1_500)
TRAINED_CLICKS = 20_000  # that the champion has learnt
CLICKS_PER_S = 500  # what comes between a worker's count and the trainer's decision, 2 to 3 s, is counted, too
MOST_CLICKS = 30_000
_JUDGE = ("-c", "from cli.main import main; main()", "train", "--set", "min_clicks=1000000000")
_AT_ONCE = 50
_LOOK_S = 1.0
_DEADLINE_S = 120.0


class RolledBack(NamedTuple):
    """The end of a canary.

    Attributes:
        n_clicks: of all users, from its beginning until the topic said that it was over.
        is_over: whether it was; else as many clicks were not enough.
        reason: what the trainer says of it.
    """

    n_clicks: int
    is_over: bool
    reason: str


class Shop:
    """Simulated users, workers that answer them, and what a person does to the models."""

    def __init__(self, settings: Settings) -> None:
        """Begin with nobody; topics must be there."""
        self.operator = Operator(settings)
        self._settings = settings
        self._users, self._schema = Simulator(LAW, 0), ClickSchema.of(settings)
        self._producer = Producer(producer_config(settings) | {"linger.ms": 5})
        self._counter = UpdateCounter(settings)
        self._n_sent = 0

    def send(self, count: int) -> None:
        """Let users click."""
        for each in self._users.next_clicks(int(time.time() * 1000), count):
            value = encode_click(self._schema, each.user_id, each.item_id, each.timestamp_ms).value
            self._producer.produce(self._settings.clicks_topic, value, each.user_id.encode())
        self._producer.flush()
        self._n_sent += count

    def is_answered(self) -> bool:
        """Whether every click has its update."""
        return self._counter.count() >= self._n_sent

    def try_out(self, manifest: Manifest, workers: Sequence[RunningProgram]) -> RolledBack:
        """Let a bundle be a canary until the trainer ends it, or for so many clicks."""
        begun = [worker.output().count(_BEGUN) for worker in workers]
        self.operator.try_out(manifest, Trial("canary", SHARE, "not_worse", 10 * MOST_CLICKS))
        for worker, n_begun in zip(workers, begun, strict=True):
            wait_for(lambda w=worker, n=n_begun: w.output().count(_BEGUN) > n, "the canary", workers)  # type: ignore[misc]
        began_s, looked_s, n_clicks = time.monotonic(), time.monotonic(), 0
        while n_clicks < MOST_CLICKS:
            while n_clicks < CLICKS_PER_S * (time.monotonic() - began_s):
                self.send(_AT_ONCE)
                n_clicks += _AT_ONCE
            if time.monotonic() > looked_s + _LOOK_S:
                looked_s, state = time.monotonic(), self.operator.state()
                if state.experiment is None:
                    return RolledBack(n_clicks, True, state.history[-1].reason)
            time.sleep(0.02)
        self.operator.stop()
        return RolledBack(n_clicks, False, "")


_BEGUN = "a bundle is on trial"


def wait_for(condition: Callable[[], bool], what: str, programs: Sequence[RunningProgram]) -> None:
    """Return when a condition holds.

    Raises:
        ProgramDiedError: a program ended meanwhile.
        ProgramStuckError: it does not hold in time.
    """
    end_s = time.monotonic() + _DEADLINE_S
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > end_s:
            raise ProgramStuckError(f"waited for {what}; the last that a program printed:\n{programs[0].tail()}")
        time.sleep(0.1)


def report(broker: str, *, quick: bool) -> None:
    """Print after how many clicks a damaged canary is rolled back."""
    with measure.own_topics(broker) as settings, ExitStack() as programs:
        shop = Shop(settings)
        shop.send(TRAINED_CLICKS)
        with running(settings, python(*measure.TRAINER_ONCE)) as trainer:
            trainer.wait()
        champion = shop.operator.state().champion
        assert champion is not None  # else the trainer would have failed
        damaged = with_shuffled_vectors(settings.bundle_dir, champion)
        commands = [
            (replace(settings, data_dir=settings.data_dir / name), measure.WORKER) for name in ("first", "second")
        ]
        workers = [programs.enter_context(running(own, python(*command))) for own, command in commands]
        judge = programs.enter_context(running(settings, python(*_JUDGE)))
        wait_for(shop.is_answered, "the first answers", workers)
        wait_for(lambda: "logging clicks" in judge.output(), "the trainer", [judge])
        click.echo(
            f"\na canary with shuffled vectors for {SHARE:.0%} of the users; {champion.metrics['predictions']:.0f} "
            f"clicks judged the champion, {CLICKS_PER_S} clicks/s, two workers"
        )
        for number in range(1 if quick else 4):
            found = shop.try_out(damaged, workers)
            click.echo(f"  {number + 1}: {_in_words(found)}")


def _in_words(found: RolledBack) -> str:
    if not found.is_over:
        return f"not within {found.n_clicks:,} clicks of all users"
    return f"rolled back after {found.n_clicks:,} clicks of all users; {found.reason}"
