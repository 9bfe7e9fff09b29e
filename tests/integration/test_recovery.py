"""How user states come back: from any changelog, damaged stores, late writes; and what a recovery refuses."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.hashing import partition_of
from nextclick.user_state import UserState, decode_state, encode_state
from tests.integration.test_stream import worker_port
from tests.scrapes import scrape
from tests.simulated_clicks import NOW_MS, simulated
from tools.client_config import librdkafka_config, producer_config

STOP_S = 5.0


def state(playground: Any, user: str, offset: int, sequence: int) -> tuple[int, bytes]:
    """The partition of a user, and a state that is right there."""
    partition = partition_of(user.encode(), playground.settings.partitions, playground.settings.partitioner)
    return partition, encode_state(UserState(0, sequence, partition, offset, NOW_MS, b"", b"", b"", 0))


def write_changelog(playground: Any, *records: tuple[int, str, bytes]) -> None:
    """Append (partition, user, value) to the changelog."""
    producer = Producer(producer_config(playground.settings))
    for partition, user, value in records:
        producer.produce(playground.settings.changelog_topic, value, user.encode(), partition=partition)
    assert producer.flush(10) == 0


@contextlib.contextmanager
def open_transaction(playground: Any, *records: tuple[int, str, bytes]) -> Iterator[Producer]:
    """Append records to the changelog in a transaction that is still open."""
    config = producer_config(playground.settings) | {"transactional.id": playground.settings.app}
    producer = Producer(config)
    producer.init_transactions(10)
    producer.begin_transaction()
    for partition, user, value in records:
        producer.produce(playground.settings.changelog_topic, value, user.encode(), partition=partition)
    producer.flush(10)
    yield producer


def newest(playground: Any, user: str) -> UserState:
    """What the changelog ends with for a user."""
    values = [m.value() for m in playground.read(playground.settings.changelog_topic) if m.key() == user.encode()]
    return decode_state(values[-1])


def start_with_clicks(playground: Any, count: int, **environment: str) -> Any:
    """A worker that has answered some clicks."""
    worker = playground.worker(**environment)
    playground.send(simulated(count))
    playground.wait_until_answered()
    return worker


def local_store(playground: Any, partition: int) -> Path:
    """The folder of a partition's RocksDB."""
    [folder] = (playground.folder / "worker").rglob(f"user-state-{partition}.db")
    return Path(folder)


def test_a_changelog_that_ends_with_a_transaction_marker_is_read_to_its_end(playground: Any) -> None:
    """Faust's own recovery waits there for ever."""
    partition, data = state(playground, "u1", offset=-1, sequence=41)
    with open_transaction(playground, (partition, "u1", data)) as producer:
        producer.commit_transaction(10)
    playground.worker()
    playground.send([("u1", "i1", NOW_MS)])
    [update] = playground.wait_until_answered()

    assert update.sequence == 42


def test_a_record_that_cannot_be_restored_stops_the_worker_and_is_named(playground: Any) -> None:
    """Faust's own recovery logs a warning and goes on without the record."""
    partition, good = state(playground, "u1", offset=-1, sequence=1)
    write_changelog(playground, (partition, "u1", good), (partition, "u2", good[:-1] + b"xx"))
    [bad] = [m.offset() for m in playground.read(playground.settings.changelog_topic) if m.key() == b"u2"]
    worker = playground.worker()
    worker.wait(30)

    assert worker.exit_status == 1
    assert f"partition {partition}, offset {bad}" in worker.log_tail
    assert "Traceback" not in worker.log_tail


def test_states_that_know_more_than_the_clicks_topic_are_refused(playground: Any) -> None:
    """The topic was cut short: its next clicks would have offsets that the states take for known."""
    partition, data = state(playground, "u1", offset=5, sequence=6)
    playground.send([("u1", "i1", NOW_MS)])
    write_changelog(playground, (partition, "u1", data))
    for _ in ("a first start", "one that a supervisor makes after it"):
        worker = playground.worker()
        worker.wait(30)

        assert worker.exit_status == 1
        assert "the broker has lost clicks" in worker.log_tail.splitlines()[-1]


def test_committed_offsets_beyond_the_end_of_the_clicks_are_refused(playground: Any) -> None:
    """The broker lost clicks that were read and committed: new ones would get their offsets."""
    settings = playground.settings
    committed = [TopicPartition(settings.clicks_topic, partition, 50) for partition in range(settings.partitions)]
    admin = AdminClient(librdkafka_config(settings))
    for done in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(settings.app, committed)]).values():
        done.result()
    worker = playground.worker()
    worker.wait(30)

    assert worker.exit_status == 1
    assert "the broker has lost clicks" in worker.log_tail.splitlines()[-1]
    assert "Traceback" not in worker.log_tail


def test_clicks_that_retention_took_are_named_and_the_rest_is_answered(playground: Any) -> None:
    """Also with `start=latest`: an application that has committed goes on where it was."""
    settings = playground.settings
    playground.send(simulated(200))
    worker = playground.worker()
    playground.wait_until_answered()
    worker.stop(10)
    playground.send(simulated(400, seed=1))
    admin = AdminClient(librdkafka_config(settings))
    ends = {c.user[0]: c.offset for c in playground.clicks()}
    gone = [TopicPartition(settings.clicks_topic, partition, end - 5) for partition, end in ends.items()]
    for done in admin.delete_records(gone).values():
        done.result()
    playground.worker("worker", "--set", "start=latest")
    updates = playground.wait_until_answered()

    assert "retention removed offsets" in playground.log("worker").read_text()
    assert {(u.source.partition, u.source.offset) for u in updates} >= {(p, end - 5) for p, end in ends.items()}


def test_the_highest_fence_wins_and_is_written_again(playground: Any) -> None:
    """The late write of an evicted worker stands last in the changelog, loses, and is no longer last."""
    playground.send([("u1", f"i{n}", NOW_MS) for n in range(8)])
    partition, new = state(playground, "u1", offset=7, sequence=8)
    _, late = state(playground, "u1", offset=4, sequence=5)
    write_changelog(playground, (partition, "u1", new), (partition, "u1", late))
    playground.worker()
    playground.wait_for(lambda: newest(playground, "u1").sequence == 8, "the newer state is last")
    playground.send([("u1", "i9", NOW_MS)])
    updates = playground.wait_until_answered()

    assert updates[-1].sequence == 9
    assert all(update.sequence == 8 for update in updates[:-1]), "clicks that the state knows were applied again"


def test_a_late_write_between_own_writes_is_seen_by_the_next_recovery(playground: Any) -> None:
    """The local store counts as complete only up to a record that is not the worker's own."""
    worker = playground.worker()
    playground.send([("u1", "i1", NOW_MS), ("u1", "i2", NOW_MS)])
    playground.wait_until_answered()
    partition, late = state(playground, "u1", offset=0, sequence=1)
    write_changelog(playground, (partition, "u1", late))
    other = next(
        user
        for user in (f"other-{n}" for n in range(100))
        if partition_of(user.encode(), playground.settings.partitions, playground.settings.partitioner) == partition
    )
    playground.send([(other, "i1", NOW_MS)])
    playground.wait_until_answered()
    assert newest(playground, "u1").sequence == 1
    worker.kill()
    playground.worker()

    playground.wait_for(lambda: newest(playground, "u1").sequence == 2, "the newer state is last")


def test_a_damaged_store_is_built_again(playground: Any) -> None:
    """RocksDB's files are worth nothing by themselves: the changelog has all."""
    worker = start_with_clicks(playground, 2_000)
    worker.kill()
    for name in ("CURRENT", "MANIFEST-*"):
        for path in local_store(playground, 1).glob(name):
            path.write_bytes(b"\0" * 20)
    playground.worker()
    playground.send(simulated(1_000, seed=1))
    playground.wait_until_answered()

    assert "built again" in playground.log("worker").read_text()
    playground.assert_states_equal_offline()


@pytest.mark.release
def test_damage_that_is_met_at_work_ends_the_worker_and_is_mended_by_the_next_start(playground: Any) -> None:
    """A store can be opened though its data are damaged: only reading them tells."""
    start_with_clicks(playground, 2_000).kill()
    worker = playground.worker()  # opening the stores writes what was only in their logs to files
    playground.wait_for_log("worker", "partitions assigned")
    worker.kill()
    for path in local_store(playground, 1).glob("*.sst"):
        data = bytearray(path.read_bytes())
        quarter = len(data) // 4  # neither the first key, which is the changelog's offset, nor the index at the end
        data[quarter : 2 * quarter] = bytes(quarter)
        path.write_bytes(data)
    broken = playground.worker()
    playground.send(simulated(1_000, seed=1))
    broken.wait(40)
    said = playground.log("worker").read_text().splitlines()[-1]
    playground.worker()
    playground.wait_until_answered()

    assert broken.exit_status == 1
    assert "builds the local states anew" in said
    playground.assert_states_equal_offline()


def test_a_changelog_that_cannot_be_read_on_is_an_error_that_says_why(playground: Any) -> None:
    """The time of a recovery is bounded: the store is built again once, and then the worker gives up."""
    partition, data = state(playground, "u1", offset=-1, sequence=41)
    with open_transaction(playground, (partition, "u1", data)):
        worker = playground.worker(NEXTCLICK_STALL_S="3")  # shorter, and a busy machine takes the time for itself
        worker.wait(40)

    assert worker.exit_status == 1
    assert "built again" in playground.log("worker").read_text()
    assert "transaction" in worker.log_tail.splitlines()[-1]


def test_a_stop_in_the_middle_of_a_recovery_is_quick_and_clean(playground: Any) -> None:
    """SIGTERM: under 5 s, status 0."""
    partition, data = state(playground, "u1", offset=-1, sequence=41)
    with open_transaction(playground, (partition, "u1", data)):
        worker = playground.worker()
        playground.wait_for_log("worker", "partitions assigned")
        started_s = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        worker.wait(STOP_S + 5)
        took_s = time.monotonic() - started_s

    assert worker.exit_status == 0
    assert took_s < STOP_S


def test_a_restart_within_the_session_timeout_disturbs_nobody(playground: Any) -> None:
    """Static membership: the partitions of a worker that crashed and is back are kept for it."""
    playground.worker("other")
    playground.wait_for_log("other", "partitions assigned")
    worker = playground.worker()
    playground.wait_for(
        lambda: playground.log("other").read_text().count("partitions assigned") >= 2,
        "two workers share the partitions",
    )
    playground.wait_for_log("worker", "partitions assigned")
    playground.send(simulated(500))
    playground.wait_until_answered()
    before = playground.log("other").read_text().count("partitions assigned")
    worker.kill()
    playground.worker()
    playground.wait_for_log("worker", "partitions assigned")
    playground.send(simulated(500, seed=1))
    playground.wait_until_answered()

    assert playground.log("other").read_text().count("partitions assigned") == before
    playground.assert_states_equal_offline()


@pytest.mark.release
def test_a_worker_takes_over_with_the_states_that_it_kept_as_a_standby(playground: Any) -> None:
    """After SIGTERM the other worker reads nothing but the tail of the changelog."""
    first = playground.worker("first")
    playground.worker("second")
    playground.wait_for_log("second", "partitions assigned")
    playground.send(simulated(3_000))
    playground.wait_until_answered()
    lags = re.compile(r'^nextclick_standby_lag_records{partition="\d+"} (\S+)$', re.MULTILINE)
    playground.wait_for(
        lambda: (found := lags.findall(scrape(worker_port(playground, "second")))) and {*map(float, found)} == {0.0},
        "a copy that has all, by the metrics of who keeps it",
    )
    first.stop(10)
    playground.send(simulated(500, seed=1))
    playground.wait_until_answered()
    read = re.findall(r'"states restored","records":(\d+)', playground.log("second").read_text())

    assert first.exit_status == 0
    assert sum(map(int, read)) < 10, "the standby had not followed"
    playground.assert_states_equal_offline()


def test_what_a_standby_saw_written_late_is_written_again_when_it_takes_over(playground: Any) -> None:
    """It has read the late write long before, and must not have forgotten it."""
    first = playground.worker("first")
    playground.worker("second")
    playground.wait_for_log("second", "partitions assigned")
    users = [f"u{number}" for number in range(40)]
    playground.send([(user, f"i{turn}", NOW_MS) for turn in range(3) for user in users])
    playground.wait_until_answered()
    offsets = {click.user[1].decode(): click.offset for click in reversed(playground.clicks())}  # of their first clicks
    late = [(state(playground, user, offsets[user], 1), user) for user in users]
    write_changelog(playground, *((partition, user, data) for (partition, data), user in late))
    playground.send([(user, "i4", NOW_MS) for user in users[:1]])
    playground.wait_until_answered()
    first.stop(10)

    playground.wait_for(
        lambda: all(newest(playground, user).sequence >= 3 for user in users), "the newer states are last"
    )


@pytest.mark.parametrize("wiped", [False, True])
def test_states_survive_a_crash_with_and_without_the_disk(playground: Any, wiped: bool) -> None:
    """Recovery from the local store and from the changelog alone give the same."""
    worker = start_with_clicks(playground, 2_000)
    worker.kill()
    name = "again" if wiped else "worker"
    playground.worker(name)
    playground.send(simulated(1_000, seed=1))
    playground.wait_until_answered()

    playground.assert_states_equal_offline()
