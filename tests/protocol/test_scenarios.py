"""Single stories of the protocol, in memory: each ends as it must, and within its time."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nextclick.errors import PermanentError, TemporaryError
from stream.protocol.assignment import Assignment, Phase, Superseded
from stream.protocol.chunk_rules import MAX_UNFINISHED_RECORDS
from stream.protocol.publisher import NO_HEADERS, RunResults
from stream.protocol.watchdog import ASK_S, LOOK_S
from tests.protocol.memory_port import ANSWER_S, HEARTBEAT_S
from tests.protocol.simulation import CLICKED_MS, SETTINGS, GrownTopic, OtherTopic, Simulation

STALL_S = SETTINGS.stall_s
CLICKS = SETTINGS.clicks_topic


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """Two partitions and no worker yet; workers are not started again."""
    simulation = Simulation()
    simulation.restarts = False
    yield simulation
    simulation.close()


def _users(simulation: Simulation, partition: int, n: int = 4) -> list[str]:
    """Give users of a partition."""
    found = []
    for number in range(200):
        place, _ = simulation.click(f"s{number}")
        if place == partition and len(found) < n:
            found.append(f"s{number}")
    return found


def test_partitions_that_are_added_while_a_worker_runs_cost_no_click_of_the_old_ones(simulation: Simulation) -> None:
    """The worker refuses the new count with nothing committed that was not answered; all clicks wait."""
    worker = simulation.start("a")
    simulation.advance(5)
    _users(simulation, 0)
    simulation.advance(5)
    simulation.kafka.grow(4)
    for number in range(50):
        simulation.click(f"later{number}")
    simulation.kafka.notice_growth()
    simulation.advance(10)

    assert isinstance(worker.failure, GrownTopic)
    assert simulation.unanswered() == []
    assert simulation.report().violations.keys() <= {"lost", "unanswered"}


@pytest.mark.parametrize("moment_s", [0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.06, 2.5])
@pytest.mark.parametrize("with_disk", [False, True])
def test_a_kill_at_any_moment_leaves_a_record_applied_with_all_its_clicks_or_with_none(
    simulation: Simulation, moment_s: float, with_disk: bool
) -> None:
    """Also of a record that is read again; each of its clicks is applied once, and a retry in it is passed over."""
    simulation.restarts = True
    simulation.start("a")
    simulation.advance(5)
    simulation.click("u")
    simulation.record("u", ["e1", "e2", "e1", None])
    simulation.record("u", ["e2", "e3"])
    simulation.click("u")
    simulation.advance(moment_s)
    simulation.kill("a", with_disk=with_disk)
    simulation.advance(60)
    evidence = simulation.evidence()
    sequences = [state.sequence for _, state in evidence.states]

    assert simulation.report().violations == {}
    assert sequences[-1] == 6
    assert set(sequences) <= {1, 4, 5, 6}
    assert max(update.sequence for update in evidence.updates) == 6


def test_a_user_who_has_moved_between_old_partitions_is_not_rejected(simulation: Simulation) -> None:
    """Before a click is rejected for its partition, the broker is asked whether the topic has grown."""
    worker = simulation.start("a")
    simulation.advance(5)
    simulation.kafka.grow(3)
    for number in range(50):
        simulation.click(f"moved{number}")  # some stand in old partitions where the old count would not have them
    simulation.advance(5)

    assert isinstance(worker.failure, GrownTopic)
    assert simulation.report().violations.keys() <= {"lost", "unanswered"}  # no dead letter of a click that waits


@pytest.mark.parametrize("n_workers", [1, 2], ids=["without a standby", "with a standby"])
@pytest.mark.parametrize("method", ["restore", "places", "seek", "resume"])
def test_a_hang_on_the_way_to_serving_ends_the_worker_in_time(
    simulation: Simulation, method: str, n_workers: int
) -> None:
    """Whether or not it follows the changelog of another one's partitions meanwhile."""
    for name in "ab"[:n_workers]:
        simulation.start(name)
    simulation.advance(5)
    hanging = simulation.workers["a"]
    hanging.port.hanging.add(method)
    simulation.kafka.notice_growth()  # the group forms anew
    simulation.advance(2 * STALL_S + 3 * LOOK_S + ANSWER_S)

    assert isinstance(hanging.failure, TemporaryError)
    assert "start it again" in str(hanging.failure)


def test_a_commit_that_never_ends_ends_the_worker_in_time(simulation: Simulation) -> None:
    """While it serves: nothing that was answered is lost, and the next process commits it."""
    worker = simulation.start("a")
    simulation.advance(5)
    worker.port.hanging.add("commit")
    _users(simulation, 0)
    simulation.advance(2 * STALL_S + 3 * LOOK_S + ANSWER_S)

    assert isinstance(worker.failure, TemporaryError)
    assert "stands still" in str(worker.failure)


def test_a_changelog_whose_end_is_not_reached_is_said_as_such(simulation: Simulation) -> None:
    """The store is built again, and the second attempt has its time, too, before the watchdog loses its patience."""
    log = simulation.kafka.log(SETTINGS.changelog_topic, 0)
    log.open_from = log.end  # a transaction that was never finished
    simulation.kafka.append(SETTINGS.changelog_topic, 0, [(b"u", b"state", ())])
    worker = simulation.start("a")
    worker.port.delay_s = 3.0  # a slow broker: each attempt takes longer than `stall_s`
    simulation.advance(4 * STALL_S)

    assert isinstance(worker.failure, TemporaryError)
    assert "could not be restored" in str(worker.failure)


def test_a_partition_without_a_leader_does_not_hide_a_commit_that_never_ends(simulation: Simulation) -> None:
    """The others' ends are known: one of them stands still."""
    worker = simulation.start("a")
    simulation.advance(5)
    simulation.kafka.log(CLICKS, 0).has_leader = False
    worker.port.hanging.add("commit")
    _users(simulation, 1)
    simulation.advance(2 * STALL_S + 3 * LOOK_S + 2 * ANSWER_S)

    assert isinstance(worker.failure, TemporaryError)
    assert f"partition 1 of {CLICKS} stands still" in str(worker.failure)


def test_a_heartbeat_that_never_ends_ends_the_worker_in_time(simulation: Simulation) -> None:
    """Without a lease nothing leaves, and the partitions are another one's by then."""
    worker = simulation.start("a")
    simulation.advance(5)
    worker.port.hanging.add("heartbeat")
    simulation.advance(SETTINGS.session_timeout_s + 2 * STALL_S + 3 * LOOK_S + ANSWER_S)

    assert isinstance(worker.failure, TemporaryError)
    assert "no heartbeat" in str(worker.failure)


def test_a_worker_that_was_given_up_has_time_to_join_again(simulation: Simulation) -> None:
    """The coordinator does not know it any more, and the group takes its time to form."""
    worker = simulation.start("a")
    simulation.advance(5 * STALL_S)
    worker.assignments.current.lease.void(simulation.clock.now_s)
    worker.port.hanging.add("heartbeat")
    simulation.advance(STALL_S)
    early = worker.failure
    simulation.advance(STALL_S + 3 * LOOK_S + ANSWER_S)

    assert early is None
    assert "no heartbeat" in str(worker.failure)


def test_a_worker_that_was_paused_for_long_joins_again(simulation: Simulation) -> None:
    """The time in which it did not run is no standstill."""
    worker = simulation.start("a")
    simulation.advance(5)
    _users(simulation, 0)
    worker.is_paused = True
    simulation.advance(5 * STALL_S)
    worker.is_paused = False
    worker.port.delay_s = 2.0  # the watchdog looks before the first answer
    simulation.advance(30)

    assert worker.failure is None
    assert worker.assignments.current.serves


def test_questions_that_never_end_do_not_hide_the_lost_lease(simulation: Simulation) -> None:
    """The thread of the client hangs: the port's answer is bounded, and the lease is looked at next."""
    worker = simulation.start("a")
    simulation.advance(5)
    worker.port.hanging |= {"ends", "heartbeat"}
    simulation.advance(SETTINGS.session_timeout_s + 2 * STALL_S + 5 * LOOK_S + 3 * ANSWER_S)

    assert isinstance(worker.failure, TemporaryError)
    assert "no heartbeat" in str(worker.failure)


@pytest.mark.parametrize("moment_s", [0.01 * step for step in range(12)])
def test_a_stop_in_the_middle_of_a_rebalance_finishes_what_was_begun(simulation: Simulation, moment_s: float) -> None:
    """Both give partitions back: the second waits for the first."""
    worker = simulation.start("a")
    worker.port.delay_s = 0.05
    simulation.advance(HEARTBEAT_S + 0.1)
    for number in range(40):
        simulation.click(f"u{number}")
    simulation.advance(0.02)
    worker.loop.call_soon(lambda: worker.tasks.append(worker.loop.create_task(worker.membership.revoked())))
    simulation.advance(moment_s)
    simulation.stop("a")
    simulation.advance(5)
    simulation.start("b")
    simulation.advance(30)
    report = simulation.report()

    assert report.violations == {}
    assert (report.answered_by_later, report.repeated_updates) == (0, 0)


def test_a_failure_while_partitions_are_given_back_ends_the_worker(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clients' library logs what a listener raises, and goes on: nothing of the assignment may go on with it."""
    worker = simulation.start("a")
    simulation.advance(5)
    assignment = worker.assignments.current
    _users(simulation, 0)

    async def refused(*arguments: object) -> None:
        raise PermissionError("no right to the group")

    monkeypatch.setattr(worker.publisher, "drain", refused)
    simulation.kafka.notice_growth()  # the group forms anew
    simulation.advance(2 * HEARTBEAT_S)

    assert isinstance(worker.failure, PermissionError)
    assert assignment.is_over


def test_a_topic_that_is_created_anew_while_a_worker_sleeps_is_refused(simulation: Simulation) -> None:
    """Also when it has outgrown the place where the worker was: clicks would be taken for known, or never be read."""
    worker = simulation.start("a")
    simulation.advance(5)
    _users(simulation, 0)
    simulation.advance(5)
    worker.is_paused = True
    updates = simulation.kafka.log(SETTINGS.recommendations_topic, 0).end
    simulation.advance(2 * SETTINGS.session_timeout_s)
    simulation.kafka.create_anew()
    for _ in range(3):
        _users(simulation, 0)
    worker.is_paused = False
    simulation.advance(10)

    assert isinstance(worker.failure, OtherTopic)
    assert simulation.kafka.log(SETTINGS.recommendations_topic, 0).end == updates
    assert simulation.kafka.committed == {}


def test_a_topic_that_is_created_anew_under_a_running_worker_ends_it_in_seconds(simulation: Simulation) -> None:
    """However fast it grows past the place where the worker was."""
    worker = simulation.start("a")
    simulation.advance(5)
    _users(simulation, 0)
    simulation.advance(5)
    updates = simulation.kafka.log(SETTINGS.recommendations_topic, 0).end
    simulation.kafka.create_anew()
    for _ in range(3):
        _users(simulation, 0)
    simulation.advance(ASK_S + 2 * LOOK_S)

    assert isinstance(worker.failure, OtherTopic)
    assert simulation.kafka.log(SETTINGS.recommendations_topic, 0).end == updates
    assert simulation.kafka.committed == {}


def test_a_topic_that_is_created_anew_is_noticed_also_when_the_client_missed_the_moment(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog asks by itself, every few seconds."""
    worker = simulation.start("a")
    simulation.advance(5)
    monkeypatch.setattr(worker.port, "doubts_topic", lambda: False)
    simulation.kafka.create_anew()
    simulation.advance(ASK_S + 2 * LOOK_S)

    assert isinstance(worker.failure, OtherTopic)


def test_a_topic_that_has_grown_is_refused_before_anything_is_restored(simulation: Simulation) -> None:
    """A recovery can take minutes, and hang."""
    simulation.kafka.grow(4)
    worker = simulation.start("a")
    worker.port.hanging.add("restore")
    simulation.advance(5)

    assert isinstance(worker.failure, GrownTopic)


def test_nothing_is_published_while_partitions_are_given_back(simulation: Simulation) -> None:
    """The drain may be over by then: a chunk that begins could end half sent."""
    worker = simulation.start("a")
    simulation.advance(5)
    assignment = worker.assignments.current
    assignment.enter(Phase.DRAINING, simulation.clock.now_s)
    publishing = worker.loop.create_task(
        worker.publisher.publish(assignment, [RunResults(0, 0, 1, {b"u": b"state"})], lambda: None)
    )
    simulation.advance(1)

    assert isinstance(publishing.exception(), Superseded)
    assert simulation.kafka.log(SETTINGS.changelog_topic, 0).end == 0


def test_a_chunk_that_waits_for_room_learns_that_its_assignment_has_ended(simulation: Simulation) -> None:
    """It would hold up those of the next one for as long as a broker hangs."""
    worker = simulation.start("a")
    simulation.advance(5)
    assignment = worker.assignments.current
    assignment.room.take(MAX_UNFINISHED_RECORDS)
    updates = [(b"u", b"update", NO_HEADERS)]
    publishing = worker.loop.create_task(
        worker.publisher.publish(assignment, [RunResults(0, 0, 1, {b"u": b"state"}, updates)], lambda: None)
    )
    simulation.advance(1)
    waited = not publishing.done()
    worker.assignments.end_current(simulation.clock.now_s)
    simulation.advance(1)

    assert waited
    assert isinstance(publishing.exception(), Superseded)


@pytest.mark.parametrize("moment_s", [0.005 * step for step in range(20)])
def test_partitions_that_are_given_back_leave_no_chunk_half_sent(simulation: Simulation, moment_s: float) -> None:
    """At whatever moment: else the next owner finds states whose updates were never sent."""
    simulation.start("a")
    simulation.advance(HEARTBEAT_S - 0.05)  # the next heartbeat tells that the group forms anew
    for number in range(40):
        simulation.click(f"u{number}")
    simulation.kafka.notice_growth()
    simulation.advance(moment_s)
    for number in range(40):
        simulation.click(f"v{number}")
    simulation.advance(20)
    report = simulation.report()

    assert report.violations == {}
    assert (report.answered_by_later, report.repeated_updates) == (0, 0)


def test_a_watchdog_that_breaks_ends_the_worker(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that another version has renamed raises in the port: the guard is not switched off by it."""
    worker = simulation.start("a")
    simulation.advance(5)

    async def renamed(assignment: Assignment) -> None:
        raise AttributeError("no such hook")

    monkeypatch.setattr(worker.port, "ends", renamed)
    simulation.advance(10)

    assert isinstance(worker.failure, AttributeError)


def test_an_application_that_begins_at_the_end_serves_nothing_before_that_place_is_committed() -> None:
    """Else a crash would let it begin at a later end: the clicks between them would be lost."""
    simulation = Simulation(settings=replace(SETTINGS, start="latest"))
    simulation.restarts = False
    _users(simulation, 0)
    worker = simulation.start("a")
    worker.port.failing_commits = 3
    simulation.advance(1.0)
    while_refused = worker.assignments.current.phase, dict(simulation.kafka.committed)
    simulation.advance(5.0)

    assert while_refused == (Phase.SEEKING, {})
    assert worker.assignments.current.serves
    assert simulation.kafka.committed[0] == simulation.kafka.log(CLICKS, 0).end
    simulation.close()


def test_a_broker_that_is_away_is_waited_for_in_every_phase(simulation: Simulation) -> None:
    """However long: nothing stands still that could move."""
    worker = simulation.start("a")
    simulation.kafka.is_away = True
    simulation.advance(10 * STALL_S)
    joining = worker.failure, worker.assignments.current.phase
    simulation.kafka.is_away = False
    simulation.kafka.wake()
    simulation.advance(10)
    _users(simulation, 0)
    simulation.kafka.is_away = True
    simulation.advance(10 * STALL_S)
    simulation.kafka.is_away = False
    simulation.kafka.wake()
    simulation.advance(30)

    assert joining == (None, Phase.JOINING)
    assert worker.failure is None
    assert simulation.report().violations == {}


def test_a_partition_without_a_leader_is_waited_for(simulation: Simulation) -> None:
    """For longer than `stall_s`; the other partitions are served meanwhile."""
    worker = simulation.start("a")
    simulation.advance(5)
    simulation.kafka.log(CLICKS, 0).has_leader = False
    _users(simulation, 0)
    simulation.advance(5 * STALL_S)
    during = simulation.kafka.committed[1], simulation.kafka.log(CLICKS, 1).end
    simulation.kafka.log(CLICKS, 0).has_leader = True
    simulation.kafka.wake()
    simulation.advance(10)

    assert worker.failure is None
    assert during[0] == during[1]
    assert simulation.report().violations == {}


def test_clicks_that_retention_takes_in_front_of_a_running_worker_are_named_and_counted(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    """One error line with the range, a counter, and the rest is answered."""
    worker = simulation.start("a")
    simulation.advance(5)
    simulation.kafka.log(CLICKS, 0).has_leader = False  # so that the worker does not get them
    users = _users(simulation, 0, 6)
    log = simulation.kafka.log(CLICKS, 0)
    log.first = log.end - 2
    log.has_leader = True
    with caplog.at_level(logging.ERROR):
        simulation.kafka.wake()
        simulation.advance(20)

    assert users
    assert worker.failure is None
    assert worker.lost == log.first
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if f"offsets 0 to {log.first - 1} of {CLICKS}, partition 0" in line] == lines
    assert simulation.kafka.committed[0] == log.end


def test_a_log_that_goes_back_ends_the_worker(simulation: Simulation) -> None:
    """The broker has lost records that were read: new ones would be taken for known."""
    worker = simulation.start("a")
    simulation.advance(5)
    _users(simulation, 0)
    simulation.advance(5)
    del simulation.kafka.log(CLICKS, 0).entries[3:]
    simulation.advance(10)

    assert isinstance(worker.failure, TemporaryError)
    assert "has lost clicks" in str(worker.failure)


def test_too_many_rejects_stop_the_worker_after_their_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every start: the error points to the topic, so they are there."""
    monkeypatch.setattr("stream.agent.REJECT_SHARE_RECORDS", 10)
    simulation = Simulation(settings=replace(SETTINGS, max_reject_share=0.5))
    simulation.restarts = False
    for _ in range(12):
        simulation.send_garbage(0)
    for start in (1, 2):
        worker = simulation.start("a")
        simulation.advance(20)
        letters = simulation.kafka.log(SETTINGS.rejected_topic, 0).end

        assert isinstance(worker.failure, PermanentError)
        assert letters >= 10 * start
    simulation.close()


def test_a_paused_worker_that_wakes_up_after_its_eviction_changes_nothing(simulation: Simulation) -> None:
    """Its batches are dropped with the lease; the newest states are the other worker's."""
    for name in "ab":
        simulation.start(name)
    simulation.advance(5)
    simulation.workers["a"].is_paused = True
    _users(simulation, 0)
    simulation.advance(3 * SETTINGS.session_timeout_s)
    report_before = simulation.report()
    simulation.workers["a"].is_paused = False
    simulation.advance(30)
    report = simulation.report()

    assert report_before.violations == report.violations == {}
    assert report.updates == report_before.updates
    assert report.late_states == 0
    assert simulation.workers["a"].assignments.current.serves


def test_one_client_and_one_clock_do_not_choose_the_list_of_new_users(simulation: Simulation) -> None:
    """Popularity counts who clicks, at the time of now at most: clocks that go 20 hours fast are taken for right."""
    worker = simulation.start("a")
    simulation.advance(5)
    now_ms = int(time.time() * 1000)
    simulation.click("fast", "of a fast clock", now_ms + 20 * 3_600_000)
    for number in range(50):
        simulation.click("crawler", "of a crawler", now_ms)
        if number < 3:
            simulation.click(f"visitor-{number}", "of visitors", now_ms)
    simulation.advance(5)

    shown = json.loads(bytes(worker.agent._popularity.ranked(3).items))
    assert shown[0]["item_id"] == "of visitors"
    assert shown[0]["score"] == pytest.approx(3 / 5, abs=0.01)


def test_what_is_not_answered_is_known_at_every_moment(simulation: Simulation) -> None:
    """Clicks that are on their way, clicks that nobody reads, and none once all are answered."""
    worker = simulation.start("a")
    simulation.advance(5)
    user = _users(simulation, 0, 1)[0]
    simulation.advance(10)
    partition = worker.assignments.current.partitions[0]
    backlog = partition.backlog

    assert backlog.lag(partition.position, partition.acknowledged) == 0
    assert backlog.oldest_age_s(partition.position, worker.port.now_s(), CLICKED_MS) == 0.0
    worker.port.delay_s = 4.0  # there and back
    for _ in range(3):
        simulation.click(user)
    simulation.advance(ASK_S + 2 * LOOK_S)
    assert backlog.lag(partition.position, partition.acknowledged) == 3
    clicked = simulation.kafka.log(CLICKS, 0).records(0, 10_000)[-1].timestamp
    assert backlog._runs[-1] == (partition.position, clicked, clicked)
    worker.port.delay_s = 0.01
    simulation.advance(20)
    assert backlog.lag(partition.position, partition.acknowledged) == 0
    worker.port.hanging.add("fetch")
    simulation.click(user)  # brought by the fetch that is waiting for it; none comes back after that
    simulation.advance(ASK_S)
    assert backlog.lag(partition.position, partition.acknowledged) == 0
    simulation.click(user)
    simulation.advance(2 * ASK_S)
    simulation.click(user)
    simulation.advance(ASK_S + LOOK_S)
    assert backlog.lag(partition.position, partition.acknowledged) == 2
    age_s = 3 * ASK_S + LOOK_S  # of the second, the first that nobody has read
    assert age_s <= backlog.oldest_age_s(partition.position, worker.port.now_s(), CLICKED_MS) <= age_s + ASK_S


def test_a_broker_that_goes_away_and_comes_back_is_noticed_while_states_are_restored(simulation: Simulation) -> None:
    """Long before a recovery is in doubt, which takes minutes at times."""
    worker = simulation.start("a")
    worker.port.hanging.add("restore")
    simulation.advance(5)
    simulation.kafka.is_away = True
    simulation.advance(ASK_S + ANSWER_S + LOOK_S)
    while_away = worker.watchdog.hears_broker
    simulation.kafka.is_away = False
    simulation.kafka.wake()
    simulation.advance(ASK_S + ANSWER_S + LOOK_S)

    assert worker.assignments.current.phase is Phase.RESTORING
    assert not while_away
    assert worker.watchdog.hears_broker
    assert worker.failure is None


def test_assignments_and_lost_leases_are_counted(simulation: Simulation) -> None:
    """A lease that is lost once counts once, however long the broker is away."""
    worker = simulation.start("a")
    simulation.advance(5)
    restored: list[float] = []
    worker.membership.on_restored = restored.append

    assert (worker.assignments.n_given, worker.watchdog.n_leases_lost) == (1, 0)
    simulation.kafka.is_away = True
    simulation.advance(15)
    assert not worker.watchdog.hears_broker
    simulation.advance(15)
    assert worker.watchdog.n_leases_lost == 1
    simulation.kafka.is_away = False
    simulation.kafka.wake()
    simulation.advance(15)
    simulation.kafka.leave("a")
    simulation.advance(15)
    assert worker.watchdog.hears_broker
    assert worker.assignments.n_given >= 2
    assert len(restored) == worker.assignments.n_given - 1
