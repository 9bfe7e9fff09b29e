"""The trainer as a user runs it, on a real broker: the log is complete, the bundle is announced and loads."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from confluent_kafka import TopicPartition

from nextclick.bundle import load_bundle
from nextclick.manifest import CHAMPION, Manifest, decode_manifest
from training.click_log import ClickLog

NOW_MS = 1_700_000_000_000
N_ITEMS = 60
ANSWER_S = 40.0


def structured_clicks(count: int, seed: int = 0) -> list[tuple[str, str, int]]:
    """Users who walk along a ring of items, two steps ahead, now and then somewhere else: easy to learn."""
    rng = np.random.default_rng(seed)
    place = rng.integers(N_ITEMS, size=count // 8)
    clicks = []
    for number in range(count):
        user = int(rng.integers(len(place)))
        clicks.append((f"user-{user}", f"item-{place[user]}", NOW_MS + number * 1_000))
        place[user] = rng.integers(N_ITEMS) if rng.random() < 0.1 else (place[user] + 2) % N_ITEMS
    return clicks


def run_trainer(playground: Any, name: str, *arguments: str) -> int | None:
    """Run `nextclick train` to its end; gives its exit status."""
    child = playground.start(name, "train", *arguments)
    child.wait(ANSWER_S)
    return child.exit_status  # type: ignore[no-any-return]


def announced(playground: Any) -> list[Manifest]:
    """Every announcement on the topic `models`."""
    messages = playground.read(playground.settings.models_topic)
    return [decode_manifest(message.value()) for message in messages if message.key() == CHAMPION.encode()]


def logged_offsets(log_dir: Path) -> list[tuple[int, int]]:
    """(partition, offset) of every row of a click log, as it is on disk."""
    log = ClickLog(log_dir)
    table = log.read(log.files)
    return sorted(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))


def click_offsets(playground: Any) -> list[tuple[int, int]]:
    """(partition, offset) of every valid click of the topic."""
    return sorted((click.user[0], click.offset) for click in playground.clicks())


def test_once_trains_from_nothing_and_announces_a_bundle_that_loads(playground: Any) -> None:
    """The first bundle beats popularity, its folder is where workers look, and its manifest says how it was judged."""
    playground.send(structured_clicks(4_000))

    status = run_trainer(playground, "train", "--once")

    log = playground.log("train").read_text()
    assert status == 0, log
    [manifest] = announced(playground)
    loaded, model = load_bundle(playground.settings.bundle_dir / manifest.bundle_id)
    assert loaded == manifest
    assert model.vocabulary.popularity.min() > 0
    assert manifest.metrics["recall@20"] > manifest.metrics["popularity_recall@20"]
    assert manifest.metrics["recall@20"] > 0.8
    assert "current_recall@20" not in manifest.metrics
    assert log.count("recall@20 new") == 1


def test_a_second_run_reads_on_and_doubles_no_row(playground: Any) -> None:
    """The file names are the position; the second bundle is fine-tuned from the first or better than it."""
    playground.send(structured_clicks(4_000))
    first = run_trainer(playground, "first", "--once")
    playground.send(structured_clicks(1_500, seed=1))
    playground.send_raw([(b"user-1", b"not json"), (None, b"{}")])

    second = run_trainer(playground, "second", "--once")

    assert (first, second) == (0, 0), playground.log("second").read_text()
    assert logged_offsets(playground.settings.log_dir) == click_offsets(playground)
    manifests = announced(playground)
    assert len(manifests) == 2, playground.log("second").read_text()
    assert manifests[1].parent == manifests[0].bundle_id
    assert manifests[1].metrics["recall@20"] >= manifests[1].metrics["current_recall@20"]


def test_rejected_records_at_the_end_of_a_partition_are_not_read_again(playground: Any) -> None:
    """A run that saw only rejected records moves the position on all the same."""
    playground.send_raw([(b"user-1", b"not json")] * 5)

    status = run_trainer(playground, "train", "--once")

    ends = {message.partition(): message.offset() + 1 for message in playground.read(playground.settings.clicks_topic)}
    assert status == 0
    assert ClickLog(playground.settings.log_dir).ends == ends
    assert logged_offsets(playground.settings.log_dir) == []


def test_killed_again_and_again_the_log_is_complete_and_has_no_row_twice(playground: Any) -> None:
    """SIGKILL at any moment neither loses nor doubles a row."""
    playground.send(structured_clicks(3_000))
    quick = ("--set", "log_flush_s=0.1", "--set", "min_clicks=1000000")
    log_dir = playground.settings.log_dir
    for number in range(4):
        child = playground.start(f"killed-{number}", "train", *quick)
        playground.wait_for_log(f"killed-{number}", "logging clicks")
        seen = len(list(log_dir.glob("partition=*/*")))
        playground.send(structured_clicks(500, seed=number))
        deadline_s = time.monotonic() + ANSWER_S
        while len(list(log_dir.glob("partition=*/*"))) <= seen and time.monotonic() < deadline_s:
            pass  # as soon as anything new is seen in the folder, also a file that is being written
        os.kill(child.pid, signal.SIGKILL)
        child.wait(ANSWER_S)

    status = run_trainer(playground, "last", "--once", *quick)

    assert status == 0
    assert logged_offsets(log_dir) == click_offsets(playground)
    assert len(logged_offsets(log_dir)) == 5_000
