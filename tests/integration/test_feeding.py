"""`simulate`, `replay` and `send` as a user runs them, on a real broker."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from nextclick.hashing import partition_of
from nextclick.updates import POPULAR, AnsweredClick, Recommendation, ServedBy, encode_update, ranked_list

PARTITIONS = 3
ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
COMMAND = (sys.executable, "-c", "from cli.main import main; main()")


@pytest.fixture
def place(broker: str, topic_prefix: str) -> list[str]:
    """Options that name the broker and topics of this test's own; the topics exist."""
    names = [f"{topic_prefix}-clicks", f"{topic_prefix}-recommendations"]
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        future.result(DEADLINE_S)
    settings = (f"clicks_topic={names[0]}", f"recommendations_topic={names[1]}")
    return ["--broker", broker, *(word for setting in settings for word in ("--set", setting))]


def test_replay_sends_every_click_in_order(place: list[str], tmp_path: Path) -> None:
    """Keys are user ids, event time is in the value only, and a user's clicks are in the order of time."""
    path = _click_file(tmp_path, n_clicks=5_000, n_users=70)

    ended = _run("replay", str(path), "--format", "csv", *place)

    messages = _read(place, 5_000)
    assert ended.returncode == 0, ended.stderr
    assert "delivered 5,000 of 5,000 clicks" in ended.stdout
    last: dict[bytes | None, int] = {}
    for message in messages:
        click = _click(message)
        assert message.key() == click["user_id"].encode()
        assert message.partition() == partition_of(click["user_id"].encode(), PARTITIONS, "murmur2_random")
        assert click["timestamp_ms"] > last.get(message.key(), 0)
        last[message.key()] = click["timestamp_ms"]
        # The file is of 2014: a record of that time would be deleted by retention.
        assert time.time() * 1000 - message.timestamp()[1] < 600_000
    assert len(last) == 70


def test_replay_keeps_the_gaps_at_a_speed(place: list[str], tmp_path: Path) -> None:
    """Two minutes at 60x take two seconds."""
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,item_id,timestamp\nu,a,1700000000\nu,b,1700000060\nu,c,1700000120\n")

    ended = _run("replay", str(path), "--format", "csv", "--speed", "60x", *place)

    sent_ms = [message.timestamp()[1] for message in _read(place, 3)]
    assert ended.returncode == 0, ended.stderr
    assert sent_ms[1] - sent_ms[0] >= 900
    assert sent_ms[2] - sent_ms[0] >= 1_900


def test_replay_without_times_sends_the_time_of_sending(place: list[str], tmp_path: Path) -> None:
    """Only the order is known; a speed is then refused."""
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,item_id\nu,b\nu,a\n")

    ended = _run("replay", str(path), "--format", "csv", *place)
    refused = _run("replay", str(path), "--format", "csv", "--speed", "60x", *place)

    clicks = [_click(message) for message in _read(place, 2)]
    assert ended.returncode == 0, ended.stderr
    assert [click["item_id"] for click in clicks] == ["b", "a"]
    assert abs(time.time() * 1000 - clicks[0]["timestamp_ms"]) < 600_000
    assert refused.returncode == 1
    *said, error = refused.stderr.splitlines()
    assert said[-1].endswith("no column of times is known, so the order of the file is taken; name one with --time")
    assert "name the column of times with --time, or use --speed max" in error


def test_replay_names_what_a_worker_would_reject_and_sends_the_rest(place: list[str], tmp_path: Path) -> None:
    """With lines and reasons; a bad line ends it before anything is sent."""
    path = tmp_path / "clicks.csv"
    path.write_text(
        f"user_id,item_id,timestamp\nu,{'x' * 300},1764000001\nu,a,4070908800\nu,b,1764000003\n,c,1764000004\n"
        "u,d,638990000000000000\n"
    )

    refused = _run("replay", str(path), *place)
    ended = _run("replay", str(path), "--skip-bad", *place)

    (message,) = _read(place, 1)
    assert _click(message)["item_id"] == "b"
    assert refused.returncode == 1
    assert "line 5: expected the user, found an empty value" in refused.stderr
    assert ended.returncode == 0, ended.stderr
    assert "delivered 1 of 1 clicks" in ended.stdout
    for said in (
        "line 2: left out",
        "line 3: left out",
        "line 6: left out",
        "line 5: expected the user, found an empty value or a word for none like NULL; skipped it",
    ):
        assert said in ended.stderr


def test_a_dump_of_a_topic_is_replayed(place: list[str], tmp_path: Path) -> None:
    """Its records' values, a line each, are the same again."""
    path = _click_file(tmp_path, n_clicks=500, n_users=7)
    _run("replay", str(path), *place)
    dump = tmp_path / "dump.jsonl"
    dump.write_bytes(b"".join(message.value() + b"\n" for message in _read(place, 500)))

    ended = _run("replay", str(dump), *place)

    values = [message.value() for message in _read(place, 1_000)]
    assert ended.returncode == 0, ended.stderr
    assert "dump.jsonl: jsonl, user from user_id, item from item_id, time from timestamp_ms" in ended.stderr
    assert set(Counter(values).values()) == {2}


def test_an_interrupted_replay_says_how_much_arrived(place: list[str], tmp_path: Path) -> None:
    """Ctrl-C delivers what was handed over, counts it, and ends with 130."""
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,item_id,timestamp\nu,a,1700000001\nu,b,1700000002\nu,c,1700100000\n")
    with _running("replay", str(path), "--format", "csv", "--speed", "1x", *place) as process:
        _read(place, 2)

        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 130, errors
    assert "delivered 2 of 3 clicks" in output


@pytest.mark.parametrize("command", ["simulate", "replay"])
def test_a_terminal_shows_the_progress_in_place(place: list[str], tmp_path: Path, command: str) -> None:
    """One line is drawn again and again, and the last one stays."""
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,item_id,timestamp\nu,a,1700000001\nu,b,1700000004\n")
    arguments = {
        "simulate": ["--rate", "100", "--clicks", "300"],
        "replay": [str(path), "--format", "csv", "--speed", "1x"],
    }[command]
    screen, stdout = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, command, *arguments, *place], stdout=stdout, stderr=subprocess.PIPE, env=_environment()
    )
    os.close(stdout)
    shown = _everything(screen)
    errors = process.communicate(timeout=DEADLINE_S)[1]

    assert process.returncode == 0, errors
    assert shown.count("\r\x1b[") > 1
    assert {"simulate": "sent 300 clicks", "replay": "delivered 2 of 2 clicks"}[command] in shown.splitlines()[-1]


def test_simulate_ends_after_n_clicks(place: list[str]) -> None:
    """The last line counts what the broker has, and gives the ceiling."""
    ended = _run("simulate", "--rate", "max", "--clicks", "5000", "--seed", "1", *place)

    messages = _read(place, 5_000)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert (summary["clicks"], summary["done"]) == (5_000, True)
    assert 0.4 < summary["ceiling_recall_at_20"] < 0.8
    assert all(message.key() == _click(message)["user_id"].encode() for message in messages)


def test_simulate_keeps_the_rate_and_ends_with_a_summary(place: list[str]) -> None:
    """One JSON object a line; SIGTERM is the usual end of an endless stream."""
    with _running("simulate", "--rate", "60", *place) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline())]
        while not 50 < lines[-1]["rate"] < 70 or len(lines) < 2:  # a busy machine holds it up now and then
            lines.append(json.loads(process.stdout.readline()))

        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=DEADLINE_S)

    summary = json.loads(output.splitlines()[-1])
    assert process.returncode == 0, errors
    assert lines[0]["clicks"] < lines[-1]["clicks"] <= summary["clicks"]
    assert summary["rate"] < 70
    assert summary["done"]
    assert len(_read(place, summary["clicks"])) == summary["clicks"]


def test_send_prints_the_answer(place: list[str], broker: str) -> None:
    """The update that names the click as its source is the answer, not an earlier one of the same user."""
    clicks_topic, recommendations_topic = _topics(place)

    def answer(message: Message, producer: Producer) -> None:
        for offset in (message.offset() - 1, message.offset()):
            update = {
                "user_id": "ann",
                "items": [{"item_id": f"item-of-{offset}", "score": 0.25}],
                "strategy": "popular",
                "bundle_id": "",
                "sequence": offset + 1,
                "source": {"partition": message.partition(), "offset": offset},
                "clicked_at_ms": 1,
                "produced_at_ms": 2,
            }
            producer.produce(recommendations_topic, json.dumps(update), message.key(), partition=message.partition())

    with _worker(broker, clicks_topic, answer):
        ended = _run("send", "ann", "shoe", "--event", "cart", "--timeout", "30", *place)

    assert ended.returncode == 0, ended.stderr
    heading, *ranking = ended.stdout.splitlines()
    assert heading.startswith("ann: click 1, answered in ")
    assert "popular" in heading
    assert [line.split() for line in ranking] == [["1", "item-of-0", "0.250000"]]
    assert _click(_read(place, 1)[0])["event_type"] == "cart"


def test_send_without_a_worker_says_what_to_check(place: list[str]) -> None:
    """No answer is one line on stderr and status 1."""
    ended = _run("send", "ann", "shoe", "--timeout", "1", *place)

    assert ended.returncode == 1
    assert "check that a worker is running (`nextclick stream`)" in _only_line(ended.stderr)


def test_send_refuses_what_a_worker_would_reject(place: list[str]) -> None:
    """Said before anything is sent."""
    ended = _run("send", "x" * 300, "shoe", *place)

    assert ended.returncode == 1
    assert "bad_field" in _only_line(ended.stderr)


def test_send_refuses_to_be_the_first_of_another_schema(place: list[str]) -> None:
    """It says what the records there are like, and writes nothing; with the settings that fit it sends."""
    _produce(place, [b'{"visitor": {"id": "ann"}, "sku": "lamp"}'] * 3)
    fitting = ["--set", "user_field=visitor.id", "--set", "item_field=sku", "--timeout", "1"]

    refused = _run("send", "bob", "shoe", *place)
    sent = _run("send", "bob", "shoe", *fitting, *place)

    line = _only_line(refused.stderr)
    assert refused.returncode == 1
    assert "the click was not sent, because none of the 3 newest records" in line
    assert "JSON objects with 'visitor.id', 'sku'; set user_field or item_field" in line
    assert "lamp" not in line
    assert "no answer came" in sent.stderr
    assert [_click(message).get("sku") for message in _read(place, 4)].count("shoe") == 1


def test_send_looks_only_at_the_newest_records_that_were_committed(place: list[str]) -> None:
    """Neither at the ones of a transaction that was given up, nor at what a topic held before."""
    _produce(place, [b'{"user_id": "ann", "item_id": "lamp"}'] * 3)
    config = {"bootstrap.servers": place[1], "partitioner": "murmur2_random", "transactional.id": _topics(place)[0]}
    producer = Producer(config)
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    _produce(place, [b"no click"] * 300, producer)
    producer.abort_transaction(DEADLINE_S)
    aborted = _run("send", "ann", "shoe", "--timeout", "1", *place)
    _produce(place, [b"no click"] * 300)
    other = _run("send", "ann", "shoe", "--timeout", "1", *place)

    assert "no answer came" in aborted.stderr
    assert "bad_json" in _only_line(other.stderr)


@pytest.mark.release
def test_who_stops_while_the_broker_is_away_does_not_wait_for_it(outage: Any, broker_to_stop: Any) -> None:
    """Clicks that nobody takes are waited for for some seconds only, and named."""
    job = outage.start("job", "simulate", "--rate", "100")
    outage.wait_for(lambda: outage.count(outage.settings.clicks_topic), "clicks")
    broker_to_stop.stop(keep_data=True)
    began_s = time.monotonic()
    job.stop(30)

    assert time.monotonic() - began_s < 10
    assert job.exit_status == 1
    assert "clicks were not delivered" in job.log_tail


@pytest.mark.parametrize("command", ["simulate", "replay", "send"])
def test_a_missing_topic_is_named(broker: str, tmp_path: Path, command: str) -> None:
    """The remedy is to create the topics."""
    options = ["--broker", broker, "--set", "clicks_topic=nowhere"]

    ended = _run(*_usual(command, tmp_path), *options)

    assert ended.returncode == 1
    message = _only_line(ended.stderr)
    assert "expected the topic nowhere at" in message
    assert "--set clicks_topic=nowhere`" in message


def test_a_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Within seconds, in one line, with the address and the remedy; nothing of the client library's own lines."""
    started_s = time.monotonic()

    with ExitStack() as running:
        processes = [
            running.enter_context(_running(*_usual(command, tmp_path), "--broker", "127.0.0.1:1"))
            for command in ("simulate", "replay", "send")
        ]
        ended = [(process.communicate(timeout=DEADLINE_S)[1], process.returncode) for process in processes]

    assert time.monotonic() - started_s < 20
    for errors, status in ended:
        message = _only_line(errors)
        assert status == 1
        assert "no Kafka broker answers at 127.0.0.1:1" in message
        assert "--broker" in message


def test_the_consumer_of_the_readme_shows_each_list_once(place: list[str]) -> None:
    """An update that comes again, or was overtaken, is dropped by its sequence."""
    topic = _topics(place)[1]
    program, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    program = program.replace("127.0.0.1:9092", place[1]).replace('"recommendations"', f'"{topic}"')
    producer = Producer({"bootstrap.servers": place[1]})
    for sequence, item_id in [(1, "shoe"), (2, "hat"), (1, "shoe"), (2, "hat"), (3, "bag")]:
        ranked = ranked_list(POPULAR, [Recommendation(item_id, 0.5)], [0])
        producer.produce(
            topic, encode_update("ann", ranked, ServedBy(""), sequence, AnsweredClick(0, sequence, 0), 0), "ann"
        )
    assert producer.flush(DEADLINE_S) == 0

    with subprocess.Popen(
        [sys.executable, "-u", "-c", program.replace('"feed"', f'"{topic}"')], stdout=subprocess.PIPE, text=True
    ) as consumer:
        assert consumer.stdout is not None
        shown = [consumer.stdout.readline().strip() for _ in range(3)]
        consumer.kill()

    assert shown == ["ann ['shoe']", "ann ['hat']", "ann ['bag']"]


def _usual(command: str, folder: Path) -> list[str]:
    if command == "replay":
        return ["replay", str(_click_file(folder, n_clicks=1, n_users=1)), "--format", "csv"]
    return {"simulate": ["simulate", "--clicks", "1"], "send": ["send", "ann", "shoe"]}[command]


def _click_file(folder: Path, n_clicks: int, n_users: int) -> Path:
    path = folder / "clicks.csv"
    # Newest first: the order of the file is not the order of time.
    rows = "".join(f"user-{n % n_users},item-{n},{1396314141 + n}.5\n" for n in reversed(range(n_clicks)))
    path.write_text("user_id,item_id,timestamp\n" + rows)
    return path


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, env=_environment(), check=False
    )


@contextmanager
def _running(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _everything(screen: int) -> str:
    """Read a terminal until the program that writes to it ends."""
    shown = b""
    with open(screen, "rb", buffering=0) as reader, suppress(OSError):  # the end of a terminal is an error on Linux
        while part := reader.read(65_536):
            shown += part
    return shown.decode()


def _only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("NEXTCLICK_", "KAFKA_"))}


def _topics(place: list[str]) -> list[str]:
    return [word.partition("=")[2] for word in place if "_topic=" in word]


def _read(place: list[str], n_messages: int) -> list[Message]:
    """Read the topic of the clicks until n messages are there; within a partition they are in log order."""
    consumer = Consumer({"bootstrap.servers": place[1], "group.id": "test"})
    try:
        consumer.assign([TopicPartition(_topics(place)[0], partition, 0) for partition in range(PARTITIONS)])
        messages: list[Message] = []
        deadline_s = time.monotonic() + DEADLINE_S
        while len(messages) < n_messages and time.monotonic() < deadline_s:
            messages += consumer.consume(n_messages - len(messages), timeout=0.2)
    finally:
        consumer.close()
    assert len(messages) == n_messages
    return messages


def _produce(place: list[str], values: list[bytes], producer: Producer | None = None) -> None:
    """Send records as they are, all with one key and into the partition where `send` puts it."""
    producer = producer or Producer({"bootstrap.servers": place[1], "partitioner": "murmur2_random"})
    for value in values:
        producer.produce(_topics(place)[0], value, b"ann")
    assert producer.flush(DEADLINE_S) == 0


def _click(message: Message) -> dict[str, Any]:
    value = message.value()
    assert value is not None
    click: dict[str, Any] = json.loads(value)
    return click


@contextmanager
def _worker(broker: str, clicks_topic: str, answer: Callable[[Message, Producer], None]) -> Iterator[None]:
    """Answer every click as the given function does, until the end of the block."""
    ended = threading.Event()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test"})
    consumer.assign([TopicPartition(clicks_topic, partition, 0) for partition in range(PARTITIONS)])
    producer = Producer({"bootstrap.servers": broker})

    def work() -> None:
        while not ended.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                answer(message, producer)
                producer.flush()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        consumer.close()
