"""What a round of training can do to the trainer, and what it cannot; and which bundle counts as the champion."""

import json
import os
import resource
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from demo.children import Child
from nextclick.clicks import FORWARDED_HEADER, Click
from nextclick.manifest import encode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from tests.trainers import (
    NO_TRAINING,
    NOW_MS,
    PATIENCE_S,
    QUICK,
    SMALL,
    announce,
    announced,
    click_offsets,
    clicks,
    free_port,
    logged_offsets,
    metric,
    run_once,
    small_bundle,
    start_logging,
    user_of,
    wait_until_logged,
)
from tools.client_config import producer_config
from tools.stored_bundles import KEPT_BUNDLES
from training.service.click_log import ClickLog, LogRow


def path_with(folder: Path) -> str:
    """A PYTHONPATH with a folder in front."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def start_hanging(playground: Any, name: str, *arguments: str) -> tuple[Child, Callable[[], None]]:
    """Start a trainer whose training hangs: in a read that does not come back, as from a network folder.

    Returns:
        The trainer, and what lets the training go on.
    """
    pipe = playground.folder / f"{name}-pipe"
    os.mkfifo(pipe)
    folder = playground.folder / f"{name}-path"
    folder.mkdir()
    (folder / "torch.py").write_text(f"open({str(pipe)!r}).read()")  # what every training imports
    trainer = playground.start(name, "train", *arguments, PYTHONPATH=path_with(folder))

    def open_if_read() -> int | None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    descriptor = playground.wait_for(open_if_read, "the training to hang", PATIENCE_S)
    return trainer, lambda: os.close(descriptor)


def rounds_of(trainer: Child) -> list[psutil.Process]:
    """The processes that train for a trainer."""
    return psutil.Process(trainer.pid).children(recursive=True)


def health(port: int) -> str:
    """What a trainer says that it does."""
    answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).read()
    return str(json.loads(answer)["status"])


# The clicks topic.


def send_to(playground: Any, partition: int, *headers: tuple[str, bytes], count: int = 1) -> None:
    """Send a click of a user of a partition, so many times; one that was just added is waited for."""
    settings = playground.settings
    producer = Producer(producer_config(settings))
    topic = settings.clicks_topic

    def partitions() -> int:
        return len(producer.list_topics(topic, 10).topics[topic].partitions)

    playground.wait_for(lambda: partition < partitions(), "the partition")
    user = user_of(partition, partitions())
    key, value, _ = encode_click(ClickSchema.of(settings), user, "item", NOW_MS)
    failures: list[Any] = []
    for _ in range(count):
        producer.produce(
            topic,
            value,
            key,
            partition=partition,
            headers=list(headers),
            on_delivery=lambda error, _: failures.append(error) if error is not None else None,
        )
    assert producer.flush(PATIENCE_S) == 0
    assert failures == []


@pytest.mark.release
def test_partitions_that_are_added_are_logged_within_a_minute(playground: Any) -> None:
    """From their first click, also after `--start latest`, also when the trainer was away then; and it is said."""
    settings = playground.settings
    admin = AdminClient({"bootstrap.servers": settings.broker})
    trainer = start_logging(playground, "trainer", *QUICK, "--start", "latest")
    send_to(playground, 0)
    wait_until_logged(playground, 1)
    admin.create_partitions([NewPartitions(settings.clicks_topic, 6)])[settings.clicks_topic].result(PATIENCE_S)
    send_to(playground, 4)
    send_to(playground, 5)
    wait_until_logged(playground, 3, 60)
    trainer.stop(PATIENCE_S)
    admin.create_partitions([NewPartitions(settings.clicks_topic, 7)])[settings.clicks_topic].result(PATIENCE_S)
    send_to(playground, 6)

    assert "2 new partitions" in playground.log("trainer").read_text()
    assert trainer.exit_status == 0
    assert run_once(playground, "again", *QUICK, "--start", "latest")[0] == 0
    assert logged_offsets(settings.log_dir) == [(0, 0), (4, 0), (5, 0), (6, 0)]


def test_copies_of_clicks_from_another_partition_are_read_and_not_logged(playground: Any) -> None:
    """`nextclick repartition` copies clicks that wait, and marks the copies: the originals are logged."""
    send_to(playground, 1)
    send_to(playground, 1, (FORWARDED_HEADER, b"0/0"))
    send_to(playground, 1)

    assert run_once(playground, "trainer", *QUICK)[0] == 0

    assert logged_offsets(playground.settings.log_dir) == [(1, 0), (1, 2)]
    assert ClickLog(playground.settings.log_dir).ends == {1: 3}


# The champion. The bundle that no training made knows one item, so that any other one is better.


@pytest.mark.release
def test_an_undecodable_announcement_is_passed_over_said_and_counted(playground: Any) -> None:
    """The bundle before it is still the champion: the new one is compared with it, and its folder is kept."""
    store, port = playground.settings.bundle_dir, free_port()
    champion = small_bundle(store, 1)
    os.utime(store / champion.bundle_id, (1, 1))
    for number in range(1, KEPT_BUNDLES + 3):
        (store / f"{number:016x}").mkdir()
    announce(playground, encode_manifest(champion))
    announce(playground, b"garbage")
    playground.send(clicks(0, 1_500))

    trainer = playground.start("trainer", "train", *SMALL, "--set", f"trainer_port={port}")
    playground.wait_for_log("trainer", "recall@20 new", PATIENCE_S)

    log = playground.log("trainer").read_text()
    assert "champion none" not in log
    assert "is passed over" in log
    assert metric(port, "nextclick_trainer_announcements_undecodable_total") == 1
    playground.wait_for(
        lambda: sum(path.is_dir() for path in store.iterdir()) == KEPT_BUNDLES + 1, "old bundles removed"
    )
    assert (store / champion.bundle_id).exists()
    trainer.stop(PATIENCE_S)
    assert trainer.exit_status == 0


@pytest.mark.release
@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_a_champion_that_cannot_be_loaded_closes_publication_and_the_ways_out_open_it(
    playground: Any, harm: str
) -> None:
    """Nothing is published over it, whatever a new bundle is worth; restoring it or giving it up is named."""
    champion = small_bundle(playground.settings.bundle_dir, 1)
    announce(playground, encode_manifest(champion))
    folder, backup = playground.settings.bundle_dir / champion.bundle_id, playground.folder / "backup"
    shutil.copytree(folder, backup)
    if harm == "missing":
        shutil.rmtree(folder)
    else:
        (folder / "model.safetensors").write_bytes(b"damaged")
    playground.send(clicks(0, 1_500))

    status, [*_, line] = run_once(playground, "closed", *SMALL)

    assert status == 1
    assert announced(playground) == [champion]
    assert f"--give-up-champion {champion.bundle_id}" in line
    assert "Restore its folder" in line
    if harm == "damaged":
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        assert run_once(playground, "open", *SMALL)[0] == 0
    else:
        assert run_once(playground, "open", *SMALL, "--give-up-champion", champion.bundle_id)[0] == 0
    assert ("champion none" in playground.log("open").read_text()) == (harm == "missing")
    assert len(announced(playground)) == 2


@pytest.mark.release
def test_a_tombstone_takes_the_champion_away(playground: Any) -> None:
    """Whoever knows Kafka's tools can say so, too: the next bundle need only beat popularity."""
    announce(playground, encode_manifest(small_bundle(playground.settings.bundle_dir, 1)))
    shutil.rmtree(playground.settings.bundle_dir)
    announce(playground, None)
    playground.send(clicks(0, 1_500))

    status, [*_, line] = run_once(playground, "trainer", *SMALL)

    assert status == 0, line
    assert "champion none" in line


# A round that goes wrong.


def test_a_log_that_cannot_be_written_ends_the_trainer_though_a_training_hangs(playground: Any) -> None:
    """Status 1 within seconds and one line, as without a training."""
    playground.send(clicks(0, 1_000))
    trainer, let_go = start_hanging(playground, "trainer", *SMALL)
    full_at = playground.log("trainer").stat().st_size + 3_000
    resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (full_at, full_at))  # as on a full disk, a write fails
    rng = np.random.default_rng(1)
    began_s = time.monotonic()
    playground.send((f"user-{n}", rng.bytes(60).hex(), NOW_MS) for n in range(2_000))

    trainer.wait(15)

    let_go()
    assert time.monotonic() - began_s < 10
    assert trainer.exit_status == 1
    assert "make room" in playground.log("trainer").read_text().splitlines()[-1]


@pytest.mark.parametrize(("option", "status"), [((), 0), (("--once",), 1)])
def test_sigterm_kills_a_training_that_hangs(playground: Any, option: tuple[str, ...], status: int) -> None:
    """The clicks are written, no process is left, and with `--once` the status says that it was not trained."""
    playground.send(clicks(0, 1_000))
    trainer, let_go = start_hanging(playground, "trainer", *option, *SMALL, "--set", "log_flush_s=1000")
    processes = rounds_of(trainer)
    began_s = time.monotonic()

    trainer.stop(PATIENCE_S)

    assert time.monotonic() - began_s < 5
    assert trainer.exit_status == status
    assert processes
    assert not [process for process in processes if process.is_running()]
    assert logged_offsets(playground.settings.log_dir) == click_offsets(playground)
    let_go()


def test_a_training_that_gives_no_sign_of_life_is_killed_and_counts_as_failed(playground: Any) -> None:
    """Logging goes on meanwhile, and afterwards."""
    playground.send(clicks(0, 1_000))
    port = free_port()
    trainer, let_go = start_hanging(
        playground, "trainer", *SMALL, "--set", "training_stall_s=2", "--set", f"trainer_port={port}"
    )
    [*_, process] = rounds_of(trainer)
    playground.send(clicks(1_000, 50))
    wait_until_logged(playground, 1_050)

    playground.wait_for_log("trainer", "no sign of life", PATIENCE_S)

    assert not process.is_running()
    assert metric(port, 'nextclick_trainer_rounds_total{result="failed"}') == 1
    playground.send(clicks(1_050, 50))
    wait_until_logged(playground, 1_100)
    assert rounds_of(trainer) == []
    let_go()


@pytest.mark.parametrize("victim", ["training", "trainer"])
def test_a_training_dies_alone_and_a_trainer_takes_it_along(playground: Any, victim: str) -> None:
    """SIGKILL, as by the kernel when memory is short: it takes the training first, and logging goes on."""
    playground.send(clicks(0, 1_000))
    trainer, let_go = start_hanging(playground, "trainer", *SMALL)
    [process] = rounds_of(trainer)
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000"

    os.kill(process.pid if victim == "training" else trainer.pid, signal.SIGKILL)

    playground.wait_for(lambda: not process.is_running() or process.status() == "zombie", "its end", PATIENCE_S)
    if victim == "training":
        playground.wait_for_log("trainer", "SIGKILL", PATIENCE_S)
        playground.send(clicks(1_000, 50))
        wait_until_logged(playground, 1_050)
        assert trainer.exit_status is None
    let_go()


@pytest.mark.release
def test_the_trainer_itself_never_loads_torch_and_the_memory_of_a_training_comes_back(playground: Any) -> None:
    """After a bundle was published, the trainer has no library of torch in its memory, and no child."""
    playground.send(clicks(0, 1_500))
    trainer = playground.start("trainer", "train", *SMALL)
    playground.wait_for_log("trainer", "recall@20 new", PATIENCE_S)

    libraries = Path(f"/proc/{trainer.pid}/maps").read_text()

    assert "libtorch" not in libraries
    assert psutil.Process(trainer.pid).memory_info().rss < 300_000_000
    assert rounds_of(trainer) == []


def test_a_damaged_file_of_the_log_fails_the_training_and_logging_goes_on(playground: Any) -> None:
    """One line names it; it is not tried again before the next training is due."""
    log, port = ClickLog(playground.settings.log_dir), free_port()
    sent = clicks(0, 1_000)
    for number in range(50):  # small files, as many short flushes make them: the trainer would merge them
        rows = [LogRow(o, Click(*sent[o][:2], sent[o][2], 0)) for o in range(20 * number, 20 * number + 20)]
        log.append(0, rows[0].offset, rows[-1].offset, rows)
    send_to(playground, 0, count=1_000)
    trainer = start_logging(playground, "trainer", *SMALL, "--set", "min_clicks=1050", "--set", f"trainer_port={port}")
    path = log.files[10].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    playground.send(clicks(1_000, 50))
    failed = 'nextclick_trainer_rounds_total{result="failed"}'
    playground.wait_for(lambda: metric(port, failed) == 1, "a failed training", PATIENCE_S)
    playground.send(clicks(1_050, 50))
    playground.wait_for(lambda: metric(port, "nextclick_trainer_clicks_logged_total") == 100, "100 clicks", PATIENCE_S)
    trainer.stop(PATIENCE_S)

    lines = playground.log("trainer").read_text().splitlines()
    [line] = [line for line in lines if "the training failed" in line]
    assert path.name in line
    assert trainer.exit_status == 0
    assert announced(playground) == []


@pytest.mark.release
def test_whatever_a_training_raises_counts_as_failed_and_is_one_line(playground: Any) -> None:
    """Status 1 with `--once`, and 0 where there is honestly nothing to publish."""
    playground.send(clicks(0, 1_000))

    too_few = run_once(playground, "too-few", *NO_TRAINING)
    failed = run_once(playground, "failed", *SMALL, "--set", "learning_rate=1e30")

    assert too_few[0] == 0
    assert failed[0] == 1
    assert "the training failed" in failed[1][-1]
    assert "Traceback" not in "".join(failed[1])


# The schedule.


@pytest.mark.release
def test_a_restart_without_a_new_click_trains_nothing(playground: Any) -> None:
    """When the last training began, and on how many clicks, is kept with the log."""
    playground.send(clicks(0, 1_500))
    always, port = (*SMALL, "--set", "train_every_s=1"), free_port()
    assert run_once(playground, "first", *always)[0] == 0

    second = start_logging(playground, "second", *always, "--set", f"trainer_port={port}")
    for _ in range(3):  # each moves the position on, so the loop turned in between
        playground.send_raw([(b"user-1", b"not json")])
        ends = ClickLog(playground.settings.log_dir).ends
        playground.wait_for(lambda ends=ends: ClickLog(playground.settings.log_dir).ends != ends, "a flush", PATIENCE_S)

    assert health(port) == "logging clicks"
    assert rounds_of(second) == []
    playground.send(clicks(1_500, 1))
    playground.wait_for(lambda: rounds_of(second), "a training", PATIENCE_S)


def test_a_training_that_a_stop_cut_off_is_made_up_for_at_the_next_start(playground: Any) -> None:
    """It never happened."""
    playground.send(clicks(0, 1_000))
    first, let_go = start_hanging(playground, "first", *SMALL)
    first.stop(PATIENCE_S)
    let_go()

    _, let_go = start_hanging(playground, "second", *SMALL)

    let_go()
