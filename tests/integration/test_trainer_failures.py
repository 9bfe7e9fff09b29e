"""The trainer when things go wrong: killed, paused, a second one, a broker that is away, lost clicks, a full disk."""

import dataclasses
import os
import resource
import signal
import time
from functools import partial
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from demo.local_kafka import LocalKafka
from nextclick.bundle import verify_bundle
from nextclick.errors import PermanentError
from nextclick.manifest import encode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from stream.topics.topics import Topics
from tests.decided import wait_until_decided
from tests.trainers import (
    NO_TRAINING,
    NOW_MS,
    PATIENCE_S,
    QUICK,
    SMALL,
    announce,
    announced,
    announcer,
    click_offsets,
    clicks,
    free_port,
    go_on,
    logged_offsets,
    metric,
    run_once,
    small_bundle,
    start_logging,
    user_of,
    wait_until_logged,
)
from tools.client_config import producer_config
from tools.kafka import offset_ranges
from tools.presence import BrokerPresence
from training.service import click_consumer
from training.service.click_consumer import ClickConsumer
from training.service.click_log import ClickLog
from training.service.log_files import encode_file, read_rows, write_file
from training.service.trainer import Trainer

SEED = 1


@pytest.fixture
def trainers(playground: Any) -> Any:
    """The playground, where a killed or sleeping trainer is forgotten after 2 s."""
    playground.settings = dataclasses.replace(playground.settings, session_timeout_s=2)
    return playground


def test_killed_again_and_again_the_log_is_complete_and_has_no_row_twice(trainers: Any) -> None:
    """SIGKILL while it logs, trains and publishes, at random moments: nothing lost, doubled, or announced in half."""
    rng = np.random.default_rng(SEED)
    settings = trainers.settings = dataclasses.replace(trainers.settings, session_timeout_s=1)
    sent = 0
    for number, moment in enumerate(("logging", "logging", "publishing", "logging", "training", "logging")):
        name = f"killed-{number}"
        sent += trainers.send(clicks(sent, 500))
        often = (*SMALL, "--set", "train_every_s=1")
        child = trainers.start(name, "train", "--verbose", *(QUICK if moment == "logging" else often))
        wait_for_moment(trainers, name, moment)
        sent += trainers.send(clicks(sent, 50))
        end_s = time.monotonic() + float(rng.uniform(0, 0.3 if moment == "logging" else 0.02))
        while time.monotonic() < end_s:
            pass
        child.kill()
    (settings.bundle_dir / ".draft-1").mkdir(parents=True, exist_ok=True)  # whether or not a kill left one
    for draft in settings.bundle_dir.glob(".draft-*"):  # an hour has passed
        for path in (*draft.rglob("*"), draft):
            os.utime(path, (time.time() - 2 * 3600,) * 2)

    status, _ = run_once(trainers, "last", *SMALL)

    assert status == 0
    assert logged_offsets(settings.log_dir) == click_offsets(trainers)
    assert len(logged_offsets(settings.log_dir)) == sent
    assert not list(settings.log_dir.rglob(".writing-*"))
    bundles = {path.name for path in settings.bundle_dir.iterdir() if path.is_dir()}
    assert announced(trainers)
    assert {manifest.bundle_id for manifest in announced(trainers)} <= bundles
    for bundle in bundles:  # a draft would be one that is not complete
        assert verify_bundle(settings.bundle_dir / bundle).bundle_id == bundle


def wait_for_moment(playground: Any, name: str, moment: str) -> None:
    """Return as soon as a trainer is at work on something; busily, for the files of a bundle are there for ms only.

    Where this process sleeps through them, the moment after them must do.
    """
    text = {"logging": "logging clicks", "training": "pass 1", "publishing": "recall@20 new"}[moment]
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if moment == "publishing" and list(playground.settings.bundle_dir.glob(".draft-*")):
            return
        if text in playground.log(name).read_text():
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


def test_an_announcement_whose_answer_is_lost_is_looked_for_before_anything_is_said(
    outage: Any, broker_to_stop: LocalKafka
) -> None:
    """The broker hangs at the commit for longer than the transaction is waited for: it was made, or made again."""
    outage.settings = dataclasses.replace(outage.settings, session_timeout_s=2)
    with announcer(outage, "before the commit") as (holder, manifest):
        broker_to_stop.pause()
        resumption = Timer(5, broker_to_stop.resume)
        resumption.start()

        answer = go_on(holder)

        resumption.join()
    found = announced(outage)
    assert found in ([], [manifest])
    if "was announced, or was not" not in answer:  # it lost the role meanwhile: then nobody knows, and it says so
        assert (answer == "announced") == (found == [manifest]), answer


@pytest.mark.release
def test_once_says_by_its_status_that_the_broker_hung(outage: Any, broker_to_stop: LocalKafka) -> None:
    """The clicks are logged, and nothing was published."""
    outage.send(clicks(0, 1_500))
    trainer = outage.start("trainer", "train", "--once", "--verbose", *SMALL)
    outage.wait_for_log("trainer", "pass 1")
    broker_to_stop.pause()

    trainer.wait(2 * PATIENCE_S)

    broker_to_stop.resume()
    line = outage.log("trainer").read_text().splitlines()[-1]
    assert trainer.exit_status == 1
    assert "nothing was published" in line
    assert announced(outage) == []


def test_a_write_that_hangs_does_not_hold_up_the_end(trainers: Any) -> None:
    """As to a network folder that is away: status 1 soon after SIGTERM, and the clicks are read again."""
    settings = trainers.settings
    port = free_port()
    trainer = start_logging(
        trainers, "trainer", *NO_TRAINING, "--set", "log_flush_s=1000", "--set", f"trainer_port={port}"
    )
    trainers.send_raw([(None, b"rejected, but read")])
    [message] = trainers.read(settings.clicks_topic)
    folder = settings.log_dir / f"partition={message.partition()}"
    folder.mkdir()
    os.mkfifo(
        folder / f".writing-{0:020d}-{0:020d}.parquet.{trainer.pid}"
    )  # who opens it for writing waits for a reader
    rejected = 'nextclick_trainer_clicks_rejected_total{reason="no_key"}'
    trainers.wait_for(lambda: metric(port, rejected) == 1, "the record to be read")

    trainer.stop(PATIENCE_S)

    assert trainer.exit_status == 1
    assert "cut off" in trainers.log("trainer").read_text()


@pytest.mark.release
def test_a_bundle_that_was_announced_meanwhile_is_not_overwritten(trainers: Any) -> None:
    """The new bundle was compared with another: it is judged again by the next training."""
    trainers.send(clicks(0, 1_500))
    trainer = trainers.start("trainer", "train", "--verbose", *SMALL, "--set", "epochs=40")
    trainers.wait_for_log("trainer", "pass 1")
    rival = small_bundle(trainers.settings.bundle_dir, 1)
    announce(trainers, encode_manifest(rival))

    trainers.wait_for_log("trainer", "another bundle was announced")
    trainer.stop(PATIENCE_S)

    assert trainer.exit_status == 0
    assert announced(trainers) == [rival]


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
        write_file(file.path, encode_file(read_rows(file), file.written_s - days * 86_400))


@pytest.mark.release
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


def test_a_partition_without_a_leader_is_waited_for_at_the_start(
    playground: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker cannot say then which offsets there are. The clicks of all partitions are logged when it can."""
    playground.send(clicks(0, 50))
    leaderless = iter([True, True])

    def asked(*arguments: Any) -> Any:
        if next(leaderless, False):
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return offset_ranges(*arguments)

    monkeypatch.setattr(click_consumer, "offset_ranges", asked)
    settings = dataclasses.replace(playground.settings, min_clicks=10**9, log_flush_s=0.1)
    stop = Event()
    trainer = Trainer(settings, stop, skip_lost=False, given_up="")
    running = Thread(target=partial(trainer.run, once=False))
    running.start()
    try:
        wait_until_logged(playground, 50)
    finally:
        stop.set()
        running.join(PATIENCE_S)
        trainer.close()

    assert sum("waiting, nothing is lost" in record.message for record in caplog.records) == 2


def test_an_offset_that_is_missing_is_asked_for_again_until_it_can_be_explained(
    playground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks once for an offset. A broker that does not say at once what it has must not end it there."""
    settings = playground.settings
    playground.send(clicks(0, 400))
    ends = {message.partition(): message.offset() + 1 for message in playground.read(settings.clicks_topic)}
    delete_clicks(playground, {0: ends[0] // 2})
    leaderless = iter([True])

    def asked(*arguments: Any) -> Any:
        if next(leaderless, False):
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return offset_ranges(*arguments)

    monkeypatch.setattr(click_consumer, "offset_ranges", asked)
    consumer = ClickConsumer(settings, BrokerPresence(settings.broker))
    consumer.start(dict.fromkeys(ends, 0), consumer.identity(), len(ends))
    try:
        with pytest.raises(PermanentError, match="removed clicks before they were logged"):
            playground.wait_for(lambda: consumer.poll(0.1) and False, "an explanation")
    finally:
        consumer.close()


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


def test_a_log_in_an_object_store_is_one_applications_and_its_copy_is_mended(trainers: Any, tmp_path: Path) -> None:
    """Another application's is named before anything is fetched; what is damaged here is fetched again."""
    app, topic = (f"{name}-2" for name in (trainers.settings.app, trainers.settings.clicks_topic))
    Topics(dataclasses.replace(trainers.settings, app=app, clicks_topic=topic)).create()
    in_store = (*QUICK, "--set", f"click_log=file://{tmp_path}/store")
    as_other = ("--set", f"app={app}", "--set", f"clicks_topic={topic}", "--set", f"log_dir={tmp_path}/other")
    trainers.send(clicks(0, 300))
    assert run_once(trainers, "first", *in_store)[0] == 0
    [copy, *_] = trainers.settings.log_dir.glob("partition=*/*.parquet")
    content = copy.read_bytes()
    copy.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])

    status, lines = run_once(trainers, "other", *in_store, *as_other)
    assert status == 1
    assert f"click_log file://{tmp_path}/store holds the clicks of the application" in lines[-1]
    assert "--set click_log=ADDRESS" in lines[-1]
    assert not list((tmp_path / "other").glob("partition=*"))
    assert run_once(trainers, "again", *in_store)[0] == 0
    assert copy.read_bytes() == content
    assert logged_offsets(trainers.settings.log_dir) == click_offsets(trainers)


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
    key, value, _ = encode_click(ClickSchema(), user_of(0, settings.partitions), "item", NOW_MS)
    producer.produce(settings.clicks_topic, value, key, partition=0)
    producer.commit_transaction(PATIENCE_S)
    wait_until_decided(settings, settings.clicks_topic)
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
