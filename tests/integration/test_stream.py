"""A worker on a real broker: answers, order, dead letters, kills, rebalances, swaps."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from msgspec import UNSET

from demo.children import Child
from stream.agent import REJECT_SHARE_RECORDS
from stream.topics.topics import Topics
from tests.chaos.bundles import announce, mixed_bundle, untrained_bundle
from tests.chaos.evidence import gather
from tests.scrapes import scrape, value_of
from tests.simulated_clicks import NOW_MS, simulated
from tools.client_config import librdkafka_config

N_CRAWLED = 12_000  # records of one user


def worker_port(playground: Any, name: str = "worker") -> int:
    """The port that the worker's log names."""
    match = re.search(r'"port":(\d+)', playground.log(name).read_text())
    assert match is not None
    return int(match.group(1))


def fetch(port: int, path: str) -> str:
    """What the worker's HTTP server answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
        text: str = response.read().decode()
        return text


def is_ready(port: int) -> bool:
    """Whether the worker has its partitions and their states."""
    try:
        return "serving" in fetch(port, "/readyz")
    except OSError:
        return False


def test_every_click_is_answered_in_order_and_counted_once(playground: Any) -> None:
    """Guarantees 1 and 3 on 5,000 simulated clicks; the state is the offline run's."""
    playground.worker()
    playground.send(simulated(5_000))
    updates = playground.wait_until_answered()

    assert len(updates) == 5_000
    playground.assert_sequences_are_right(updates)
    playground.assert_states_equal_offline()
    assert {update.strategy for update in updates} == {"popular"}
    assert all(len(update.items) > 0 for update in updates)
    playground.assert_no_error_logged("worker")


def test_bad_clicks_go_to_dead_letters_with_their_reasons_and_the_next_click_is_served(playground: Any) -> None:
    """Guarantee 5: bad input is data."""
    playground.worker()
    big = b'{"user_id":"u1","item_id":"' + b"x" * 1_000_000 + b'"}'
    playground.send_raw(
        [
            (b"u1", b"{broken"),
            (b"u1", b'{"user_id":"u1"}'),
            (b"u1", big),
            (None, b'{"user_id":"u1","item_id":"i1"}'),
            (b"u2", b'{"user_id":"u1","item_id":"i1"}'),
        ]
    )
    playground.send([("u1", "good", NOW_MS)])
    [update] = playground.wait_until_answered()
    rejected = playground.read(playground.settings.rejected_topic)
    headers = [{name: value.decode() for name, value in message.headers()} for message in rejected]

    assert sorted(h["reason"] for h in headers) == ["bad_json", "missing_field", "no_key", "too_large", "wrong_key"]
    assert update.user_id == "u1"
    assert update.sequence == 1
    [large] = [message for message, h in zip(rejected, headers, strict=True) if h["reason"] == "too_large"]
    assert large.value() == big[: 16 * 1024]
    assert all(h["topic"] == playground.settings.clicks_topic and h["offset"].isdigit() for h in headers)


def test_a_killed_worker_loses_and_doubles_nothing(playground: Any) -> None:
    """Guarantees 1 and 2: SIGKILL in the middle, a restart on the same data, and every state is as if nothing was."""
    clicks = simulated(20_000, seed=3)
    worker = playground.worker(NEXTCLICK_MAX_CHUNK_RECORDS="50")
    kill_at_work(playground, worker, playground.send, clicks)
    n_before = len(playground.updates())
    playground.worker()
    updates = playground.wait_until_answered()

    assert 0 < n_before < len(clicks)
    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline()


def test_a_hot_user_retries_and_records_of_several_clicks_outlive_a_kill(playground: Any) -> None:
    """Thousands of clicks of one user among others', a quarter in records of two, every tenth record sent twice."""
    playground.settings = replace(playground.settings, id_field="event_id")
    store = playground.settings.bundle_dir
    announce(playground.settings, untrained_bundle(store, [f"i{number}" for number in range(500)], seed=1))
    worker = playground.worker(NEXTCLICK_MAX_CHUNK_RECORDS="300")
    playground.wait_for_log("worker", "serving a new bundle")
    records = [record for number in range(N_CRAWLED) for record in crawled(number)]
    kill_at_work(playground, worker, playground.send_raw, records)
    n_before = len(playground.updates())
    playground.worker()
    updates = playground.wait_until_answered()
    newest = {user: state for user, state in gather(playground.settings).states if user[1] == b"crawler"}

    assert 0 < n_before < N_CRAWLED
    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline(store)
    assert [state.sequence for state in newest.values()] == [N_CRAWLED * 5 // 4]  # in records of one or two clicks


def kill_at_work(
    playground: Any, worker: Child, send: Callable[[Sequence[Any]], object], clicks: Sequence[Any]
) -> None:
    """Kill a worker that has answered some of the clicks; the second half comes while it cannot answer any more."""
    half = len(clicks) // 2
    send(clicks[:half])
    playground.wait_for(lambda: playground.count(playground.settings.recommendations_topic) > 0, "a first update")
    os.kill(worker.pid, signal.SIGSTOP)
    send(clicks[half:])
    os.kill(worker.pid, signal.SIGKILL)


def crawled(number: int) -> list[tuple[bytes, bytes]]:
    """The crawler's record of a number, sent twice now and then, and now and then a click of somebody else."""
    clicks = [
        {"user_id": "crawler", "item_id": f"i{(number * 7 + place) % 600}", "event_id": f"{number}-{place}"}
        for place in range(2 if number % 4 == 0 else 1)
    ]
    record = (b"crawler", json.dumps(clicks if len(clicks) > 1 else clicks[0]).encode())
    other = f"u{number % 40}"
    theirs = (other.encode(), json.dumps({"user_id": other, "item_id": f"i{number % 600}"}).encode())
    return [record] * (2 if number % 10 == 0 else 1) + ([theirs] if number % 20 == 0 else [])


def test_partitions_move_between_workers_without_loss(playground: Any) -> None:
    """One worker joins late, the other is asked to stop: every click is answered, every state is right."""
    first = playground.worker("first")
    playground.send(simulated(3_000, seed=4))
    playground.wait_for_log("first", "partitions assigned")
    playground.worker("second")
    playground.send(simulated(3_000, seed=5))
    playground.wait_for_log("second", "partitions assigned")
    playground.send(simulated(3_000, seed=6))
    first.stop(10)
    playground.send(simulated(3_000, seed=7))
    updates = playground.wait_until_answered()

    assert first.exit_status == 0
    playground.assert_sequences_are_right(updates)
    playground.assert_states_equal_offline()
    playground.assert_no_error_logged("first", "second")


@pytest.mark.release
def test_partitions_move_while_a_model_is_at_work(playground: Any) -> None:
    """Chunks that are being scored when their partition is taken away are dropped, not published and not fatal."""
    clicks = simulated(2_000, seed=11)
    store = playground.settings.bundle_dir
    items = sorted({item for _, item, _ in clicks} | {f"more-{number}" for number in range(20_000)})
    announce(playground.settings, untrained_bundle(store, items, seed=1))
    playground.worker("first", NEXTCLICK_MAX_CHUNK_RECORDS="100")
    playground.wait_for_log("first", "serving a new bundle")
    waves = itertools.cycle(clicks[begin : begin + 100] for begin in range(0, len(clicks), 100))

    def is_there(name: str) -> bool:
        """Whether a worker has got its partitions; until then there is always something to score."""
        playground.send(next(waves))
        return "partitions assigned" in playground.log(name).read_text()

    for name in ("visitor-1", "visitor-2"):
        visitor = playground.worker(name, NEXTCLICK_MAX_CHUNK_RECORDS="100")
        playground.wait_for(partial(is_there, name), f"{name} has partitions")
        visitor.stop(20)
        assert visitor.exit_status == 0, visitor.log_tail
    updates = playground.wait_until_answered()

    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline(store)
    assert "Traceback" not in playground.log("first").read_text()


def test_a_click_that_is_named_like_a_key_of_the_store_is_rejected(playground: Any) -> None:
    """Faust keeps the changelog's offset under a key of its own beside the states."""
    key = "__faust\0offset__"
    playground.worker()
    playground.send([(key, "i1", NOW_MS), (key, "i2", NOW_MS), ("u1", "i1", NOW_MS)])
    playground.wait_until_answered()
    playground.wait_for(lambda: playground.count(playground.settings.rejected_topic) == 2, "two dead letters")

    assert {update.user_id for update in playground.updates()} == {"u1"}


def test_a_new_bundle_is_swapped_in_between_two_batches(playground: Any) -> None:
    """Guarantees 4 and 8: two swaps while clicks flow; the states equal an offline run with the bundles named."""
    clicks = simulated(6_000, seed=8)
    items = sorted({item for _, item, _ in clicks})
    store = playground.settings.bundle_dir
    playground.worker()
    playground.send(clicks[:2_000])
    playground.wait_until_answered()
    one = untrained_bundle(store, items[: len(items) // 2], seed=1)
    announce(playground.settings, one)
    playground.wait_for_log("worker", one.bundle_id)
    playground.send(clicks[2_000:4_000])
    playground.wait_until_answered()
    two = untrained_bundle(store, items, seed=2)
    announce(playground.settings, two)
    playground.wait_for_log("worker", two.bundle_id)
    playground.send(clicks[4_000:])
    updates = playground.wait_until_answered()

    playground.assert_sequences_are_right(updates)
    playground.assert_states_equal_offline(store)
    assert {update.bundle_id for update in updates} == {"", one.bundle_id, two.bundle_id}
    assert updates[-1].strategy == "rnn"


def test_updates_say_why_with_the_setting_explain(playground: Any) -> None:
    """The parts add up to each score; states are those of a worker that says nothing, and so is the popular list."""
    store, items = playground.settings.bundle_dir, [f"i{number}" for number in range(40)]
    manifest = mixed_bundle(store, items, seed=1)
    playground.worker(NEXTCLICK_EXPLAIN="true")
    playground.send([("u1", "i1", NOW_MS)])
    [popular] = playground.wait_until_answered()
    announce(playground.settings, manifest)
    playground.wait_for_log("worker", manifest.bundle_id)
    playground.send([("u1", item, NOW_MS) for item in ("i2", "i4", "i2")])
    updates = playground.wait_until_answered()

    clicked, listed = {"i1", "i2", "i4"}, updates[-1].items
    assert all(item.because is UNSET for item in popular.items)
    assert updates[-1].strategy == "rnn"
    assert all(sum(part.share for part in item.because) == pytest.approx(item.score, abs=1e-9) for item in listed)
    assert {part.kind for item in listed for part in item.because} >= {"neighbour", "reclick"}
    assert {part.item_id for item in listed for part in item.because if part.kind == "neighbour"} <= clicked
    playground.assert_states_equal_offline(store)


def test_a_corrupt_bundle_is_refused_counted_and_logged_and_the_stream_goes_on(playground: Any) -> None:
    """Guarantee 4: the worker keeps the bundle that it has."""
    store = playground.settings.bundle_dir
    good = untrained_bundle(store, ["i1", "i2"], seed=1)
    announce(playground.settings, good)
    playground.worker()
    playground.wait_for_log("worker", good.bundle_id)
    bad = untrained_bundle(store, ["i1", "i2"], seed=2)
    with (store / bad.bundle_id / "model.safetensors").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")
    announce(playground.settings, bad)
    playground.wait_for_log("worker", "bundle refused")
    playground.send([("u1", "i1", NOW_MS)])
    [update] = playground.wait_until_answered()

    assert update.bundle_id == good.bundle_id
    assert 'nextclick_bundle_swaps_total{result="refused"} 1.0' in scrape(worker_port(playground))


@pytest.mark.release
def test_a_worker_starts_with_its_last_verified_copy_when_the_store_is_gone(playground: Any) -> None:
    """Guarantee 4: the local copy is served until something newer can be loaded."""
    store = playground.settings.bundle_dir
    manifest = untrained_bundle(store, ["i1", "i2"], seed=1)
    announce(playground.settings, manifest)
    worker = playground.worker()
    playground.wait_for_log("worker", manifest.bundle_id)
    worker.stop(10)
    store.rename(store.with_name("gone"))
    playground.worker()
    playground.send([("u1", "i1", NOW_MS)])
    [update] = playground.wait_until_answered()

    assert update.bundle_id == manifest.bundle_id


def test_start_latest_passes_over_what_was_there_before(playground: Any) -> None:
    """`--start latest` says where a new application begins."""
    playground.send([("old", "i1", NOW_MS)])
    playground.worker("worker", "--start", "latest")
    playground.wait_for_log("worker", "partitions assigned")
    wait = 0
    while not (updates := playground.updates()) and wait < 100:
        # The position at the end is taken a moment after the assignment: send until something is answered.
        playground.send([("new", "i1", NOW_MS)])
        wait += 1

    assert {update.user_id for update in updates} == {"new"}


@pytest.mark.long
def test_start_latest_begins_once_also_when_the_worker_is_killed_at_once(playground: Any) -> None:
    """Where the application begins is committed before any click is read: later clicks are not passed over."""
    latest = ("--start", "latest", "--set", "commit_interval_s=600")
    worker = playground.worker("worker", *latest)
    playground.wait_for_log("worker", "worker started")
    playground.wait_for(lambda: is_ready(worker_port(playground)), "a worker that is ready")
    worker.kill()
    playground.send(("new", f"i{i}", NOW_MS) for i in range(5))
    playground.worker("again", *latest)
    updates = playground.wait_until_answered()

    playground.assert_sequences_are_right(updates)


def test_health_and_metrics_answer_over_http(playground: Any) -> None:
    """/healthz and /readyz are for a supervisor, /metrics for Prometheus."""
    playground.worker()
    playground.send([("u1", "i1", NOW_MS)])
    playground.wait_until_answered()
    port = worker_port(playground)

    assert "running" in fetch(port, "/healthz")
    assert "serving popularity" in fetch(port, "/readyz")
    shown = scrape(port)
    assert 'nextclick_clicks_total{outcome="applied"} 1.0' in shown
    for part in ("to_update", "wait", "compute", "publish"):
        assert value_of(shown, f"nextclick_click_{part}_seconds_count") == 1


def test_metrics_say_how_a_worker_stands(playground: Any) -> None:
    """What it holds, and that nothing waits."""
    playground.worker()
    playground.send((f"u{number}", "i1", NOW_MS) for number in range(50))
    playground.wait_until_answered()
    port = worker_port(playground)
    shown = scrape(port)
    lags = re.findall(r"^nextclick_lag_records\{.*\} (\S+)$", shown, re.MULTILINE)
    ages_s = re.findall(r"^nextclick_oldest_click_age_seconds\{.*\} (\S+)$", shown, re.MULTILINE)

    assert {*map(float, lags)} == {*map(float, ages_s)} == {0.0}
    assert value_of(shown, 'nextclick_phase{phase="serving"}') == 1
    assert value_of(shown, 'nextclick_phase{phase="starting"}') == 0
    assert value_of(shown, "nextclick_partitions") == len(lags) == len(ages_s)
    assert value_of(shown, "nextclick_ready") == value_of(shown, "nextclick_broker_reachable") == 1
    assert value_of(shown, "nextclick_rebalances_total") == value_of(shown, "nextclick_recovery_seconds_count") == 1
    assert value_of(shown, "nextclick_lease_lost_total") == 0
    assert value_of(shown, "nextclick_state_users") == 50
    assert (value_of(shown, 'nextclick_folder_bytes{folder="data_dir"}') or 0) > 1_000


@pytest.mark.long
def test_too_many_rejects_stop_the_worker_with_the_dead_letters_written(playground: Any) -> None:
    """`max_reject_share` is judged over at least 1,000 records. At every start what the message points to is there."""
    playground.send_raw((b"u", b"{broken") for _ in range(2_000))
    for _ in ("a first start", "one that a supervisor makes after it"):
        worker = playground.worker(NEXTCLICK_MAX_REJECT_SHARE="0.5")
        worker.wait(30)
        rejected = set(gather(playground.settings).rejected)

        assert worker.exit_status == 1
        assert "look at the reasons in the topic of rejected clicks" in worker.log_tail.splitlines()[-1]
        assert len(rejected) >= REJECT_SHARE_RECORDS


@pytest.mark.parametrize(
    ("setting", "said"),
    [("broker=127.0.0.1:1", "start one"), ("bundle=/nowhere", "bundle /nowhere")],
    ids=["a broker that does not answer", "a bundle that is not there"],
)
def test_a_mistake_at_start_is_one_line_and_a_status(playground: Any, setting: str, said: str) -> None:
    """What is wrong and what to do; no stack trace. Mistakes that need no broker are in the tests of the commands."""
    worker = playground.worker("worker", "--set", setting)
    worker.wait(30)
    [line] = playground.log("worker").read_text().splitlines()

    assert worker.exit_status == 1
    assert line.startswith("nextclick:")
    assert said in line


@pytest.mark.long
def test_a_full_disk_stops_the_worker_with_one_line_and_loses_nothing(playground: Any) -> None:
    """Guarantee 6: exit non-zero, nothing unfinished acknowledged; with room again, every click is answered."""
    command = [sys.executable, "-c", "from cli.main import main; main()", "stream"]
    limited = ["sh", "-c", 'ulimit -f 256; exec "$@"', "sh", *command]  # no file of more than 128 or 256 KiB
    environment = dict(os.environ) | playground.settings.as_environment() | {"NEXTCLICK_MAX_CHUNK_RECORDS": "100"}
    playground.send(simulated(12_000, seed=9))
    run = subprocess.run(limited, env=environment, capture_output=True, text=True, timeout=60, check=False)
    playground.start("worker", "stream")
    updates = playground.wait_until_answered()

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("nextclick: expected to write to data_dir")
    assert "Traceback" not in run.stderr
    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline()


def test_topics_that_were_created_anew_are_told_from_the_local_store(playground: Any) -> None:
    """A store that knows more than its changelog is never used; the message says what to do."""
    worker = playground.worker()
    playground.send(simulated(500))
    playground.wait_until_answered()
    worker.stop(10)
    changelog = playground.settings.changelog_topic
    admin = AdminClient(librdkafka_config(playground.settings))
    admin.delete_topics([changelog])[changelog].result(10)
    playground.wait_for(lambda: changelog not in admin.list_topics(timeout=10).topics, "the changelog is gone")
    Topics(playground.settings).create()
    again = playground.worker()
    again.wait(30)

    assert again.exit_status == 1
    assert "Delete the folder" in again.log_tail
    assert "Traceback" not in again.log_tail
