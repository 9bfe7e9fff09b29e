"""`nextclick rekey` on a real broker: what it writes, and that it writes it once, whatever happens to it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema

from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.placement import is_home
from rekey.group import COMMITTED_S
from rekey.job import RekeyJob
from rekey.pulse import Pulse
from rekey.source import Batch, Source
from rekey.topics import checked_route
from rekey.writer import Aborted, Writer
from stream.repartition.log import read_batches
from tests.decided import is_decided, wait_until_decided
from tests.local_registry import LocalRegistry
from tests.simulated_clicks import NOW_MS
from tests.trainers import metric
from tools.client_config import librdkafka_config
from tools.kafka import offset_ranges
from tools.presence import BrokerPresence

STOP_S = 10.0
N_SOURCE = 3  # partitions
SEED, STEPS, RECORDS = 1, 8, 10_000
USERS = [f"u{number}" for number in range(40)]
NESTED = ("--set", "user_field=visitor.id", "--set", "item_field=sku", "--set", "time_field=at")


class Lab:
    """A source of a test's own, whose records are counted, and jobs that copy it to the clicks topic."""

    def __init__(self, playground: Any) -> None:
        self.playground = playground
        playground.settings = replace(playground.settings, rekey_port=0)
        self.source = playground.settings.clicks_topic + "-events"
        self.admin = AdminClient(librdkafka_config(playground.settings))
        self.admin.create_topics([NewTopic(self.source, N_SOURCE, 1)])[self.source].result(30)
        self._next = [0] * N_SOURCE  # number of the next event of a partition
        self.events: list[tuple[str, int, int]] = []  # user, partition, number: what must be copied
        self.bad: list[tuple[int, int]] = []  # partition, number: what must be rejected

    def start(self, name: str, *arguments: str) -> Any:
        """Start a job."""
        destination = self.playground.settings.clicks_topic
        return self.playground.start(name, "rekey", self.source, "--to", destination, *NESTED, *arguments)

    def finish(self, *arguments: str, name: str = "last") -> Any:
        """Copy all that is there; gives the job, which has ended well."""
        job = self.start(name, "--once", *arguments)
        job.wait(60)
        assert job.exit_status == 0, job.log_tail
        return job

    @contextmanager
    def struck_at(self, moment: str, sent: signal.Signals) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a job that sends itself a signal at a moment of its second transaction; it is killed at the end."""
        words = ["rekey", self.source, "--to", self.playground.settings.clicks_topic, *NESTED]
        environment = os.environ | self.playground.settings.as_environment()
        with self.playground.log("struck").open("wb") as log:
            job = subprocess.Popen(
                [sys.executable, "-c", _KILLED_AT, moment, str(int(sent)), *words], env=environment, stderr=log
            )
        try:
            yield job
        finally:
            job.kill()
            job.wait()

    def port(self, name: str) -> int:
        """Where a job serves its metrics."""
        self.playground.wait_for_log(name, "metrics at")
        found = re.search(r"127\.0\.0\.1:(\d+)/metrics", self.playground.log(name).read_text())
        assert found is not None
        return int(found[1])

    def event(self, user: str, partition: int) -> dict[str, Any]:
        """Make the next event of a partition, which must be copied."""
        number = self._next[partition]
        self._next[partition] += 1
        self.events.append((user, partition, number))
        return {"visitor": {"id": user}, "sku": f"{partition}-{number}", "at": NOW_MS, "n": number}

    def send(self, count: int, rng: random.Random) -> None:
        """Send records without a key: events, arrays of several users, some that cannot be used, and some undone."""
        producer = Producer(
            librdkafka_config(self.playground.settings) | {"linger.ms": 5, "transactional.id": f"{self.source}-feed"}
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        for place in range(count):
            partition = rng.randrange(N_SOURCE)
            if place % 50 == 0:
                self.bad.append((partition, self._next[partition]))
                producer.produce(self.source, b"{%d" % self._next[partition], partition=partition)
                self._next[partition] += 1
            elif place % 20 == 0:
                events = [self.event(rng.choice(USERS), partition) for _ in range(5)]
                producer.produce(self.source, json.dumps(events), partition=partition)
            else:
                event = self.event(rng.choice(USERS), partition)
                producer.produce(self.source, json.dumps(event), partition=partition)
        producer.commit_transaction(30)
        producer.begin_transaction()
        for partition in range(N_SOURCE):
            producer.produce(self.source, json.dumps({"visitor": {"id": "undone"}, "sku": "x"}), partition=partition)
        producer.flush(30)  # what is on its way while a transaction ends can make the broker refuse the end
        producer.abort_transaction(30)

    def read(self, topic: str) -> Iterator[Message]:
        """Give the committed records of a topic."""
        n_partitions = len(self.admin.list_topics(topic, 10).topics[topic].partitions)
        ranges = offset_ranges(self.admin, topic, range(n_partitions))
        for batch in read_batches(self.playground.settings, topic, ranges):
            yield from batch

    def copied(self) -> list[tuple[Message, dict[str, Any]]]:
        """Give the events in the destination in the order of its log, each with its record."""
        found = []
        for message in self.read(self.playground.settings.clicks_topic):
            value = json.loads(message.value())
            found += [(message, event) for event in (value if isinstance(value, list) else [value])]
        return found

    def n_copied(self) -> int:
        """Give how many records the destination has had so far, markers included."""
        return int(self.playground.count(self.playground.settings.clicks_topic))

    def wait_in_the_middle(self, count: int, rng: random.Random) -> None:
        """Send records, and return at a drawn moment of their being copied."""
        at = self.n_copied() + rng.randrange(count // 2)
        self.send(count, rng)
        end_s = time.monotonic() + 150
        while self.n_copied() <= at:
            assert time.monotonic() < end_s, "nothing is copied"
        time.sleep(rng.random() / 10)  # not always right behind a commit, which is what was seen

    def wait_until_copied(self) -> None:
        """Wait until as many events are in the destination as were sent."""
        self.playground.wait_for(self.is_copied, f"{len(self.events)} events copied", deadline_s=150.0)

    def is_copied(self) -> bool:
        """Tell whether as many events are in the destination as were sent."""
        return len(self.copied()) >= len(self.events)

    def assert_exactly_once(self) -> None:
        """Each event is there once, at its user's home, in the order of its partition; so is each dead letter."""
        settings = self.playground.settings
        orders: dict[tuple[str, int], list[int]] = defaultdict(list)
        for message, event in self.copied():
            assert message.key() == event["visitor"]["id"].encode()
            assert is_home(message.key(), message.partition(), settings.partitioner, (settings.partitions,))
            orders[event["visitor"]["id"], int(event["sku"].partition("-")[0])].append(event["n"])
        expected: dict[tuple[str, int], list[int]] = defaultdict(list)
        for user, partition, number in self.events:
            expected[user, partition].append(number)
        letters = [(dict(message.headers()), message.value()) for message in self.read(settings.rejected_topic)]
        places = Counter((headers["partition"], headers["offset"]) for headers, _ in letters)

        assert sum(map(len, orders.values())) == len(self.events)
        assert orders == expected
        assert len(places) == sum(places.values()) == len(self.bad)
        assert sorted((int(headers["partition"]), int(value[1:])) for headers, value in letters) == sorted(self.bad)
        assert {headers["reason"] for headers, _ in letters} == {b"bad_json"}


@pytest.fixture
def lab(playground: Any) -> Lab:
    return Lab(playground)


def test_killed_at_any_moment_no_click_is_lost_or_doubled(lab: Lab) -> None:
    """Instances are killed, put to sleep beyond their session, stopped and started at drawn moments of their work."""
    lab.playground.settings = replace(lab.playground.settings, session_timeout_s=2.0)
    rng = random.Random(SEED)
    jobs, sleeping, number = {}, [], 0
    for step in range(STEPS):
        while len(jobs) < 2:
            number += 1
            jobs[f"job-{number}"] = lab.start(f"job-{number}")
        lab.wait_in_the_middle(RECORDS, rng)
        name = rng.choice(sorted(jobs))
        job = jobs.pop(name)
        match step % 4:
            case 0 | 2:
                os.kill(job.pid, signal.SIGKILL)
            case 1:
                os.kill(job.pid, signal.SIGSTOP)
                sleeping.append(job)
            case 3:
                lab.port(name)  # before that it has not begun, and no signal ends it in peace
                job.stop(STOP_S)
                assert job.exit_status == 0, job.log_tail
                for each in sleeping:
                    os.kill(each.pid, signal.SIGCONT)
    lab.finish()

    lab.assert_exactly_once()
    assert [each.exit_status for each in (*sleeping, *jobs.values())] == [None] * (len(sleeping) + len(jobs))


# Runs a job that kills itself, or falls asleep, at a moment of its second transaction.
_KILLED_AT = """
import os, sys
from rekey import job, writer
moment, sent, calls = sys.argv.pop(1), int(sys.argv.pop(1)), []

def killing(function, *, before):
    def at_the_moment(self, *arguments):
        calls.append(0)
        if before and len(calls) == 2:
            strike(self)
        function(self, *arguments)
        if not before and len(calls) == 2:
            strike(self)
    def strike(self):
        if isinstance(self, writer.Writer):
            self._producer.flush(10)  # the broker has what was written
        os.kill(os.getpid(), sent)
    return at_the_moment

match moment:
    case "written":
        writer.Writer.commit_offsets = killing(writer.Writer.commit_offsets, before=True)
    case "offsets added":
        writer.Writer.commit_offsets = killing(writer.Writer.commit_offsets, before=False)
    case "committed":
        job.Source.committed = killing(job.Source.committed, before=True)
from cli.main import main
main()
"""


@pytest.mark.parametrize("moment", ["written", "offsets added", "committed"])
def test_killed_at_each_step_of_a_transaction_it_goes_on_where_it_was(lab: Lab, moment: str) -> None:
    """The same with certainty, one step after the other."""
    lab.playground.settings = replace(lab.playground.settings, session_timeout_s=2.0)
    lab.send(5_000, random.Random(9))
    with lab.struck_at(moment, signal.SIGKILL) as job:
        status = job.wait(60)
    lab.finish()

    assert status == -signal.SIGKILL
    lab.assert_exactly_once()


def test_what_came_to_nothing_is_read_again_while_the_partitions_are_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the group is being divided anew: the same instance goes back to what is committed."""
    lab.send(5_000, random.Random(10))
    stop = Event()
    settings = replace(
        lab.playground.settings, user_field="visitor.id", item_field="sku", time_field="at", rekey_port=0
    )
    job = RekeyJob(settings, checked_route(settings, lab.source, settings.clicks_topic), stop)
    membership, asked = Source.membership, []

    def sometimes_none(self: Source) -> bytes | None:
        asked.append(0)
        return None if len(asked) in (2, 3) else membership(self)

    monkeypatch.setattr(Source, "membership", sometimes_none)
    try:
        job.run(once=True)
    finally:
        assert job.close()

    assert len(asked) > 3
    lab.assert_exactly_once()


def test_who_slept_until_its_partitions_were_anothers_writes_nothing(lab: Lab) -> None:
    """What it had read and not committed is the other's to copy; it wakes up and works on."""
    lab.playground.settings = replace(lab.playground.settings, session_timeout_s=2.0)
    rng = random.Random(2)
    sleeper = lab.start("sleeper")
    lab.send(100, rng)
    lab.playground.wait_for(lab.n_copied, "copies")
    lab.send(20_000, rng)
    lab.playground.wait_for(lambda: lab.n_copied() > 1_000, "copies")
    os.kill(sleeper.pid, signal.SIGSTOP)
    lab.finish()
    lab.assert_exactly_once()
    os.kill(sleeper.pid, signal.SIGCONT)
    lab.send(1_000, rng)
    port = lab.port("sleeper")
    lab.wait_until_copied()

    lab.assert_exactly_once()
    assert metric(port, 'nextclick_rekey_transactions_total{result="committed"}') > 0
    sleeper.stop(STOP_S)
    assert sleeper.exit_status == 0, sleeper.log_tail


def test_a_transaction_that_the_broker_ended_is_done_again(lab: Lab) -> None:
    """The only instance sleeps for longer than a transaction may be open: the broker has shut its writer out."""
    lab.playground.settings = settings = replace(lab.playground.settings, session_timeout_s=2.0)
    lab.send(5_000, random.Random(3))
    with lab.struck_at("written", signal.SIGSTOP) as job:
        os.waitid(os.P_PID, job.pid, os.WSTOPPED | os.WNOWAIT)
        was_open = not is_decided(settings, settings.clicks_topic)
        wait_until_decided(settings, settings.clicks_topic)
        os.kill(job.pid, signal.SIGCONT)
        lab.wait_until_copied()
        assert job.poll() is None

    assert was_open
    assert "a transaction came to nothing" in lab.playground.log("struck").read_text()
    lab.assert_exactly_once()


def test_a_writer_that_is_shut_out_ends_with_one_line(lab: Lab) -> None:
    """Nobody else has its name: who takes it, takes it on purpose. The next start goes on."""
    job = lab.start("job")
    lab.send(500, random.Random(4))
    lab.playground.wait_for(lab.n_copied, "copies")
    found = re.search(r'"transactional_id":"([^"]+)"', lab.playground.log("job").read_text())
    assert found is not None
    Producer(librdkafka_config(lab.playground.settings) | {"transactional.id": found[1]}).init_transactions(30)
    lab.send(500, random.Random(5))
    job.wait(30)

    assert job.exit_status == 1
    assert "nextclick: the broker has shut out" in job.log_tail
    lab.finish()
    lab.assert_exactly_once()


def test_once_copies_what_is_there_as_it_is(lab: Lab) -> None:
    """Value, headers and time stay; the key is the user's, whatever it was before."""
    settings = lab.playground.settings
    written_ms = int(time.time() * 1000) - 5_000_000
    headers = [("trace", b"\0\1"), ("empty", b""), ("none", None)]
    producer = Producer(librdkafka_config(settings))
    value = b'{ "visitor":{"id": 7}, "sku":"a" }'
    producer.produce(lab.source, value, key=b"order-1", partition=1, headers=headers, timestamp=written_ms)
    both = [{"visitor": {"id": user}, "sku": item} for user, item in (("u", "a"), ("v", "b"), ("u", "c"))]
    producer.produce(lab.source, json.dumps(both), partition=1, headers=headers, timestamp=written_ms)
    producer.produce(lab.source, b"no json", key=b"k", partition=1, timestamp=written_ms)
    producer.produce(lab.source, b'{"visitor":{"id":"u"}}', partition=1)
    producer.produce(lab.source, None, partition=1)
    producer.flush(30)
    job = lab.finish()
    copies = {message.key(): message for message in lab.read(settings.clicks_topic)}
    letters = [(dict(message.headers()), message) for message in lab.read(settings.rejected_topic)]

    assert copies.keys() == {b"7", b"u", b"v"}
    assert copies[b"7"].value() == value
    assert [json.loads(copies[user].value()) for user in (b"u", b"v")] == [[both[0], both[2]], [both[1]]]
    for key, message in copies.items():
        assert message.headers() == headers
        assert message.timestamp()[1] == written_ms
        assert message.partition() == partition_of(key, settings.partitions, settings.partitioner)
    schema = ClickSchema.of(replace(settings, user_field="visitor.id", item_field="sku", time_field="at"))
    decode = click_decoder(schema)
    for key, message in copies.items():
        clicks = decode(key, message.value(), message.headers(), message.timestamp()[1], int(time.time() * 1000))
        assert [click.timestamp_ms for click in clicks] == [written_ms] * len(clicks)  # type: ignore[union-attr]
    assert sorted(each["reason"] for each, _ in letters) == [b"bad_json", b"bad_json", b"missing_field"]
    (letter,) = [(headers, message) for headers, message in letters if message.value() == b"no json"]
    assert letter[1].key() == b"k"
    assert letter[0] | {"detail": b""} == {
        "reason": b"bad_json",
        "detail": b"",
        "topic": lab.source.encode(),
        "partition": b"1",
        "offset": b"2",
        "time": str(written_ms).encode(),
        "truncated": b"false",
    }
    assert "are rejected as bad_json" in job.log_tail
    lab.finish(name="again")
    assert len(list(lab.read(settings.clicks_topic))) == 3


def test_a_record_with_a_time_that_no_broker_takes_is_copied(lab: Lab) -> None:
    """Far ahead of the clock: the click's own time is what counts. Seconds for milliseconds: as they are read."""
    settings = lab.playground.settings
    lab.admin.delete_topics([lab.source])[lab.source].result(30)
    lab.source += "-2"
    config = {"message.timestamp.after.max.ms": str(2**62)}
    lab.admin.create_topics([NewTopic(lab.source, 1, 1, config=config)])[lab.source].result(30)
    now_ms = int(time.time() * 1000)
    producer = Producer(librdkafka_config(settings))
    for user, written_ms in (("ahead", now_ms + 7_200_000), ("seconds", now_ms // 1000 - 60)):
        event = {"visitor": {"id": user}, "sku": "a", "at": now_ms}
        producer.produce(lab.source, json.dumps(event), timestamp=written_ms)
    producer.flush(30)
    job = lab.finish()
    times = {message.key(): message.timestamp()[1] for message in lab.read(settings.clicks_topic)}

    assert now_ms <= times[b"ahead"] <= int(time.time() * 1000)
    assert times[b"seconds"] == (now_ms // 1000 - 60) * 1000
    assert "will remove them soon" not in job.log_tail


def test_a_job_whose_commits_are_gone_copies_nothing_again_unasked(lab: Lab) -> None:
    """As after the days for which Kafka keeps the offsets of a group without members."""
    lab.send(200, random.Random(11))
    lab.finish(name="first")
    group = f"{lab.playground.settings.app}-rekey"
    lab.admin.delete_consumer_groups([group])[group].result(30)
    again = lab.start("again", "--once")
    again.wait(60)

    assert again.exit_status == 1
    assert f"the group {group} has committed nothing of {lab.source}" in again.log_tail.splitlines()[-1]
    lab.assert_exactly_once()
    before = (list(lab.events), list(lab.bad))
    lab.finish("--start", "latest", name="asked")
    lab.events, lab.bad = before
    lab.send(200, random.Random(12))
    lab.finish(name="later")
    lab.assert_exactly_once()


def test_a_job_that_was_killed_before_its_first_commit_begins(lab: Lab) -> None:
    """A destination with nothing but a transaction that came to nothing has no copies."""
    lab.send(200, random.Random(13))
    producer = Producer(librdkafka_config(lab.playground.settings) | {"transactional.id": f"{lab.source}-killed"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(lab.playground.settings.clicks_topic, b"{}", b"u")
    producer.flush(30)
    producer.abort_transaction(30)
    lab.finish()

    lab.assert_exactly_once()


def test_a_job_goes_on_with_its_own_destination_only(lab: Lab) -> None:
    """Neither another topic, nor one of the same name that was created anew, gets the rest of the copies."""
    settings = lab.playground.settings
    other = f"{lab.source}-other"
    lab.admin.create_topics([NewTopic(other, 1, 1)])[other].result(30)
    lab.send(200, random.Random(14))
    lab.finish(name="first")
    lab.playground.settings = replace(settings, clicks_topic=other)
    to_other = lab.start("to-other", "--once", "--start", "earliest")
    to_other.wait(60)
    lab.playground.settings = settings
    lab.admin.delete_topics([settings.clicks_topic])[settings.clicks_topic].result(30)
    lab.playground.wait_for(lambda: settings.clicks_topic not in lab.admin.list_topics().topics, "the end of the topic")
    lab.admin.create_topics([NewTopic(settings.clicks_topic, 1, 1)])[settings.clicks_topic].result(30)
    to_new = lab.start("to-new", "--once")
    to_new.wait(60)

    assert (to_other.exit_status, to_new.exit_status) == (1, 1)
    assert f"to the topic {settings.clicks_topic}, and is now to copy to {other}" in to_other.log_tail.splitlines()[-1]
    assert "to an earlier topic of that name" in to_new.log_tail.splitlines()[-1]
    assert list(lab.read(other)) == []
    assert lab.n_copied() == 0


def test_latest_begins_at_the_end_once(lab: Lab) -> None:
    """Of a new group; after that it goes on where it was, though nothing had come by then."""
    rng = random.Random(6)
    lab.send(100, rng)
    lab.events.clear()
    lab.bad.clear()
    job = lab.start("job", "--start", "latest")
    port = lab.port("job")
    committed = 'nextclick_rekey_transactions_total{result="committed"}'
    lab.playground.wait_for(lambda: metric(port, committed), "the first commit")
    os.kill(job.pid, signal.SIGKILL)
    lab.send(100, rng)
    lab.finish("--start", "latest")

    lab.assert_exactly_once()


def test_what_retention_took_is_named_and_counted(lab: Lab) -> None:
    """The job goes on behind it."""
    rng = random.Random(7)
    lab.send(100, rng)
    lab.finish(name="first")
    ends = {partition: found.end for partition, found in offset_ranges(lab.admin, lab.source, range(3)).items()}
    before = (list(lab.events), list(lab.bad))
    lab.send(100, rng)
    lab.events, lab.bad = before
    now = offset_ranges(lab.admin, lab.source, range(N_SOURCE))
    gone = [TopicPartition(lab.source, partition, found.end) for partition, found in now.items()]
    for future in lab.admin.delete_records(gone).values():
        future.result(30)
    lab.send(100, rng)
    job = lab.finish(name="second")

    lab.assert_exactly_once()
    for partition, end in ends.items():
        text = f"retention removed offsets {end} to {now[partition].end - 1} of {lab.source}, partition {partition}"
        assert text in lab.playground.log("second").read_text()
    assert job.exit_status == 0


@pytest.mark.parametrize(
    ("arguments", "prepare", "expected"),
    [
        (["rekey", "nowhere"], None, "expected the topic nowhere at "),
        (["rekey", "SOURCE", "--to", "nowhere"], None, "run `nextclick topics --set clicks_topic=nowhere"),
        (["rekey", "SOURCE", "--to", "SOURCE"], None, "must be three topics"),
        (["rekey", "SOURCE", "--to", "COMPACTED"], {"cleanup.policy": "compact"}, "expects cleanup.policy=delete"),
        (["rekey", "SOURCE", "--set", "user_field=a..b"], None, "has an empty part"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_start(
    lab: Lab, arguments: list[str], prepare: dict[str, str] | None, expected: str
) -> None:
    """One line, status 1, nothing written."""
    if prepare is not None:
        name = f"{lab.source}-compacted"
        lab.admin.create_topics([NewTopic(name, 1, 1, config=prepare)])[name].result(30)
    words = {"SOURCE": lab.source, "COMPACTED": f"{lab.source}-compacted"}
    job = lab.playground.start("job", *(words.get(word, word) for word in arguments))
    job.wait(30)

    assert job.exit_status == 1
    assert expected in job.log_tail.splitlines()[-1]
    assert job.log_tail.splitlines()[-1].startswith("nextclick: ")


def test_a_record_that_the_destination_does_not_take_ends_the_job_with_the_remedy(lab: Lab) -> None:
    """It is not lost in silence; once the topic takes it, the job goes on with it."""
    small = f"{lab.source}-small"
    lab.admin.create_topics([NewTopic(small, 1, 1, config={"max.message.bytes": "2000"})])[small].result(30)
    lab.playground.settings = replace(lab.playground.settings, clicks_topic=small)
    producer = Producer(librdkafka_config(lab.playground.settings))
    producer.produce(lab.source, json.dumps({"visitor": {"id": "u"}, "sku": "a", "more": "x" * 5_000}))
    producer.flush(30)
    job = lab.start("job")
    job.wait(30)

    assert job.exit_status == 1
    assert "raise max.message.bytes of the topic" in job.log_tail.splitlines()[-1]
    assert list(lab.read(small)) == []


def test_a_source_that_cannot_be_used_ends_the_job_before_anything_is_committed(lab: Lab) -> None:
    """With the setting that would help; the job that has it begins where this one did."""
    count = 1_200
    produce_unfit(lab, count)
    job = lab.start("job")
    job.wait(60)

    assert job.exit_status == 1
    assert f"none of the first {count:,} records of {lab.source} could be used" in job.log_tail.splitlines()[-1]
    assert "set user_field" in job.log_tail.splitlines()[-1]
    assert list(lab.read(lab.playground.settings.rejected_topic)) == []
    lab.finish("--set", "user_field=user")
    assert len(lab.copied()) == count


def test_a_few_records_that_cannot_be_used_are_rejected_and_said(lab: Lab) -> None:
    """At once, with the setting that would help; as long as nothing else comes, /readyz says so, too."""
    produce_unfit(lab, 700)
    lab.start("job")
    port = lab.port("job")
    rejected = 'nextclick_rekey_rejected_total{reason="missing_field"}'
    lab.playground.wait_for(lambda: metric(port, rejected) == 700, "all records rejected")
    produce_unfit(lab, 500)
    lab.playground.wait_for(lambda: metric(port, rejected) == 1_200, "all records rejected")
    lab.playground.wait_for_log("job", "are rejected as missing_field")
    status, text = readiness(port)

    assert status == 503
    assert "set user_field" in text


def produce_unfit(lab: Lab, count: int) -> None:
    """Send records whose user is elsewhere than the settings say."""
    producer = Producer(librdkafka_config(lab.playground.settings))
    for number in range(count):
        event = {"user": f"u{number}", "sku": "a", "visitor": {}}
        producer.produce(lab.source, json.dumps(event), partition=number % N_SOURCE)
    producer.flush(30)


def test_a_job_that_ends_before_it_has_taken_its_partitions_leaves_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not ask any more what is committed there, which hangs on another instance's transaction."""
    lab.send(10, random.Random(15))
    settings, stop, group = lab.playground.settings, Event(), f"{lab.playground.settings.app}-rekey"
    other = Producer(librdkafka_config(settings) | {"transactional.id": f"{lab.source}-other"})
    other.init_transactions(30)
    member = Consumer(librdkafka_config(settings) | {"group.id": group})

    def end_instead(_: Source) -> Batch:
        other.begin_transaction()
        places = [TopicPartition(lab.source, partition, 1) for partition in range(N_SOURCE)]
        other.send_offsets_to_transaction(places, member.consumer_group_metadata(), 30)
        lab.playground.wait_for(lambda: member_has_partitions(lab, group), "partitions that the job has not taken yet")
        stop.set()
        return Batch([], set(), {})

    job = RekeyJob(settings, checked_route(settings, lab.source, settings.clicks_topic), stop)
    monkeypatch.setattr(Source, "read", end_instead)
    try:
        job.run(once=False)
    finally:
        began_s = time.monotonic()
        has_left = job.close()
        took_s = time.monotonic() - began_s
        other.abort_transaction(30)

    assert has_left
    assert took_s < COMMITTED_S


def test_a_job_that_waits_says_what_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here for another instance's transaction, which could still change what is committed."""
    monkeypatch.setattr("rekey.pulse.SAY_AFTER_S", 0.1)
    settings, stop, group = lab.playground.settings, Event(), f"{lab.playground.settings.app}-rekey"
    other = Producer(librdkafka_config(settings) | {"transactional.id": f"{lab.source}-other"})
    member = Consumer(librdkafka_config(settings) | {"group.id": group})
    other.init_transactions(30)
    other.begin_transaction()
    other.send_offsets_to_transaction([TopicPartition(lab.source, 0, 1)], member.consumer_group_metadata(), 30)
    job = RekeyJob(settings, checked_route(settings, lab.source, settings.clicks_topic), stop)
    running = Thread(target=job.run, kwargs={"once": False})
    running.start()
    try:
        what = f"the broker does not say what the group {group} has committed of {lab.source}"
        lab.playground.wait_for(lambda: what in caplog.text, "a line about what is waited for")
        other.abort_transaction(30)
    finally:
        stop.set()
        running.join(30)
        member.close()
        assert job.close()


def member_has_partitions(lab: Lab, group: str) -> bool:
    """Tell whether the broker has given partitions to a member of a group."""
    members = lab.admin.describe_consumer_groups([group])[group].result(30).members
    return any(each.assignment.topic_partitions for each in members)


@pytest.mark.release
def test_while_the_schema_registry_is_away_the_group_is_answered(lab: Lab, tmp_path: Path) -> None:
    """Another instance gets its share meanwhile; /readyz says what is waited for, and then all is copied."""
    with LocalRegistry(tmp_path) as registry:
        schema = {
            "type": "record",
            "name": "c",
            "fields": [{"name": name, "type": "string"} for name in ("user", "sku")],
        }
        registry.start()
        schema_id = registry.register(lab.source, Schema(json.dumps(schema), "AVRO"))
        registry.stop()
        producer = Producer(librdkafka_config(lab.playground.settings))
        for partition in range(N_SOURCE):
            value = b"\0" + schema_id.to_bytes(4, "big") + b"\x02u\x02a"
            producer.produce(lab.source, value, partition=partition)
        producer.flush(30)
        lab.playground.settings = replace(
            lab.playground.settings,
            schema_registry=registry.address,
            schema_registry_username=registry.settings.schema_registry_username,
            schema_registry_password=registry.settings.schema_registry_password,
        )
        lab.start("first", "--set", "user_field=user")
        lab.playground.wait_for_log("first", "waiting, nothing is lost")
        status, text = readiness(lab.port("first"))
        lab.start("second", "--set", "user_field=user")
        port = lab.port("second")
        lab.playground.wait_for(
            lambda: metric(port, "nextclick_rekey_partitions"), "partitions for the second instance"
        )
        registry.start()
        destination = lab.playground.settings.clicks_topic
        lab.playground.wait_for(lambda: len(list(lab.read(destination))) == N_SOURCE, "all copied")

    assert status == 503
    assert "waiting for the schema registry" in text


def readiness(port: int) -> tuple[int, str]:
    """What /readyz answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.release
def test_a_broker_that_goes_away_is_waited_for(outage: Any, broker_to_stop: Any) -> None:
    """By the same process; and while it is away, SIGTERM is answered in time."""
    lab = Lab(outage)
    rng = random.Random(8)
    job = lab.start("job")
    lab.send(5_000, rng)
    lab.playground.wait_for(lab.n_copied, "copies")
    broker_to_stop.stop(keep_data=True)
    lab.playground.wait_for_log("job", "does not answer")
    broker_to_stop.start()
    lab.send(5_000, rng)
    lab.wait_until_copied()
    assert job.exit_status is None
    lab.assert_exactly_once()
    broker_to_stop.stop(keep_data=True)
    began_s = time.monotonic()
    job.stop(STOP_S)

    assert time.monotonic() - began_s < STOP_S
    assert job.exit_status == 0, job.log_tail


def test_a_transaction_that_ends_right_behind_another_is_aborted(lab: Lab) -> None:
    """The broker has not heard of it yet, and does not forgive who asks for its end."""
    settings = lab.playground.settings
    writer = Writer(settings, Pulse(Event(), BrokerPresence(settings.broker)))
    for number in range(100):
        with writer.transaction():
            for user in range(20):
                writer.write(settings.clicks_topic, b"u%d" % user, b"%d" % number, [])
        with suppress(Aborted), writer.transaction():
            for user in range(20):
                writer.write(settings.clicks_topic, b"u%d" % user, b"not %d" % number, [])
            time.sleep(number % 10 / 1000)
            raise Aborted("this instance is not in the group any more")
    wait_until_decided(settings, settings.clicks_topic)

    written = Counter(message.value() for message in lab.read(settings.clicks_topic))
    assert written == {b"%d" % number: 20 for number in range(100)}
