"""The trainer when things go wrong: killed, paused, a second one, a broker that is away, lost clicks, a full disk."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from demo.local_kafka import LocalKafka
from nextclick.bundle import save_bundle, verify_bundle
from nextclick.clicks import ClickFields, encode_click
from nextclick.manifest import CHAMPION, Manifest, decode_manifest, encode_manifest
from nextclick.network import Network, NetworkConfig
from nextclick.vocabulary import Vocabulary
from stream.topics.topics import Topics
from tools.client_config import producer_config
from training.service.broker_presence import BrokerPresence
from training.service.click_log import ClickLog
from training.service.log_files import read_rows, write_file
from training.service.trainer_role import TrainerRole

NOW_MS = 1_700_000_000_000
PATIENCE_S = 60.0
NO_TRAINING = ("--set", "min_clicks=1000000000")
QUICK = ("--set", "log_flush_s=0.1", *NO_TRAINING)
SMALL = ("--set", "min_clicks=800", "--set", "hidden_size=16", "--set", "epochs=2", "--set", "log_flush_s=0.2")
SEED = 1


@pytest.fixture
def trainers(playground: Any) -> Any:
    """The playground, where a killed or sleeping trainer is forgotten after 2 s."""
    playground.settings = dataclasses.replace(playground.settings, session_timeout_s=2)
    return playground


def clicks(first: int, count: int) -> list[tuple[str, str, int]]:
    """Users who walk along a ring of items, two steps at a time: easy to learn."""
    numbers = range(first, first + count)
    return [(f"user-{n % 97}", f"item-{(n % 97 * 7 + n // 97 * 2) % 60}", NOW_MS + n * 1_000) for n in numbers]


def logged_offsets(log_dir: Path) -> list[tuple[int, int]]:
    """(partition, offset) of every row of a click log."""
    log = ClickLog(log_dir)
    table = log.read(log.files)
    return sorted(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))


def click_offsets(playground: Any) -> list[tuple[int, int]]:
    """(partition, offset) of every valid click of the topic."""
    return sorted((click.user[0], click.offset) for click in playground.clicks())


def announced(playground: Any) -> list[Manifest]:
    """Every announcement on the topic `models`."""
    messages = playground.read(playground.settings.models_topic)
    return [decode_manifest(message.value()) for message in messages if message.key() == CHAMPION.encode()]


def run_once(playground: Any, name: str, *arguments: str) -> tuple[int | None, list[str]]:
    """Run `nextclick train --once` to its end; gives its exit status and its log."""
    child = playground.start(name, "train", "--once", *arguments)
    child.wait(PATIENCE_S)
    return child.exit_status, playground.log(name).read_text().splitlines()


def start_logging(playground: Any, name: str, *arguments: str) -> Any:
    """Start a trainer and wait until it has the role."""
    child = playground.start(name, "train", *arguments)
    playground.wait_for_log(name, "logging clicks")
    return child


def wait_until_logged(playground: Any, count: int) -> None:
    playground.wait_for(
        lambda: len(logged_offsets(playground.settings.log_dir)) == count, f"{count} clicks in the log", PATIENCE_S
    )


def test_killed_again_and_again_the_log_is_complete_and_has_no_row_twice(trainers: Any) -> None:
    """SIGKILL while it logs, trains and publishes, at random moments: nothing lost, doubled, or announced in half."""
    rng = np.random.default_rng(SEED)
    settings = trainers.settings = dataclasses.replace(trainers.settings, session_timeout_s=1)
    sent = 0
    for number, moment in enumerate(("logging", "logging", "publishing", "logging", "training", "logging")):
        name = f"killed-{number}"
        sent += trainers.send(clicks(sent, 500))
        child = trainers.start(name, "train", "--verbose", *(QUICK if moment == "logging" else SMALL))
        wait_for_moment(trainers, name, moment)
        sent += trainers.send(clicks(sent, 50))
        end_s = time.monotonic() + float(rng.uniform(0, 0.3 if moment == "logging" else 0.02))
        while time.monotonic() < end_s:
            pass
        child.kill()
    (settings.bundle_dir / ".draft-1").mkdir(parents=True, exist_ok=True)  # whether or not a kill left one

    status, _ = run_once(trainers, "last", *SMALL)

    assert status == 0
    assert logged_offsets(settings.log_dir) == click_offsets(trainers)
    assert len(logged_offsets(settings.log_dir)) == sent
    assert not list(settings.log_dir.rglob(".writing-*"))
    bundles = {path.name for path in settings.bundle_dir.iterdir()}
    assert announced(trainers)
    assert {manifest.bundle_id for manifest in announced(trainers)} <= bundles
    for bundle in bundles:  # a draft would be one that is not complete
        assert verify_bundle(settings.bundle_dir / bundle).bundle_id == bundle


def wait_for_moment(playground: Any, name: str, moment: str) -> None:
    """Return as soon as a trainer is at work on something; busily, for the files of a bundle are there for ms only."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if moment == "publishing" and list(playground.settings.bundle_dir.glob(".draft-*")):
            return
        text = {"logging": "logging clicks", "training": "pass 1"}.get(moment)
        if text is not None and text in playground.log(name).read_text():
            return
    pytest.fail(f"expected {name} to be {moment} within {PATIENCE_S:.0f} s")


def test_a_second_trainer_with_another_log_waits_until_the_first_is_gone(trainers: Any) -> None:
    """Wherever it runs: the broker tells them apart. It takes over also from one that was killed."""
    first = start_logging(trainers, "first", *QUICK)
    other = ("--set", f"log_dir={trainers.folder / 'other-log'}")
    second = trainers.start("second", "train", *QUICK, *other)
    trainers.wait_for_log("second", "another trainer of the application")
    trainers.send(clicks(0, 200))
    wait_until_logged(trainers, 200)

    assert logged_offsets(trainers.folder / "other-log") == []
    first.kill()
    trainers.wait_for_log("second", "logging clicks")
    second.stop(PATIENCE_S)
    assert second.exit_status == 0


def test_a_trainer_that_slept_past_its_session_finds_another_at_work_and_waits(trainers: Any) -> None:
    """It writes nothing more, and says so; when the other ends it goes on with its own log."""
    first = start_logging(trainers, "first", *QUICK)
    os.kill(first.pid, signal.SIGSTOP)
    other_log = trainers.folder / "other-log"
    second = start_logging(trainers, "second", *QUICK, "--set", f"log_dir={other_log}")

    os.kill(first.pid, signal.SIGCONT)
    trainers.wait_for_log("first", "lost the role of trainer")
    trainers.wait_for_log("first", "another trainer of the application")
    trainers.send(clicks(0, 300))
    trainers.wait_for(lambda: len(logged_offsets(other_log)) == 300, "300 clicks in the other log")

    assert logged_offsets(trainers.settings.log_dir) == []
    second.stop(PATIENCE_S)
    wait_until_logged(trainers, 300)
    first.stop(PATIENCE_S)
    assert first.exit_status == 0


_ROLE_HOLDER = """
import os, sys, threading
from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from training.service.broker_presence import BrokerPresence
from training.service.trainer_role import TrainerRole
from training.learning.cancellation import Cancellation
settings = Settings.load(os.environ)
role = TrainerRole(settings, BrokerPresence(settings.broker))
while not role.wait(0.1):
    pass
print("held", flush=True)
sys.stdin.readline()
def confirm():
    try:
        role.confirm(Cancellation(threading.Event()))
        print("confirmed", flush=True)
    except TemporaryError as error:
        print(error, flush=True)
thread = threading.Thread(target=confirm)
thread.start()
while thread.is_alive():
    role.is_held()
"""


@pytest.mark.parametrize("sleeps", [False, True])
def test_who_slept_past_its_session_cannot_publish(trainers: Any, sleeps: bool) -> None:
    """The broker is asked before an announcement: a process that wakes up does not know yet that it lost the role."""
    environment = os.environ | trainers.settings.as_environment()
    command = [sys.executable, "-c", _ROLE_HOLDER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        if sleeps:
            os.kill(holder.pid, signal.SIGSTOP)
            role = TrainerRole(trainers.settings, BrokerPresence(trainers.settings.broker))
            trainers.wait_for(lambda: role.wait(0.1), "the role", PATIENCE_S)
        holder.stdin.write("\n")
        holder.stdin.flush()
        os.kill(holder.pid, signal.SIGCONT)
        answer = holder.stdout.readline()
        holder.stdin.close()
        assert holder.wait(PATIENCE_S) == 0
        if sleeps:
            role.close()

    assert answer.startswith("expected to be the one trainer" if sleeps else "confirmed"), answer


def test_a_bundle_that_was_announced_meanwhile_is_not_overwritten(trainers: Any) -> None:
    """The new bundle was compared with another: it is judged again by the next training."""
    trainers.send(clicks(0, 1_500))
    trainer = trainers.start("trainer", "train", "--verbose", *SMALL, "--set", "epochs=40")
    trainers.wait_for_log("trainer", "pass 1")
    rival = save_bundle(
        trainers.settings.bundle_dir,
        Network(NetworkConfig(n_items=1, hidden_size=4)),
        Vocabulary(["item-0"], np.ones(1)),
        created_ms=1,
        metrics={},
    )
    producer = Producer(producer_config(trainers.settings))
    producer.produce(trainers.settings.models_topic, encode_manifest(rival), CHAMPION)
    assert producer.flush(PATIENCE_S) == 0

    trainers.wait_for_log("trainer", "another was announced meanwhile")
    trainer.stop(PATIENCE_S)

    assert trainer.exit_status == 0
    assert announced(trainers) == [rival]


def test_sigterm_ends_it_in_time_though_the_training_hangs(trainers: Any) -> None:
    """In a read that does not come back, as from a network folder: the clicks are written, the process is cut off."""
    settings = trainers.settings
    trainers.send(clicks(0, 1_000))
    pipe = trainers.folder / "pipe"
    os.mkfifo(pipe)
    (trainers.folder / "torch.py").write_text(f"open({str(pipe)!r}).read()")  # what the training thread imports first
    trainer = trainers.start("trainer", "train", *SMALL, "--set", "log_flush_s=1000", PYTHONPATH=str(trainers.folder))
    descriptor = trainers.wait_for(lambda: open_if_read(pipe), "the training to hang", PATIENCE_S)
    trainers.send(clicks(1_000, 100))
    began_s = time.monotonic()

    trainer.stop(PATIENCE_S)

    os.close(descriptor)
    assert time.monotonic() - began_s < 5
    assert trainer.exit_status == 0
    assert "cut off" in trainers.log("trainer").read_text()
    assert set(logged_offsets(settings.log_dir)) <= set(click_offsets(trainers))
    assert len(logged_offsets(settings.log_dir)) >= 1_000


def open_if_read(pipe: Path) -> int | None:
    """Open a pipe for writing, once somebody reads it."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_old_clicks_go_and_the_trainer_reads_on(trainers: Any) -> None:
    """Their files are older than `log_keep_days`; the position is not forgotten, and nothing is trained on too few."""
    trainers.send(clicks(0, 1_000))
    assert run_once(trainers, "first", *QUICK)[0] == 0
    age_log(trainers.settings.log_dir, days=2)
    trainers.send(clicks(1_000, 100))

    status, lines = run_once(trainers, "second", *SMALL, "--set", "log_keep_days=1")

    assert status == 0
    assert [line for line in lines if '"clicks":1000' in line and "removed the oldest clicks" in line]
    assert "not trained: too few clicks" in lines[-1]
    assert len(logged_offsets(trainers.settings.log_dir)) == 100


def age_log(log_dir: Path, days: float) -> None:
    """Write the files of a click log again, as if it had been so many days ago."""
    for file in ClickLog(log_dir).files:
        write_file(file.path, read_rows(file), file.written_s - days * 86_400)


def test_a_broker_that_hangs_or_goes_away_is_waited_for(outage: Any, broker_to_stop: LocalKafka) -> None:
    """For longer than the session timeout, which costs the role for a while; meanwhile SIGTERM ends it soon, too."""
    outage.settings = dataclasses.replace(outage.settings, session_timeout_s=2)
    trainer = start_logging(outage, "trainer", *QUICK)
    outage.send(clicks(0, 300))
    wait_until_logged(outage, 300)

    broker_to_stop.pause()
    wait_until_missed(outage)
    broker_to_stop.resume()
    outage.wait_for_log("trainer", "the broker is back")
    outage.send(clicks(300, 300))
    wait_until_logged(outage, 600)
    broker_to_stop.stop(keep_data=True)
    wait_until_missed(outage)
    broker_to_stop.start()
    outage.send(clicks(600, 300))
    wait_until_logged(outage, 900)
    broker_to_stop.pause()
    wait_until_missed(outage)
    began_s = time.monotonic()
    trainer.stop(PATIENCE_S)
    took_s = time.monotonic() - began_s
    broker_to_stop.resume()

    assert took_s < 5
    assert said(outage) == ["away", "back", "away", "back", "away"]
    assert trainer.exit_status == 0
    assert logged_offsets(outage.settings.log_dir) == click_offsets(outage)


def said(playground: Any) -> list[str]:
    """What the trainer said of the broker."""
    texts = {"does not answer": "away", "the broker is back": "back"}
    lines = playground.log("trainer").read_text().splitlines()
    return [word for line in lines for text, word in texts.items() if text in line]


def wait_until_missed(playground: Any) -> None:
    playground.wait_for(lambda: said(playground)[-1:] == ["away"], "a notice that the broker is away", PATIENCE_S)


def test_clicks_that_retention_takes_from_a_running_trainer_are_named(trainers: Any) -> None:
    """Never jumped over; the option in the message goes on without them, and says which they were."""
    trainer = start_logging(trainers, "trainer", *QUICK)
    trainers.send(clicks(0, 200))
    wait_until_logged(trainers, 200)
    os.kill(trainer.pid, signal.SIGSTOP)
    for first in range(200, 1_000, 200):  # a request that is on its way may bring the first of them
        trainers.send(clicks(first, 200))
    ends = {message.partition(): message.offset() + 1 for message in trainers.read(trainers.settings.clicks_topic)}
    delete_clicks(trainers, ends)
    os.kill(trainer.pid, signal.SIGCONT)
    trainer.wait(PATIENCE_S)

    lines = trainers.log("trainer").read_text().splitlines()
    log_ends = ClickLog(trainers.settings.log_dir).ends
    assert trainer.exit_status == 1
    lost = [p for p, end in ends.items() if log_ends[p] < end]
    assert lost
    for partition in lost:
        assert f"{log_ends[partition]} to {ends[partition] - 1} of partition {partition}" in lines[-1]
    trainers.send(clicks(1_000, 50))
    status, lines = run_once(trainers, "next", "--skip-lost", *QUICK)
    assert status == 0
    assert sum("going on without the clicks" in line for line in lines) == len(lost)
    assert [row for row in logged_offsets(trainers.settings.log_dir) if row[1] >= ends[row[0]]] == click_offsets(
        trainers
    )


@pytest.mark.parametrize("n_clicks", [100, 600])
def test_a_topic_that_was_created_anew_is_refused(trainers: Any, n_clicks: int) -> None:
    """Its offsets begin again: clicks would be taken for known ones, also where it has grown past the old offsets."""
    settings = trainers.settings
    trainers.send(clicks(0, 300))
    assert run_once(trainers, "first", *QUICK)[0] == 0
    before = logged_offsets(settings.log_dir)
    create_topic_anew(trainers)
    trainers.send(clicks(0, n_clicks))

    status, [line] = run_once(trainers, "second", *QUICK, "--skip-lost")

    assert status == 1
    assert "created anew" in line
    assert "log_dir" in line
    assert logged_offsets(settings.log_dir) == before
    new_log = dataclasses.replace(settings, log_dir=trainers.folder / "new-log")
    assert run_once(trainers, "third", *QUICK, "--set", f"log_dir={new_log.log_dir}")[0] == 0
    assert logged_offsets(new_log.log_dir) == click_offsets(trainers)


@pytest.mark.parametrize("n_clicks", [0, 100, 2_000])
def test_a_topic_that_is_created_anew_under_a_running_trainer_is_refused(trainers: Any, n_clicks: int) -> None:
    """Whatever the client makes of it, no click of the new topic comes into the log of the old one."""
    trainer = start_logging(trainers, "trainer", *QUICK)
    trainers.send(clicks(0, 300))
    wait_until_logged(trainers, 300)
    before = logged_offsets(trainers.settings.log_dir)
    create_topic_anew(trainers)
    trainers.send(clicks(0, n_clicks))
    trainer.wait(PATIENCE_S)

    line = trainers.log("trainer").read_text().splitlines()[-1]
    assert trainer.exit_status == 1
    assert "created anew" in line
    assert "log_dir" in line
    assert logged_offsets(trainers.settings.log_dir) == before


def create_topic_anew(playground: Any) -> None:
    """Delete the clicks topic and create it under the same name."""
    topic = playground.settings.clicks_topic
    admin = AdminClient({"bootstrap.servers": playground.settings.broker})
    admin.delete_topics([topic])[topic].result(PATIENCE_S)
    playground.wait_for(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic gone")
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(PATIENCE_S)


def test_two_applications_cannot_share_a_log(trainers: Any) -> None:
    """Not beside each other and not one after the other: the clicks of two shops would be one training's."""
    app, topic = (f"{name}-2" for name in (trainers.settings.app, trainers.settings.clicks_topic))
    other = dataclasses.replace(trainers.settings, app=app, clicks_topic=topic)
    Topics(other).create()
    as_other = ("--set", f"app={other.app}", "--set", f"clicks_topic={other.clicks_topic}")
    first = start_logging(trainers, "first", *QUICK)
    trainers.send(clicks(0, 300))
    wait_until_logged(trainers, 300)

    beside = run_once(trainers, "beside", *QUICK, *as_other)
    first.stop(PATIENCE_S)
    after = run_once(trainers, "after", *QUICK, *as_other)

    for status, lines in (beside, after):
        assert status == 1
        assert other.app in lines[-1]
        assert trainers.settings.app in lines[-1]
        assert "--set log_dir=PATH" in lines[-1]
    assert len(logged_offsets(trainers.settings.log_dir)) == 300


def test_a_disk_that_fills_up_is_one_line_and_nothing_is_lost(trainers: Any) -> None:
    """Exit status 1; with room again the next start logs everything, once."""
    trainer = start_logging(trainers, "trainer", *QUICK)
    trainers.send(clicks(0, 100))
    wait_until_logged(trainers, 100)
    full_at = trainers.log("trainer").stat().st_size + 3_000
    resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (full_at, full_at))  # as on a full disk, a write fails
    rng = np.random.default_rng(SEED)
    sent = 100 + trainers.send((f"user-{n}", rng.bytes(60).hex(), NOW_MS) for n in range(2_000))
    trainer.wait(PATIENCE_S)

    lines = trainers.log("trainer").read_text().splitlines()
    assert trainer.exit_status == 1
    assert "make room" in lines[-1]
    assert not [line for line in lines if "Traceback" in line]
    assert not list(trainers.settings.log_dir.rglob(".writing-*"))
    assert run_once(trainers, "next", *QUICK)[0] == 0
    assert len(logged_offsets(trainers.settings.log_dir)) == sent
    assert logged_offsets(trainers.settings.log_dir) == click_offsets(trainers)


def test_the_end_of_a_transaction_is_no_lost_click(trainers: Any) -> None:
    """Retention took everything from a topic that a transaction ended: nothing that was not logged."""
    settings = trainers.settings
    producer = Producer(producer_config(settings) | {"transactional.id": settings.app})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(settings.clicks_topic, encode_click(ClickFields(), "user", "item", NOW_MS), "user", partition=0)
    producer.commit_transaction(PATIENCE_S)
    assert run_once(trainers, "first", *QUICK)[0] == 0
    delete_clicks(trainers, {0: 2})

    status, lines = run_once(trainers, "second", *QUICK)

    assert status == 0, lines
    assert ClickLog(settings.log_dir).ends == {0: 2}
    assert logged_offsets(settings.log_dir) == [(0, 0)]


def test_huge_records_are_rejected_without_filling_the_memory(trainers: Any) -> None:
    """Values of nearly a megabyte each: neither parsed nor kept."""
    trainer = start_logging(trainers, "trainer", *QUICK)
    before = peak_memory_bytes(trainer.pid)
    value = b"[" * 900_000
    trainers.send_raw((b"user", value) for _ in range(250))
    trainers.send([("user", "item", NOW_MS)])
    wait_until_logged(trainers, 1)

    assert peak_memory_bytes(trainer.pid) - before < 170_000_000
    trainer.stop(PATIENCE_S)
    assert trainer.exit_status == 0


def peak_memory_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def delete_clicks(playground: Any, before: dict[int, int]) -> None:
    """Remove the records before an offset of each partition, as retention does."""
    admin = AdminClient({"bootstrap.servers": playground.settings.broker})
    topic = playground.settings.clicks_topic
    deleted = admin.delete_records([TopicPartition(topic, partition, offset) for partition, offset in before.items()])
    for future in deleted.values():
        future.result(PATIENCE_S)
