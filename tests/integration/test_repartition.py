"""The clicks topic grows: states and unanswered clicks follow their users, whenever the command is killed."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import rocksdict
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from demo.simulator import Law, Simulator
from nextclick.clicks import APPLIED_HEADER, FORWARDED_HEADER
from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.user_state import UserState, decode_state, encode_state
from stream.topics.identity import is_note, read_identity
from tests.record_forms import send_with_odd_header
from tests.simulated_clicks import NOW_MS
from tools.client_config import consumer_config, librdkafka_config, producer_config
from tools.records import headers_of

Clicks = list[tuple[str, str, int]]
STOP_S = 10.0
FEW_USERS = Law(active_users=80, resting_users=80)
NEVER = {"NEXTCLICK_COMMIT_INTERVAL_S": "600"}  # commits nothing, unless it is stopped in peace


def clicks(count: int, seed: int = 1) -> Clicks:
    """Clicks of few users: every user has several, before and after a growth."""
    return [(c.user_id, c.item_id, NOW_MS) for c in Simulator(FEW_USERS, seed).next_clicks(NOW_MS, count)]


def grow(playground: Any, partitions: int) -> None:
    """Let the clicks topic grow, as whoever runs Kafka does it."""
    topic = playground.settings.clicks_topic
    admin = AdminClient(librdkafka_config(playground.settings))
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(10)
    playground.wait_for(
        lambda: len(admin.list_topics(topic, 10).topics[topic].partitions) == partitions, f"{partitions} partitions"
    )
    # A new producer knows the new partitions at once.
    playground.settings = replace(playground.settings, partitions=partitions)


def repartition(playground: Any, name: str = "repartition") -> Any:
    """Start the command; the producers of a test know the new partitions."""
    return playground.start(name, "repartition", "--producers-refresh-s", "0")


def finish(playground: Any, name: str = "repartition") -> str:
    """Run the command to its end; gives what it says."""
    child = repartition(playground, name)
    child.wait(60)
    assert child.exit_status == 0, child.log_tail
    return str(child.log_tail)


def states(playground: Any) -> dict[tuple[int, str], UserState]:
    """What a worker without a folder of its own would restore: by partition and user."""
    restored: dict[tuple[int, str], UserState] = {}
    for message in playground.read(playground.settings.changelog_topic):
        if is_note(message.key()):
            continue
        user = (message.partition(), message.key().decode())
        if message.value() is None:
            restored.pop(user, None)
        elif (state := decode_state(message.value())).offset >= restored.get(user, state).offset:
            restored[user] = state
    return restored


def home(playground: Any, user: str) -> int:
    """The partition of a user now."""
    return partition_of(user.encode(), playground.settings.partitions, playground.settings.partitioner)


def leave_unanswered(playground: Any, *, killed: bool) -> dict[tuple[int, str], UserState]:
    """A worker answers clicks and ends, more are sent, the topic grows to 6, more are sent; gives the states."""
    worker = playground.worker("before", **(NEVER if killed else {}))
    playground.send(clicks(1_500))
    playground.wait_until_answered()
    if killed:
        os.kill(worker.pid, signal.SIGKILL)
    else:
        worker.stop(STOP_S)
    playground.send(clicks(500, seed=2))
    before = states(playground)
    grow(playground, 6)
    playground.send(clicks(500, seed=3))
    return before


def serve_and_verify(playground: Any) -> None:
    """Two workers answer what is there and more; every click then counts once, in order."""
    for name in ("after-1", "after-2"):
        playground.worker(name)
    playground.send(clicks(500, seed=4))
    playground.wait_until_answered()
    playground.assert_states_equal_offline()
    playground.assert_no_error_logged("after-1", "after-2")


@pytest.mark.parametrize("killed", [pytest.param(False, marks=pytest.mark.release), True], ids=["stopped", "killed"])
def test_states_and_unanswered_clicks_follow_their_users(playground: Any, killed: bool) -> None:
    """Also clicks that a killed worker has applied and not committed: they are answered, not applied again."""
    before = leave_unanswered(playground, killed=killed)
    said = finish(playground)
    after = states(playground)

    assert "4 -> 6 partitions" in said
    assert "done: start the workers" in said
    assert len(after) == len(before)
    for (partition, user), state in before.items():
        moved = after[home(playground, user), user]
        assert moved._replace(partition=partition, offset=state.offset) == state
        assert moved.partition == home(playground, user)
    serve_and_verify(playground)
    report = playground.verify()
    assert report.answered_by_later == (0 if not killed else report.answered_by_later)


@pytest.mark.release
def test_a_worker_refuses_before_and_in_the_middle_and_starts_afterwards(playground: Any) -> None:
    """With the words that the command line's check of the topics has."""
    leave_unanswered(playground, killed=False)
    refused = [playground.worker("early")]
    refused[0].wait(30)
    command = repartition(playground)
    playground.wait_for_log("repartition", '"repartitioning"')
    os.kill(command.pid, signal.SIGKILL)
    command.wait(10)
    refused += [playground.worker("in-the-middle"), playground.start("topics", "topics")]
    for child in refused[1:]:
        child.wait(30)
    finish(playground, "again")

    lines = {child.log_tail.splitlines()[-1] for child in refused}
    assert len(lines) == 1
    assert "has 6 partitions" in (line := lines.pop())
    assert "`nextclick repartition`" in line
    serve_and_verify(playground)


@pytest.mark.release
def test_a_running_worker_stops_when_the_topic_grows_and_rejects_no_click(playground: Any) -> None:
    """A click in an old partition that is new to its user looks like one in a wrong partition: the broker is asked."""
    worker = playground.worker("before")
    playground.send(clicks(500))
    playground.wait_until_answered()
    grow(playground, 6)
    playground.send(clicks(500, seed=2))
    worker.wait(30)
    early = playground.worker("early")
    early.wait(30)
    finish(playground)

    assert worker.exit_status == early.exit_status == 1
    assert worker.log_tail.splitlines()[-1] == early.log_tail.splitlines()[-1]
    assert playground.count(playground.settings.rejected_topic) == 0
    serve_and_verify(playground)


@pytest.mark.release
def test_moved_users_leave_the_local_stores_too(playground: Any) -> None:
    """A worker that comes back to its old folder reads the end of the changelog, where they were removed."""
    before = leave_unanswered(playground, killed=False)
    finish(playground)
    worker = playground.worker("before")
    playground.wait_until_answered()
    worker.stop(STOP_S)
    left = {(partition, key.decode()) for partition in range(6) for key in local_users(playground, "before", partition)}

    assert left == {(home(playground, user), user) for _, user in before} | {
        (home(playground, user), user) for user, _, _ in clicks(500, seed=2) + clicks(500, seed=3)
    }


def local_users(playground: Any, name: str, partition: int) -> list[bytes]:
    """The users in a partition's RocksDB; no worker may be using it."""
    [folder] = (playground.folder / name).rglob(f"user-state-{partition}.db")
    store = rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True))
    try:
        return [key for key, _ in store.items() if not key.startswith(b"__")]
    finally:
        store.close()


# The command, in small transactions, that kills itself; arguments: in which one, and whether before its end or after.
DYING = """
import os, signal, sys
from contextlib import contextmanager
import stream.repartition.clicks as clicks, stream.repartition.states as states
from stream.repartition.log import FencedWriter

clicks.COPIES = states.MOVES = 400
whole, left, when = FencedWriter.transaction, int(sys.argv.pop(1)), sys.argv.pop(1)

@contextmanager
def dying(self):
    global left
    left -= 1
    with whole(self):
        yield
        if left == 0 and when == "before":
            self._producer.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

FencedWriter.transaction = dying
from cli.main import main
main()
"""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.release)])
def test_killed_again_and_again_it_comes_to_the_same_end(playground: Any, seed: int) -> None:
    """Every state is moved once, every unanswered click waits once, in its user's order; also through two growths."""
    rng = random.Random(seed)
    application = Application(playground, users=4_000, each=5)
    grow(playground, 6)
    application.click_again()
    n_killed = 0
    while run_dying(playground, rng.randint(4, 24), rng.choice(["before", "after"])) == -signal.SIGKILL:
        n_killed += 1
        if n_killed == 3:
            grow(playground, 7)  # in the middle

    assert n_killed > 3
    application.check()
    assert finish(playground).endswith("has not grown")


def run_dying(playground: Any, n_transactions: int, when: str) -> int:
    """Let the command kill itself before or after the end of its n-th transaction; gives its status."""
    command = [sys.executable, "-c", DYING, str(n_transactions), when, "repartition", "--producers-refresh-s", "0"]
    environment = dict(os.environ) | playground.settings.as_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


class Application:
    """The topics of an application whose workers were killed: states, committed offsets, and clicks to be answered."""

    def __init__(self, playground: Any, users: int, each: int) -> None:
        """Write them.

        Args:
            playground: gets them, in its 4 partitions.
            users: how many.
            each: clicks of every user, of which some are applied, and some of these committed.
        """
        self.playground = playground
        self.users = [f"u{number}" for number in range(users)]
        self.n_clicks = 0  # of each user
        for _ in range(each):
            self.click_again()
        self.places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for click in playground.clicks():
            self.places[click.click.user_id].append((click.user[0], click.offset))
        # The partitions are applied to another extent each, and committed a hundred clicks less far.
        ends = {partition: offset + 1 for places in self.places.values() for partition, offset in places}
        self.applied = {partition: end * (partition + 1) // 5 for partition, end in sorted(ends.items())}
        self.committed = {partition: max(0, end - 100) for partition, end in self.applied.items()}
        self._write_states()
        self._commit()

    def click_again(self) -> None:
        """Let every user click once, in the order of the users."""
        self.playground.send((user, f"i{self.n_clicks}", NOW_MS) for user in self.users)
        self.n_clicks += 1

    def _write_states(self) -> None:
        producer = Producer(producer_config(self.playground.settings))
        for user, places in self.places.items():
            for sequence, (partition, offset) in enumerate(places, 1):
                if offset < self.applied[partition]:
                    value = encode_state(UserState(0, sequence, partition, offset, NOW_MS, b"", b"", b"", 0))
                    producer.produce(self.playground.settings.changelog_topic, value, user.encode(), partition)
        assert producer.flush(30) == 0

    def _commit(self) -> None:
        settings = self.playground.settings
        places = [TopicPartition(settings.clicks_topic, p, offset) for p, offset in self.committed.items()]
        admin = AdminClient(librdkafka_config(settings))
        for done in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(settings.app, places)]).values():
            done.result(10)

    def check(self) -> None:
        """What the topics hold now is what an uninterrupted run gives."""
        playground, settings = self.playground, self.playground.settings
        n_applied = {
            user: sum(offset < self.applied[partition] for partition, offset in places)
            for user, places in self.places.items()
        }
        n_committed = {
            user: sum(offset < self.committed[partition] for partition, offset in places)
            for user, places in self.places.items()
        }
        identity, _ = read_identity(settings)
        ends = committed_offsets(settings)
        found = states(playground)
        waiting: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
        for message in playground.read(settings.clicks_topic):
            user = message.key().decode()
            if message.offset() >= ends[message.partition()]:
                assert message.partition() == home(playground, user)
                waiting[user].append(
                    (json.loads(message.value())["item_id"], APPLIED_HEADER in dict(message.headers()))
                )

        assert identity is not None
        assert identity.partitions == settings.partitions == len(ends)
        assert {user for _, user in found} == {user for user, applied in n_applied.items() if applied}
        for (partition, user), state in found.items():
            assert partition == state.partition == home(playground, user)
            assert (state.sequence, state.offset) == (n_applied[user], ends[partition] - 1)
        for user in self.users:
            assert waiting[user] == [
                (f"i{number}", number < n_applied[user]) for number in range(n_committed[user], self.n_clicks)
            ]


def committed_offsets(settings: Any) -> dict[int, int]:
    """Where the application goes on."""
    consumer = Consumer(consumer_config(settings, settings.app))
    try:
        asked = [TopicPartition(settings.clicks_topic, partition) for partition in range(settings.partitions)]
        return {place.partition: place.offset for place in consumer.committed(asked, 10)}
    finally:
        consumer.close()


def test_bad_clicks_wait_as_well_and_are_rejected_for_their_own_reasons(playground: Any) -> None:
    """Also one that is too large for a copy with more headers, one without a key, and one in a wrong partition."""
    settings = playground.settings
    good = [("u1", "i1", NOW_MS), ("u2", "i2", NOW_MS)]
    playground.send(good)
    wrong = (home(playground, "u3") + 1) % 4
    value = b'{"user_id":"u3","item_id":"i3"}'
    playground.send_raw([(b"u1", b"{broken"), (None, value), (b"u2", b"x" * 1_000_000), (b"u4", value), (b"u1", None)])
    producer = Producer(producer_config(settings))
    producer.produce(settings.clicks_topic, value, b"u3", wrong)
    assert producer.flush(10) == 0
    grow(playground, 6)
    finish(playground)
    playground.worker()
    playground.wait_for(lambda: playground.count(settings.rejected_topic) == 6, "6 rejects")
    playground.wait_until_answered()

    reasons = sorted(dict(message.headers())["reason"].decode() for message in playground.read(settings.rejected_topic))
    assert reasons == ["bad_json", "bad_json", "no_key", "too_large", "wrong_key", "wrong_partition"]
    assert playground.verify().violations == {}


def test_clicks_with_odd_headers_wait_and_are_copied(playground: Any) -> None:
    """A header without a value stays; one whose name is not UTF-8 no client gives, and the click comes without it."""
    settings = playground.settings
    topic, user = settings.clicks_topic, "u1"
    value = encode_click(ClickSchema.of(settings), user, "i1", NOW_MS).value
    producer = Producer(producer_config(settings) | {"compression.type": "zstd"})
    producer.produce(topic, value, user, headers=[("trace", None), ("page", b"x" * 5_000)])
    assert producer.flush(10) == 0
    asyncio.run(send_with_odd_header(settings, topic, home(playground, user), user.encode(), value, value))
    grow(playground, 6)
    finish(playground)
    playground.worker()
    updates = playground.wait_until_answered()
    copies = [headers_of(message) for message in playground.read(topic)][3:]

    assert [update.sequence for update in updates] == [1, 2, 3]
    assert [[name for name, _ in headers] for headers in copies] == [
        ["trace", "page", FORWARDED_HEADER],
        [FORWARDED_HEADER],
        [FORWARDED_HEADER],
    ]
    assert playground.verify().violations == {}


def test_a_new_application_that_begins_at_the_end_misses_no_click_of_a_new_partition(playground: Any) -> None:
    """`start=latest` is about what was there before the application; the new partitions came after it."""
    playground.settings = replace(playground.settings, start="latest")
    worker = playground.worker("before")
    playground.wait_for(lambda: min(committed_offsets(playground.settings).values()) >= 0, "a place to begin")
    playground.send([("u1", "i1", NOW_MS)])
    playground.wait_until_answered()
    worker.stop(STOP_S)
    grow(playground, 6)
    playground.send([(f"u{number}", "i2", NOW_MS) for number in range(30)])
    finish(playground)
    playground.worker("after")
    playground.wait_until_answered()

    assert playground.verify().violations == {}


def test_it_does_nothing_while_a_worker_is_in_the_group(playground: Any) -> None:
    """And says how many there are."""
    playground.settings = replace(playground.settings, session_timeout_s=1)
    grow(playground, 6)
    member = Consumer(consumer_config(playground.settings, playground.settings.app))  # a worker would stop by itself
    member.subscribe([playground.settings.clicks_topic])
    playground.wait_for(lambda: member.poll(0.1) is not None or member.assignment(), "a member")
    child = repartition(playground)
    playground.wait_for(lambda: member.poll(0.1) is None and child.exit_status is not None, "an end of the command")
    member.close()

    assert child.exit_status == 1
    assert "has 1 members: stop all workers" in child.log_tail
    assert playground.count(playground.settings.changelog_topic) == 1


def test_it_waits_for_producers_that_do_not_know_the_new_partitions(playground: Any) -> None:
    """A click in an old partition that is not its user's any more, by its timestamp; one that stays proves nothing."""
    grow(playground, 6)
    stays = next(user for user in map(str, range(100)) if home(playground, user) == home_of_4(playground, user))
    moves = next(user for user in map(str, range(100)) if home(playground, user) != home_of_4(playground, user))
    send_to(playground, stays, home_of_4(playground, stays))
    send_to(playground, moves, home_of_4(playground, moves), seconds_ago=400)
    knows = playground.start("knows", "repartition")
    knows.wait(30)
    grow(playground, 7)
    moves = next(user for user in map(str, range(100)) if home(playground, user) != partition_of_6(playground, user))
    send_to(playground, moves, partition_of_6(playground, moves))
    too_soon = playground.start("too-soon", "repartition")
    too_soon.wait(30)

    assert knows.exit_status == 0
    assert too_soon.exit_status == 1
    assert "Run it again after" in too_soon.log_tail
    assert finish(playground).endswith("start the workers")


def test_it_waits_for_such_producers_also_where_they_write_times_in_seconds(playground: Any) -> None:
    """Of 1970 by what Kafka thinks, and so not among the clicks since a few minutes ago."""
    grow(playground, 6)
    moves = next(user for user in map(str, range(100)) if home(playground, user) != home_of_4(playground, user))
    send_to(playground, moves, home_of_4(playground, moves), unit_ms=1_000)
    too_soon = playground.start("too-soon", "repartition")
    too_soon.wait(30)

    assert too_soon.exit_status == 1
    assert "Run it again after" in too_soon.log_tail


def home_of_4(playground: Any, user: str) -> int:
    return partition_of(user.encode(), 4, playground.settings.partitioner)


def partition_of_6(playground: Any, user: str) -> int:
    return partition_of(user.encode(), 6, playground.settings.partitioner)


def send_to(playground: Any, user: str, partition: int, *, seconds_ago: float = 0.0, unit_ms: int = 1) -> None:
    """Send a click as a producer does that has this partition for the user."""
    producer = Producer(producer_config(playground.settings))
    value = encode_click(ClickSchema.of(playground.settings), user, "i1", NOW_MS).value
    timestamp = int((time.time() - seconds_ago) * 1000) // unit_ms
    producer.produce(playground.settings.clicks_topic, value, user.encode(), partition, timestamp=timestamp)
    assert producer.flush(10) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partitioner": "none"}, "nobody knows where that is"),
        ({"partitioner": "consistent_random"}, "set the one that the producers of clicks use"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_it_refuses_to_guess_where_users_go(playground: Any, changes: dict[str, Any], said: str) -> None:
    """States would go where no click comes."""
    Application(playground, users=200, each=2)
    grow(playground, 6)
    before = states(playground)
    playground.settings = replace(playground.settings, **changes)
    child = repartition(playground)
    child.wait(30)

    assert child.exit_status == 1
    assert said in child.log_tail
    assert states(playground) == before
