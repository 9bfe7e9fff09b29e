"""A feed beside a worker on a real broker: lists, clicks, streams, kills, outages."""

import http.client
import http.server
import itertools
import json
import os
import resource
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from nextclick.output import avro
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import AnsweredClick, ServedBy, encode_update, ranked_list
from tests.chaos.bundles import announce, untrained_bundle
from tests.feeds import FeedUnderTest, StreamReader
from tests.integration.conftest import create_topics
from tests.scrapes import value_of, without_app
from tests.simulated_clicks import simulated
from tools.client_config import librdkafka_config, producer_config

ITEMS = [f"i{number}" for number in range(50)]


def metric(feed: FeedUnderTest, name: str) -> float:
    """The value of a metric without labels."""
    found = value_of(without_app(feed.ask("/metrics").body), name)
    assert found is not None
    return found


def newest_sequences(playground: Any) -> dict[str, int]:
    """What the topic has of each user in the end."""
    newest: dict[str, int] = defaultdict(int)
    for update in playground.updates():
        newest[update.user_id] = max(newest[update.user_id], update.sequence)
    return newest


def test_a_click_over_http_is_answered_with_the_list_that_contains_it(playground: Any) -> None:
    """And the list's own route gives the same, with a tag by which it is known again."""
    announce(playground.settings, untrained_bundle(playground.settings.bundle_dir, ITEMS, seed=1))
    playground.worker()
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")

    click = {"user_id": "ann/1", "item_id": "i1", "event_type": "cart"}
    taken = feed.ask("/v1/clicks?wait=10s", click)
    listed = feed.ask("/v1/users/ann%2F1/recommendations?limit=5&exclude=i2,i3")

    assert taken.status == 200
    assert taken.body["recommendations"]["sequence"] == 1
    assert (listed.status, listed.body["sequence"], listed.body["user_id"]) == (200, 1, "ann/1")
    wanted = [item for item in taken.body["recommendations"]["items"] if item["item_id"] not in ("i2", "i3")]
    assert listed.body["items"] == wanted[:5]
    assert 0 <= listed.body["age_ms"] < 60_000
    again = feed.ask("/v1/users/ann%2F1/recommendations?limit=5&exclude=i3,i2", if_none_match=listed.headers["etag"])
    assert (again.status, again.body) == (304, "")
    other = feed.ask("/v1/users/ann%2F1/recommendations?limit=4", if_none_match=listed.headers["etag"])
    assert other.status == 200
    [stored] = playground.clicks()
    assert (stored.click.user_id, stored.click.item_id, stored.click.event_type) == ("ann/1", "i1", 1)


def test_a_retry_is_applied_once_and_answered(playground: Any) -> None:
    """By the request's key, by each click's place under it, and by the event's own id."""
    playground.worker()
    feed = FeedUnderTest(playground)

    def send(body: Any, **headers: str) -> int:
        answer = feed.ask("/v1/clicks?wait=10s", body, **headers)
        assert answer.status == 200, answer.body
        sequence: int = answer.body["recommendations"]["sequence"]
        return sequence

    two = [{"user_id": "ann", "item_id": "i1"}, {"user_id": "ann", "item_id": "i2"}]
    assert [send(two, idempotency_key="k") for _ in range(2)] == [2, 2]
    one = {"user_id": "ann", "item_id": "i3", "event_id": "e"}
    assert [send(one) for _ in range(2)] == [3, 3]
    assert send(two[0]) == 4  # a click like another one is another click
    assert len(playground.clicks()) == 7
    many = [{"user_id": "ben", "item_id": f"i{n}"} for n in range(playground.settings.recent_clicks)]
    assert [send(many, idempotency_key="m") for _ in range(2)] == [len(many)] * 2
    assert feed.ask("/v1/clicks", [*many, many[0]], idempotency_key="n").status == 422  # see the decision on the feed


def test_what_a_worker_would_reject_is_refused(playground: Any) -> None:
    """All of a request or nothing; nothing is written."""
    feed = FeedUnderTest(playground)
    good, bad = {"user_id": "ann", "item_id": "i1"}, {"user_id": "ann", "item_id": "i1", "event_type": "forget"}

    answer = feed.ask("/v1/clicks", [good, bad])

    assert (answer.status, answer.body["type"]) == (422, "urn:nextclick:problem:click-refused")
    assert answer.body["detail"].startswith("click 2 of 2: ")
    assert playground.count(playground.settings.clicks_topic) == 0


def test_events_come_as_lists_are_made_and_the_end_of_the_feed_ends_them(playground: Any) -> None:
    """In order, to every stream of the user; a feed that is asked to end has done well."""
    playground.worker()
    feed = FeedUnderTest(playground)
    streams = [StreamReader(feed.port, "ann") for _ in range(3)]
    playground.wait_for(lambda: all(stream.events for stream in streams), "each stream has begun")
    assert all(listed["strategy"] == "popular" for stream in streams for _, listed in stream.events)

    for _ in range(5):
        feed.ask("/v1/clicks?wait=10s", {"user_id": "ann", "item_id": "i1"})
    playground.wait_for(lambda: all(stream.sequences[-1:] == [5] for stream in streams), "each has the last list")
    os.kill(feed.process.pid, signal.SIGTERM)
    began_s = time.monotonic()
    feed.process.wait(10.0)

    assert time.monotonic() - began_s < 5.0
    assert feed.process.exit_status == 0
    for stream in streams:
        stream.stop()
        assert stream.sequences == sorted(set(stream.sequences))
    playground.assert_no_error_logged("feed")


def test_a_feed_that_starts_again_answers_at_once_and_reads_what_is_new(playground: Any) -> None:
    """From its own store, long before it could have read the topic."""
    playground.worker()
    playground.send(simulated(3_000))
    playground.wait_until_answered()
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")
    n_read = metric(feed, "nextclick_feed_updates_total")
    feed.process.kill()
    playground.send([("late", "i1", 1_764_000_000_000)])
    playground.wait_until_answered()

    expected = newest_sequences(playground)
    user = next(user for user in expected if user != "late")
    feed = FeedUnderTest(playground)
    answer = feed.ask(f"/v1/users/{user}/recommendations")
    playground.wait_for(feed.is_ready, "the feed is ready")

    assert answer.body["sequence"] == expected[user]
    assert n_read >= len(expected) - 1
    assert metric(feed, "nextclick_feed_updates_total") == 1
    for each, sequence in expected.items():
        assert feed.ask(f"/v1/users/{each}/recommendations").body["sequence"] == sequence


class _Viewer:
    """Asks for users' lists all the time, and notes those that are older than one it was shown."""

    def __init__(self, feed: FeedUnderTest, users: list[str]) -> None:
        self._feed, self._users = feed, users
        self._shown: dict[str, int] = defaultdict(int)
        self.older: list[tuple[str, int, int]] = []
        self.n_shown = 0

    def ask(self, stop: threading.Event) -> None:
        """Ask until it is enough."""
        for user in itertools.cycle(self._users):
            if stop.is_set():
                return
            try:
                sequence = self._feed.ask(f"/v1/users/{user}/recommendations", timeout_s=1.0).body["sequence"]
            except (OSError, http.client.HTTPException):  # it was killed
                continue
            if sequence < self._shown[user]:
                self.older.append((user, self._shown[user], sequence))
            self._shown[user] = max(self._shown[user], sequence)
            self.n_shown += sequence > 0


def click_all_the_time(playground: Any, users: list[str], stop: threading.Event) -> None:
    """Send 200 clicks/s of these users in turn, until it is enough."""
    settings = playground.settings
    schema, producer = ClickSchema.of(settings), Producer(producer_config(settings) | {"linger.ms": 0})
    for number in itertools.count():
        if stop.is_set():
            break
        user = users[number % len(users)]
        click = encode_click(schema, user, f"i{number % 50}", 1_764_000_000_000 + number)
        producer.produce(settings.clicks_topic, click.value, click.key)
        producer.poll(0)
        time.sleep(0.005)
    assert producer.flush(30) == 0


def test_a_feed_that_is_killed_ten_times_shows_nothing_older_and_loses_nothing(playground: Any) -> None:
    """Under load, with someone who asks all the time and streams that connect again."""
    playground.worker()
    users = [f"u{number}" for number in range(20)]
    playground.send((user, "i1", 1_764_000_000_000) for user in users)
    playground.wait_until_answered()
    feed = FeedUnderTest(playground)
    streams, viewer, stop = [StreamReader(feed.port, user) for user in users], _Viewer(feed, users), threading.Event()
    threads = [
        threading.Thread(target=viewer.ask, args=(stop,)),
        threading.Thread(target=click_all_the_time, args=(playground, users, stop)),
    ]
    for thread in threads:
        thread.start()
    for _ in range(10):
        time.sleep(1.0)
        feed.process.kill()
        feed = FeedUnderTest(playground, port=feed.port)
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    playground.wait_until_answered()
    expected = newest_sequences(playground)

    assert viewer.older == []
    assert viewer.n_shown > 100
    for stream in streams:
        last = expected[stream.user_id]
        playground.wait_for(lambda stream=stream, last=last: stream.sequences[-1:] == [last], "the last list has come")
        assert stream.sequences == sorted(set(stream.sequences))
        assert stream.n_connected > 5
        stream.stop()
    for user in users:
        assert feed.ask(f"/v1/users/{user}/recommendations").body["sequence"] == expected[user]


def test_a_topic_that_is_created_anew_is_read_anew(playground: Any) -> None:
    """What was of the old one is forgotten."""
    settings = playground.settings
    playground.worker()
    feed = FeedUnderTest(playground)
    assert feed.ask("/v1/clicks?wait=10s", {"user_id": "ann", "item_id": "i1"}).body["recommendations"]["sequence"] == 1
    for child in playground.children:
        child.kill()
    admin = AdminClient(librdkafka_config(settings))
    admin.delete_topics([settings.recommendations_topic])[settings.recommendations_topic].result(30)
    playground.wait_for(
        lambda: settings.recommendations_topic not in admin.list_topics(timeout=10).topics, "the topic is gone"
    )
    create_topics(settings)

    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")

    assert feed.ask("/v1/users/ann/recommendations").body["sequence"] == 0
    assert "created anew" in playground.log("feed").read_text()


def test_a_feed_with_lists_is_ready_while_the_topic_is_not_there(playground: Any) -> None:
    """It answers, and says what is missing."""
    settings = playground.settings
    feed = FeedUnderTest(playground)
    write(settings, [(b"ann", popular("ann", 1, produced_at_ms=2_000))])
    playground.wait_for(lambda: sequence_of(feed, "ann") == 1, "the list is stored")
    feed.process.kill()
    admin = AdminClient(librdkafka_config(settings))
    admin.delete_topics([settings.recommendations_topic])[settings.recommendations_topic].result(30)
    feed = FeedUnderTest(playground)

    playground.wait_for(lambda: "the topic is not there" in str(feed.ask("/readyz").body), "the feed says so")
    assert feed.is_ready()
    assert sequence_of(feed, "ann") == 1


def popular(user_id: str, sequence: int, *, produced_at_ms: int) -> bytes:
    """A popular list of a worker."""
    return encode_update(
        user_id, ranked_list("popular", [], []), ServedBy(""), sequence, AnsweredClick(0, sequence, 1), produced_at_ms
    )


def sequence_of(feed: FeedUnderTest, user_id: str) -> int:
    """Of the list that a user gets."""
    found: int = feed.ask(f"/v1/users/{user_id}/recommendations").body["sequence"]
    return found


def write(settings: Settings, records: list[tuple[bytes, bytes]]) -> None:
    """Write to the topic of updates, and wait for the broker."""
    producer = Producer(producer_config(settings))
    for key, value in records:
        producer.produce(settings.recommendations_topic, value, key, partition=0)
    assert producer.flush(30) == 0


def test_the_youngest_popular_list_is_kept_whichever_is_read_last(playground: Any) -> None:
    """Of those that are read together, and of those that come later. Records that are none are said once."""
    settings = playground.settings
    together = [("ann", 2_000), ("ben", 4_000), ("cleo", 3_000)]
    write(settings, [(user.encode(), popular(user, 1, produced_at_ms=at_ms)) for user, at_ms in together])
    write(settings, [(b"dan", b"{}")] * 50)
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")
    first = feed.ask("/v1/popular").body["produced_at_ms"]
    write(settings, [(b"eve", popular("eve", 1, produced_at_ms=1_000)), (b"fay", b"{}")])
    playground.wait_for(lambda: sequence_of(feed, "eve") == 1, "it is stored")
    second = feed.ask("/v1/popular").body["produced_at_ms"]
    write(settings, [(b"gil", popular("gil", 1, produced_at_ms=5_000))])
    playground.wait_for(lambda: sequence_of(feed, "gil") == 1, "it is stored")

    assert [first, second, feed.ask("/v1/popular").body["produced_at_ms"]] == [4_000, 4_000, 5_000]
    playground.wait_for(lambda: metric(feed, "nextclick_feed_unreadable_total") == 51, "all are counted")
    assert playground.log("feed").read_text().count("a record is passed over") == 1


class _Registry(http.server.BaseHTTPRequestHandler):
    """A schema registry that refuses everyone for as long as it is told to."""

    refuses = True

    def do_GET(self) -> None:
        """Answer the question for a schema."""
        schema = {"schema": json.dumps(avro.SCHEMA), "schemaType": "AVRO"}
        body = json.dumps({"error_code": 401, "message": "who are you?"} if _Registry.refuses else schema).encode()
        self.send_response(401 if _Registry.refuses else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing_registry() -> Iterator[str]:
    """The address of a registry that refuses everyone until it is told otherwise."""
    _Registry.refuses = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def in_avro(user_id: str, sequence: int) -> bytes:
    """A popular list of a worker that writes Avro."""
    output = avro.avro_format(7)
    ranked = ranked_list("popular", [], [])._replace(items=avro.encode_items([]))
    return output.encode_update(user_id, ranked, ServedBy(""), sequence, AnsweredClick(0, sequence, 1), 2_000)


def test_a_registry_that_refuses_a_feed_with_lists_is_waited_for(playground: Any, refusing_registry: str) -> None:
    """A password that has expired must not take the lists away. How far behind they are is told meanwhile."""
    feed = FeedUnderTest(playground, NEXTCLICK_SCHEMA_REGISTRY=refusing_registry)
    write(playground.settings, [(b"ann", popular("ann", 1, produced_at_ms=2_000))])
    playground.wait_for(lambda: sequence_of(feed, "ann") == 1, "the list is stored")
    write(playground.settings, [(b"ben", in_avro("ben", sequence)) for sequence in (1, 2, 3)])
    playground.wait_for_log("feed", "refuses us (status 401)")
    playground.wait_for(lambda: metric(feed, "nextclick_feed_behind_records") > 0, "it says that it is behind")
    before = (sequence_of(feed, "ann"), sequence_of(feed, "ben"), feed.is_ready())
    _Registry.refuses = False
    playground.wait_for(lambda: sequence_of(feed, "ben") == 3, "the lists are read")

    assert before == (1, 0, True)


def test_a_registry_that_refuses_a_feed_without_lists_ends_it(playground: Any, refusing_registry: str) -> None:
    """There is nothing to serve, and whoever starts it is told why."""
    write(playground.settings, [(b"ben", in_avro("ben", 1))])
    feed = FeedUnderTest(playground, NEXTCLICK_SCHEMA_REGISTRY=refusing_registry)
    feed.process.wait(30.0)

    assert feed.process.exit_status == 1
    assert "refuses us (status 401)" in playground.log("feed").read_text().splitlines()[-1]


def test_a_feed_that_cannot_write_ends_with_status_0(playground: Any) -> None:
    """What is stored is answered until then, and a metric says how far behind the lists are."""
    feed = FeedUnderTest(playground)
    write(playground.settings, [(b"ann", popular("ann", 1, produced_at_ms=2_000))])
    playground.wait_for(lambda: sequence_of(feed, "ann") == 1, "the list is stored")
    # As a full disk does, the system refuses to let files grow.
    resource.prlimit(feed.process.pid, resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
    many = [f"user-{number}" for number in range(100)]
    write(playground.settings, [(user.encode(), popular(user, 2, produced_at_ms=2_000)) for user in many])
    playground.wait_for(lambda: metric(feed, "nextclick_feed_behind_records") > 0, "it says that it is behind")
    before = sequence_of(feed, "ann")
    os.kill(feed.process.pid, signal.SIGTERM)
    feed.process.wait(10.0)

    assert before == 1
    assert feed.process.exit_status == 0


def test_partitions_that_are_added_are_read_while_the_feed_runs(playground: Any) -> None:
    """Without a restart."""
    settings = playground.settings
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")
    topic, admin = settings.recommendations_topic, AdminClient(librdkafka_config(settings))
    admin.create_partitions([NewPartitions(topic, settings.partitions + 1)])[topic].result(30)
    update = encode_update("ann", ranked_list("popular", [], []), ServedBy(""), 3, AnsweredClick(4, 0, 1), 2)
    producer = Producer(producer_config(settings))

    def arrived() -> bool:
        """The new partition takes a moment to have a leader, and the producer to hear of it."""
        producer.list_topics(topic, 10)
        delivered: list[Any] = []
        producer.produce(topic, update, b"ann", partition=4, on_delivery=lambda error, _: delivered.append(error))
        producer.flush(10)
        return delivered == [None]

    playground.wait_for(arrived, "the new partition takes records")
    playground.wait_for(lambda: feed.ask("/v1/users/ann/recommendations").body["sequence"] == 3, "its list is read")


@pytest.mark.release
def test_lists_are_served_while_kafka_is_away(outage: Any, broker_to_stop: Any) -> None:
    """Clicks are refused meanwhile, in time and with a reason; all goes on afterwards."""
    outage.worker()
    feed = FeedUnderTest(outage)
    click = {"user_id": "ann", "item_id": "i1"}
    assert feed.ask("/v1/clicks?wait=10s", click).body["recommendations"]["sequence"] == 1
    broker_to_stop.stop(keep_data=True)

    listed = feed.ask("/v1/users/ann/recommendations")
    refused = feed.ask("/v1/clicks", click | {"event_id": "again"})
    outage.wait_for(lambda: "Kafka is away" in str(feed.ask("/readyz").body), "the feed says so")

    assert (listed.status, listed.body["sequence"]) == (200, 1)
    assert (refused.status, refused.body["type"]) == (503, "urn:nextclick:problem:no-broker")
    feed.process.kill()
    feed = FeedUnderTest(outage)
    assert feed.ask("/v1/users/ann/recommendations").body["sequence"] == 1
    broker_to_stop.start()

    def taken() -> bool:
        return feed.ask("/v1/clicks", click | {"event_id": "again"}).status == 200

    outage.wait_for(taken, "clicks are taken again")
    outage.wait_for(lambda: feed.ask("/v1/users/ann/recommendations").body["sequence"] == 2, "the list is new")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("feed_port", "1", "feed_port=N"),
        ("feed_tokens_file", "/nowhere", "feed_tokens_file /nowhere cannot be used"),
        ("feed_tls_key_file", "/nowhere", "belong together"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(playground: Any, setting: str, value: str, said: str) -> None:
    """In one line, with status 1."""
    if setting == "feed_port" and os.geteuid() == 0:
        setting, value, said = "feed_host", "192.0.2.1", "feed_host"
    feed = playground.start(
        "feed", "feed", "--set", f"feed_dir={playground.folder}/feed", "--set", f"{setting}={value}"
    )
    feed.wait(15.0)

    assert feed.exit_status == 1
    assert said in playground.log("feed").read_text()
    assert "Traceback" not in playground.log("feed").read_text()
