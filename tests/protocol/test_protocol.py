"""The whole protocol of a worker, in thousands of orders of events: the laws are those of the chaos suite."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import stream.protocol.watchdog as watchdog_module
from stream.agent import ClickAgent
from stream.protocol.assignment import Partition
from stream.protocol.topic_check import TopicCheck
from stream.protocol.watchdog import Watchdog
from tests.protocol.simulation import SETTINGS, GrownTopic, Simulation

USERS = ("u0", "u1", "u3", "u9", "u17", "u23")
WORKERS = ("a", "b")
HEALING_S = 150.0  # in which everything comes to rest: a session, a standstill, a restart, a session
INTERLEAVINGS = settings(
    max_examples=2_000,  # at most, where one that does harm is looked for
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
UNTIL_FOUND = settings(INTERLEAVINGS, phases=[Phase.generate], report_multiple_bugs=False)
NOT_ANSWERED = "committed and not answered"


@pytest.fixture(autouse=True)
def _seldom_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The watchdog looks every 5 s: each look is work, and `stall_s` is 20. What is logged is work too."""
    monkeypatch.setattr(watchdog_module, "LOOK_S", 5.0)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


class Protocol(RuleBasedStateMachine):
    """Two workers, two partitions with a standby each, and whatever can happen to them."""

    @initialize(head_start=st.sampled_from([0.0, 5.0]))
    def begin(self, head_start: float) -> None:
        self.simulation = Simulation()
        self.is_hanging = False
        for name in WORKERS:
            self.simulation.start(name)
        self.simulation.advance(head_start)

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, max_size=8))
    def click(self, users: list[str]) -> None:
        for user in users:
            self.simulation.click(user)

    @rule(
        user=st.sampled_from(USERS),
        event_ids=st.lists(st.sampled_from([None, "e1", "e2"]), min_size=1, max_size=3),
    )
    def record_of_several_clicks(self, user: str, event_ids: list[str | None]) -> None:
        self.simulation.record(user, event_ids)

    @rule(seconds=st.sampled_from([0.005, 0.02, 0.5, 3.0, 12.0]))
    def wait(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    @rule(partition=st.sampled_from([0, 1]))
    def unusable_records(self, partition: int) -> None:
        self.simulation.send_garbage(partition)
        self.simulation.kafka.append_marker(SETTINGS.clicks_topic, partition)

    @rule(name=st.sampled_from(WORKERS), with_disk=st.booleans())
    def kill(self, name: str, with_disk: bool) -> None:
        if name in self.simulation.workers:
            self.simulation.kill(name, with_disk=with_disk)

    @rule(name=st.sampled_from(WORKERS))
    def stop(self, name: str) -> None:
        worker = self.simulation.workers.get(name)
        if worker is not None and worker.runs:
            self.simulation.stop(name)

    @rule(name=st.sampled_from(WORKERS), is_paused=st.booleans())
    def pause(self, name: str, is_paused: bool) -> None:
        if name in self.simulation.workers:
            self.simulation.workers[name].is_paused = is_paused

    @rule(name=st.sampled_from(WORKERS), delay_s=st.sampled_from([0.01, 2.0, 12.0]))
    def network(self, name: str, delay_s: float) -> None:
        if name in self.simulation.workers:
            self.simulation.workers[name].port.delay_s = delay_s

    @rule(name=st.sampled_from(WORKERS), n=st.sampled_from([1, 3]))
    def failing_commits(self, name: str, n: int) -> None:
        if name in self.simulation.workers:
            self.simulation.workers[name].port.failing_commits = n

    @rule(name=st.sampled_from(WORKERS), method=st.sampled_from(["restore", "places", "seek", "resume", "commit"]))
    def hang(self, name: str, method: str) -> None:
        if name in self.simulation.workers:
            self.simulation.workers[name].port.hanging.add(method)

    @rule(is_away=st.booleans())
    def broker(self, is_away: bool) -> None:
        self.simulation.kafka.is_away = is_away
        self.simulation.kafka.wake()

    @rule(
        topic=st.sampled_from([SETTINGS.clicks_topic, SETTINGS.changelog_topic, SETTINGS.recommendations_topic]),
        partition=st.sampled_from([0, 1]),
        has_leader=st.booleans(),
    )
    def leader(self, topic: str, partition: int, has_leader: bool) -> None:
        self.simulation.kafka.log(topic, partition).has_leader = has_leader
        self.simulation.kafka.wake()

    @rule()
    def rebalance(self) -> None:
        self.simulation.kafka.turn += 1
        self.simulation.kafka.notice_growth()

    @precondition(lambda self: self.simulation.kafka.n_partitions == 2)
    @rule(n_partitions=st.sampled_from([3, 4]))
    def grow(self, n_partitions: int) -> None:
        self.simulation.kafka.grow(n_partitions)

    @invariant()
    def nothing_is_committed_that_was_not_answered(self) -> None:
        if hasattr(self, "simulation"):
            assert self.simulation.unanswered() == [], NOT_ANSWERED

    def teardown(self) -> None:
        if not hasattr(self, "simulation"):
            return
        simulation = self.simulation
        self._heal()
        try:
            end_s = simulation.clock.now_s + HEALING_S
            while simulation.clock.now_s < end_s and not self._is_over:
                simulation.advance(5.0)
                simulation.kafka.check_sessions()
            self._judge()
        finally:
            simulation.close()

    def _judge(self) -> None:
        simulation = self.simulation
        assert simulation.unanswered() == [], NOT_ANSWERED
        assert simulation.unexpected == []
        violations = simulation.report().violations
        if simulation.kafka.n_partitions == simulation.n_partitions:
            assert violations == {}
        else:  # clicks wait for a repartition, and every worker has refused to go on without one
            assert violations.keys() <= {"lost", "unanswered", "missing_rejects"}
            assert self._is_over
            assert simulation.workers == {}

    @property
    def _is_over(self) -> bool:
        if self.simulation.kafka.n_partitions != self.simulation.n_partitions:
            refused = [error for error in self.simulation.failures if isinstance(error, GrownTopic)]
            return len(refused) == len(WORKERS)
        return len(self.simulation.workers) == len(WORKERS) and self.simulation.is_at_rest

    def _heal(self) -> None:
        simulation = self.simulation
        simulation.kafka.is_away = False
        for log in simulation.kafka.logs.values():
            log.has_leader = True
        for worker in simulation.workers.values():
            worker.is_paused = False
            worker.port.delay_s = 0.01
            worker.port.failing_commits = 0
        if simulation.kafka.n_partitions != simulation.n_partitions:
            simulation.kafka.notice_growth()
        simulation.kafka.wake()


@pytest.mark.parametrize("orders", [500, pytest.param(4_000, marks=[pytest.mark.release, pytest.mark.timeout(900)])])
def test_no_order_of_events_loses_doubles_or_leaves_a_click_unanswered(orders: int) -> None:
    """Kills, pauses past the eviction, late deliveries, failed commits, hangs, rebalances, growth, leaders away."""
    run_state_machine_as_test(Protocol, settings=settings(INTERLEAVINGS, max_examples=orders))


class UnnoticedGrowth(Protocol):
    """Judges only whether a click was committed and not answered: nobody notices here that the topic has grown."""

    def _judge(self) -> None:
        assert self.simulation.unanswered() == [], NOT_ANSWERED


def test_the_search_finds_dropped_chunks_of_a_grown_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mends taken out: nobody asks for the count, a chunk with a foreign run is dropped, commits jump."""

    async def no_question(self: TopicCheck) -> None:
        """As if the count never changed."""

    process = ClickAgent.process

    async def filtering(self: ClickAgent, chunk: Any) -> None:
        if all(number < self._n_partitions for number in chunk.runs):
            await process(self, chunk)
        else:
            chunk.assignment.chunk_taken()

    def jumping(self: Partition, first: int, end: int) -> None:
        self.acknowledged = end

    monkeypatch.setattr(TopicCheck, "ask", no_question)
    monkeypatch.setattr(ClickAgent, "process", filtering)
    monkeypatch.setattr(Partition, "acknowledge", jumping)

    with pytest.raises(AssertionError, match=NOT_ANSWERED):
        run_state_machine_as_test(UnnoticedGrowth, settings=UNTIL_FOUND)


def test_the_search_finds_a_hang_that_a_standby_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mend taken out: a follower of the changelog counts as a recovery that moves."""
    look = Watchdog._look_at_phase

    async def misled(self: Watchdog, assignment: Any) -> None:
        if not assignment.standby:
            await look(self, assignment)

    monkeypatch.setattr(Watchdog, "_look_at_phase", misled)

    with pytest.raises(AssertionError, match=r"unanswered|missing_rejects"):
        run_state_machine_as_test(Protocol, settings=UNTIL_FOUND)
