"""The trainer as a user runs it, on a real broker: the log is complete, the bundle is announced and loads."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.bundle import load_bundle
from tests.scrapes import scrape
from tests.trainers import announced, click_offsets, free_port, logged_offsets, metric
from training.service.click_log import ClickLog

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


def test_once_trains_from_nothing_and_announces_a_bundle_that_loads(playground: Any) -> None:
    """The first bundle beats popularity, its folder is where workers look, and its manifest says how it was judged."""
    playground.send(structured_clicks(4_000))

    status = run_trainer(playground, "train", "--once")

    log = playground.log("train").read_text()
    assert status == 0, log
    [manifest] = announced(playground)
    loaded, model = load_bundle(playground.settings.bundle_dir / manifest.bundle_id)
    assert loaded == manifest
    assert model.popularity.min() > 0
    assert manifest.metrics["recall@20"] > manifest.metrics["popularity_recall@20"]
    assert manifest.metrics["recall@20"] > 0.8
    assert "current_recall@20" not in manifest.metrics
    assert manifest.judgement.startswith("better than popularity; recall@20 new")
    assert log.count(manifest.judgement) == 1
    assert manifest.settings["cell"] == "gru"
    assert set(manifest.versions) == {"nextclick", "numpy", "torch"}


@pytest.mark.release
def test_a_bundle_that_a_wrong_setting_spoils_is_refused_and_the_champion_stays(playground: Any) -> None:
    """Every number of it is finite and every file in order; it ranks as chance does, and the line says so.

    The next round does not go on from the champion: it might be refused again and again.
    """
    playground.send(structured_clicks(3_000))
    first = run_trainer(playground, "first", "--once", "--set", "hidden_size=16")
    [checkpoint] = (playground.settings.log_dir / "checkpoints").iterdir()
    playground.send(structured_clicks(500, seed=1))

    spoiling = ("--set", "hidden_size=16", "--set", "learning_rate=1000", "--set", "neighbours=0")
    second = run_trainer(playground, "second", "--once", *spoiling)

    log = playground.log("second").read_text()
    assert (first, second) == (0, 0), log
    assert "not published: not better than popularity; worse than the champion; " in log
    assert len(announced(playground)) == 1
    assert not checkpoint.exists()


@pytest.mark.release
def test_a_second_run_reads_on_and_doubles_no_row(playground: Any) -> None:
    """The file names are the position; the second training goes on from the first bundle."""
    playground.send(structured_clicks(4_000))
    first = run_trainer(playground, "first", "--once")
    playground.send(structured_clicks(1_500, seed=1))
    playground.send_raw([(b"user-1", b"not json"), (None, b"{}")])

    second = run_trainer(playground, "second", "--once")

    assert (first, second) == (0, 0), playground.log("second").read_text()
    assert logged_offsets(playground.settings.log_dir) == click_offsets(playground)
    first_bundle, *more = announced(playground)
    log = playground.log("second").read_text()
    assert f'"parent":"{first_bundle.bundle_id}"' in log
    assert "champion none" not in log
    assert [manifest.bundle_id for manifest in more] == re.findall(r'"bundle":"(\w+)"', log)
    assert all(manifest.metrics["recall@20_over_current_high"] >= 0.0 for manifest in more)


def test_rejected_records_at_the_end_of_a_partition_are_not_read_again(playground: Any) -> None:
    """A run that saw only rejected records moves the position on all the same."""
    playground.send_raw([(b"user-1", b"not json")] * 5)

    status = run_trainer(playground, "train", "--once")

    ends = {message.partition(): message.offset() + 1 for message in playground.read(playground.settings.clicks_topic)}
    assert status == 0
    assert ClickLog(playground.settings.log_dir).ends == ends
    assert logged_offsets(playground.settings.log_dir) == []


@pytest.mark.long
def test_sigterm_in_a_training_writes_the_log_and_leaves_at_once(playground: Any) -> None:
    """Exit status 0 within seconds, nothing announced, every click that was read in the log."""
    playground.send(structured_clicks(5_000))
    endless = ("--set", "epochs=1000000", "--set", "log_flush_s=1000")
    child = playground.start("trainer", "train", "--verbose", *endless)
    playground.wait_for_log("trainer", "pass 1")
    began_s = time.monotonic()

    child.stop(ANSWER_S)

    assert time.monotonic() - began_s < 5
    assert child.exit_status == 0
    assert logged_offsets(playground.settings.log_dir) == click_offsets(playground)
    assert announced(playground) == []


@pytest.mark.long
def test_it_trains_again_when_the_log_has_doubled_and_serves_its_metrics(playground: Any) -> None:
    """Two bundles while it runs; /metrics and /healthz tell of them."""
    port = free_port()
    playground.send(structured_clicks(3_200))
    playground.start("trainer", "train", "--set", "log_flush_s=0.5", "--set", f"trainer_port={port}")
    wait_until(lambda: len(announced(playground)) == 1, "the first bundle")
    playground.send(structured_clicks(4_000, seed=1))
    wait_until(lambda: playground.log("trainer").read_text().count("recall@20 new") == 2, "a second training")

    metrics = scrape(port)
    health = urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5)

    newest = announced(playground)[-1]
    assert f'nextclick_trainer_bundle_info{{bundle="{newest.bundle_id}",cell="gru"}} 1.0' in metrics
    assert 'nextclick_trainer_rounds_total{result="published"}' in metrics
    assert "nextclick_trainer_clicks_logged_total 7200.0" in metrics
    assert 'nextclick_trainer_recall_at_20_ratio{model="new"}' in metrics
    assert health.status == 200


def test_a_second_trainer_waits_and_says_so(playground: Any) -> None:
    """It takes over when the first one ends; waiting, it is not down, and can be stopped.

    On one machine it can wait for the first one's port, too.
    """
    ports = [free_port(), free_port()]
    first = playground.start("first", "train", "--set", f"trainer_port={ports[0]}")
    playground.wait_for_log("first", "logging clicks")
    playground.start("second", "train", "--set", f"trainer_port={ports[1]}")
    third = playground.start("third", "train", "--set", f"trainer_port={ports[0]}")
    playground.wait_for_log("second", "another trainer writes the click log")
    playground.wait_for_log("third", "another trainer writes the click log")
    wait_until(lambda: metric(ports[1], "nextclick_memory_limit_bytes") > 0, "it is not down")
    roles = [metric(port, "nextclick_trainer_has_role") for port in ports]
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/readyz", timeout=5)

    third.stop(ANSWER_S)
    first.stop(ANSWER_S)

    playground.wait_for_log("second", "logging clicks")
    assert (first.exit_status, third.exit_status) == (0, 0)
    assert roles == [1, 0]
    assert metric(ports[1], "nextclick_trainer_has_role") == 1


def test_clicks_that_retention_took_are_one_line_that_names_them(playground: Any) -> None:
    """Partition, offsets and what to do; not when the log never knew the partition."""
    playground.send(structured_clicks(2_000))
    assert run_trainer(playground, "first", "--once") == 0
    before = ClickLog(playground.settings.log_dir).ends
    playground.send(structured_clicks(2_000, seed=1))
    delete_clicks(playground, {partition: end + 5 for partition, end in before.items()})

    status = run_trainer(playground, "second", "--once")
    [line] = playground.log("second").read_text().splitlines()

    assert status == 1
    for partition, end in before.items():
        assert f"{end} to {end + 4} of partition {partition}" in line
    new_log = ("--set", f"log_dir={playground.folder / 'new-log'}")
    assert run_trainer(playground, "new", "--once", *new_log) == 0


def test_start_latest_leaves_old_clicks_out_once(playground: Any) -> None:
    """A new log begins at the end of the topic; what comes after that is logged, whenever the trainer runs."""
    playground.send(structured_clicks(500))
    assert run_trainer(playground, "first", "--once", "--start", "latest") == 0
    begin = ClickLog(playground.settings.log_dir).ends
    playground.send(structured_clicks(300, seed=1))

    assert run_trainer(playground, "second", "--once", "--start", "latest") == 0

    expected = [(partition, offset) for partition, offset in click_offsets(playground) if offset >= begin[partition]]
    assert logged_offsets(playground.settings.log_dir) == expected
    assert len(expected) == 300


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("broker=127.0.0.1:9", "expected a broker at 127.0.0.1:9"),
        ("clicks_topic=no-such-topic", "run `nextclick topics --broker"),
        ("log_dir=/proc/nothing", "expected to write the click log /proc/nothing"),
    ],
)
def test_a_start_that_cannot_work_is_one_line(playground: Any, setting: str, expected: str) -> None:
    """What was expected, what was found, what to do; no stack trace."""
    began_s = time.monotonic()

    status = run_trainer(playground, "trainer", "--set", setting)

    lines = playground.log("trainer").read_text().splitlines()
    assert status == 1
    assert expected in lines[-1]
    assert len(lines) == 1, lines
    assert time.monotonic() - began_s < 25


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline_s = time.monotonic() + ANSWER_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.1)


def delete_clicks(playground: Any, before: dict[int, int]) -> None:
    """Remove the records before an offset of each partition, as retention does."""
    admin = AdminClient({"bootstrap.servers": playground.settings.broker})
    topic = playground.settings.clicks_topic
    deleted = admin.delete_records([TopicPartition(topic, partition, offset) for partition, offset in before.items()])
    for future in deleted.values():
        future.result(ANSWER_S)
