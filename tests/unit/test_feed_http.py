"""What a feed does with requests as the world sends them: its real application and server, without Kafka."""

import logging
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import feed.bodies
import feed.server
from feed.list_store import DamagedLists
from nextclick.errors import TemporaryError
from nextclick.updates import POPULAR
from tests.scrapes import value_of, without_app
from tests.served_feed import ITEMS, ServedFeed, update
from tools.kafka import Failure

ANN = "/v1/users/ann/recommendations"
SESSIONS = "/v1/sessions/recommendations"
SECRET = "user-4711"


async def failing(request: Request) -> Response:
    """A route with a mistake in it, whose error holds what the client has sent."""
    raise KeyError(request.path_params["user_id"])


async def failing_late(request: Request) -> Response:
    """One that fails when its answer has begun."""

    async def parts() -> Any:
        yield b"begun"
        raise TemporaryError("the disk is gone")

    return StreamingResponse(parts())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFeed]:
    """A feed that knows ann, and what is popular; two of its routes fail."""
    routes = [Route("/v1/failing/{user_id}", failing), Route("/failing-late", failing_late)]
    origins = "https://shop.example, http://localhost:3000"
    with ServedFeed(tmp_path_factory.mktemp("feed"), routes, feed_origins=origins) as served:
        served.store(update("ann", 3), update("ben", 1, ["top"], "popular"))
        yield served


@pytest.fixture(scope="module")
def client(served: ServedFeed) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=served.url, timeout=20, verify=False) as client:
        yield client


def assert_problem(answer: httpx2.Response, status: int, kind: str) -> str:
    """It is a problem as RFC 9457 has it; gives its detail."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"urn:nextclick:problem:{kind}", status)
    assert problem["title"]
    assert problem["detail"]
    assert answer.headers["cache-control"] == "no-store"
    return str(problem["detail"])


def raw(served: ServedFeed, sent: bytes, within_s: float = 20.0) -> bytes:
    """Send bytes as they are; give all that comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=within_s) as connection:
        connection.sendall(sent)
        return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while part := connection.recv(65_536):
            answer += part
    except ConnectionResetError:  # it ended while something was on its way to it
        pass
    return answer


# Probes, failures


def test_who_has_lists_is_ready_also_while_the_topic_cannot_be_read(tmp_path: Path) -> None:
    """Another instance would not have newer ones. One without lists is not, for another one can have them."""
    found = []
    with ServedFeed(tmp_path) as served:
        served.parts.follower.caught_up.clear()
        for positions in ({}, {0: 7}):
            served.parts.lists.write({}, positions)
            for failure in (None, Failure.GONE, Failure.PASSING, Failure.REFUSED):
                served.parts.follower.failure = failure
                answer = httpx2.get(f"{served.url}/readyz")
                found.append((answer.status_code, answer.json()["status"]))

    reading, away = (503, "reading the lists"), (200, "answering, Kafka is away")
    assert found == [reading] * 5 + [(200, "answering, the topic is not there"), away, away]


@pytest.mark.parametrize("user_id", ["ann", "nobody"])  # the popular list is read, too
@pytest.mark.parametrize("route", ["recommendations", "events"])
def test_damage_that_a_reader_finds_ends_the_feed(tmp_path: Path, route: str, user_id: str) -> None:
    """The next start reads the lists again; a client is sent to another instance, also one that opens a stream."""
    with ServedFeed(tmp_path) as served:
        served.store(update("ann", 3, strategy=POPULAR))
        served.parts.lists._db.rocks.flush()
        for file in (tmp_path / "lists").glob("*.sst"):
            with file.open("r+b") as data:
                data.write(b"x" * 30)
        answer = httpx2.get(f"{served.url}/v1/users/{user_id}/{route}")
        failures = list(served.failures)

    assert_problem(answer, 503, "ending")
    assert [type(failure) for failure in failures] == [DamagedLists]


# Methods, paths


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", ANN, "GET, HEAD"),
        ("OPTIONS", ANN, "GET, HEAD"),
        ("TRACE", "/v1/popular", "GET, HEAD"),
        ("PUT", "/v1/clicks", "POST"),
        ("GET", SESSIONS, "POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_those_that_there_are(
    client: httpx2.Client, method: str, path: str, allowed: str
) -> None:
    """As RFC 9110 wants it."""
    answer = client.request(method, path)

    assert allowed in assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v2/popular",
        "/v1/popular/",
        f"{ANN}/",
        "/healthz/",
        "/v1/users//recommendations",
        "/v1/users/a",
    ],
)
def test_an_unknown_path_is_a_problem(client: httpx2.Client, path: str) -> None:
    """Which says where all are listed, or what is missing; nothing is redirected."""
    assert_problem(client.get(path), 404, "not-found")


def test_head_gives_what_get_gives_without_the_body(client: httpx2.Client) -> None:
    """Also of a stream, which would have no end."""
    got, head = client.get(ANN), client.head(ANN)
    stream = client.head("/v1/users/ann/events")

    assert (head.status_code, head.text) == (200, "")
    assert head.headers["etag"] == got.headers["etag"]
    assert int(head.headers["content-length"]) > 0
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


@pytest.mark.parametrize(
    "user_id",
    ["a/b", "%", "%2F", "a%00b", "\0", "\n", "a\nb\n", "\U0001f600" * 64, "+ &=?#;", "events", "..", "\u202e"],
)
def test_an_id_may_be_any_text(client: httpx2.Client, user_id: str) -> None:
    """Whoever is unknown gets the popular list, under the name that was asked for."""
    coded = "".join(f"%{byte:02X}" for byte in user_id.encode())
    answer = client.get(f"/v1/users/{coded}/recommendations")

    assert (answer.status_code, answer.json()["user_id"]) == (200, user_id)
    assert [item["item_id"] for item in answer.json()["items"]] == ["top"]


def test_bytes_that_are_no_text_are_nobodys_id(client: httpx2.Client) -> None:
    """They do no harm."""
    assert client.get("/v1/users/%FF%FE/recommendations").json()["strategy"] == "popular"


@pytest.mark.parametrize("path", ["/v1/users/{}/recommendations", "/v1/users/{}/events", "/v1/items/{}/neighbours"])
def test_an_id_that_is_too_long_for_any_click_is_refused(client: httpx2.Client, path: str) -> None:
    """With its length, not with all of it."""
    detail = assert_problem(client.get(path.format("x" * 10_240)), 400, "bad-request")

    assert "10240 characters" in detail


# Parameters


@pytest.mark.parametrize(
    ("query", "said"),
    [
        *(
            (f"limit={given}", "limit must be a number")
            for given in ("0", "256", "-1", "", "1.0", "1e1", "٣", "9" * 50)
        ),
        ("limit=1&limit=2", "limit was given 2 times"),
        *((f"explain={given}", "explain must be true or false") for given in ("", "1", "TRUE", "yes", "%00")),
        ("exclude=" + "a," * 1_000, "exclude takes 1000 items"),
        ("&".join(["exclude=a"] * 1_001), "exclude takes 1000 items"),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_a_parameter_that_cannot_be_read_is_refused(client: httpx2.Client, query: str, said: str) -> None:
    """The detail says which, with the value."""
    assert said in assert_problem(client.get(f"{ANN}?{query}"), 400, "bad-request")


@pytest.mark.parametrize("wait", ["0ms", "0s", "11s", "10001ms", "1", "1m", "1.5s", "-1s", "1 s", "01s", "٣s", "s", ""])
def test_a_wait_that_cannot_be_read_is_refused(client: httpx2.Client, wait: str) -> None:
    """Before anything is sent."""
    answer = client.post("/v1/clicks", params={"wait": wait}, json={"user_id": "a", "item_id": "b"})

    assert "wait must be a time from 1ms to 10s" in assert_problem(answer, 400, "bad-request")


@pytest.mark.parametrize("key", ["", "a b", "x" * 251, b"\xe4"], ids=lambda key: ascii(key)[:20])
def test_a_key_that_cannot_be_one_is_refused(client: httpx2.Client, key: Any) -> None:
    """It has to be told from others, also by workers."""
    headers = [(b"Idempotency-Key", key.encode() if isinstance(key, str) else key)]
    answer = client.post("/v1/clicks", json={"user_id": "a", "item_id": "b"}, headers=headers)

    assert "Idempotency-Key" in assert_problem(answer, 400, "bad-request")


def test_what_is_excluded_is_not_there(client: httpx2.Client) -> None:
    """With commas, and several times; a thousand items fit into a request."""
    some = client.get(f"{ANN}?exclude=item-0,item-1&exclude=item-2").json()
    many = client.get(ANN, params={"exclude": [f"an-item-with-a-long-name-{number}" for number in range(1_000)]}).json()

    assert [item["item_id"] for item in some["items"]] == ITEMS[3:]
    assert [item["item_id"] for item in many["items"]] == ITEMS


def test_an_item_whose_id_has_a_comma_can_be_excluded(served: ServedFeed, client: httpx2.Client) -> None:
    """Written `%2C`, it is a part of the id; and the answer has a tag of its own."""
    served.store(update("kim", 1, ["a,b", "a", "b"]))
    path = "/v1/users/kim/recommendations"
    answers = [client.get(f"{path}?exclude={given}") for given in ("a%2Cb", "a,b", "a&exclude=b", "a%2Cb,%61", "b")]
    found = [[item["item_id"] for item in answer.json()["items"]] for answer in answers]

    assert found == [["a", "b"], ["a,b"], ["a,b"], ["b"], ["a,b", "a"]]
    assert len({answer.headers["etag"] for answer in answers}) == 4


# Caches


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (["{tag}"], 304),
        (["*"], 304),
        (['"other", {tag}'], 304),
        (['W/"a,b" ,{tag},"c"'], 304),
        (['"other"', "{tag}"], 304),
        (["{strong}"], 304),
        (['"other"'], 200),
        (["other, *x"], 200),
        ([""], 200),
    ],
)
def test_a_list_that_is_known_is_not_sent_again(client: httpx2.Client, given: list[str], status: int) -> None:
    """Any of several tags, compared weakly (RFC 9110, 13.1.2)."""
    tag = client.get(ANN).headers["etag"]
    headers = [("If-None-Match", each.format(tag=tag, strong=tag.removeprefix("W/"))) for each in given]
    answer = client.get(ANN, headers=headers)

    assert answer.status_code == status
    assert answer.headers["etag"] == tag
    assert answer.headers["cache-control"] == "private, no-cache"
    assert bool(answer.content) == (status == 200)


def test_a_tag_names_the_list_and_what_of_it_was_asked_for(served: ServedFeed, client: httpx2.Client) -> None:
    """Of a newer list it is another."""
    served.store(update("eve", 1))
    path = "/v1/users/eve/recommendations"
    tags = [client.get(path, params=params).headers["etag"] for params in ({}, {"limit": 3}, {"exclude": "item-1"}, {})]
    served.store(update("eve", 2))

    assert len(set(tags)) == 3
    assert tags[0] == tags[3]
    assert client.get(path, headers={"If-None-Match": tags[0]}).status_code == 200


def test_no_answer_is_kept_by_caches_without_asking(client: httpx2.Client) -> None:
    """Lists change with every click."""
    popular, session = client.get("/v1/popular"), client.post(SESSIONS, json={"clicks": []})

    assert (popular.headers["cache-control"], session.headers["cache-control"]) == ("no-cache", "no-store")


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"clicks": 1}',
        b'{"clicks": [], "clicks": 1}',
        b'{"clicks": [{"item_id": ""}]}',
        b'{"clicks": [{"item_id": "%b"}]}' % (b"x" * 257),
        b'{"clicks": [{"item_id": "a", "timestamp_ms": 1e400}]}',
        b'{"clicks": [{"item_id": "a", "timestamp_ms": %b}]}' % (b"9" * 5_000),
        b'{"clicks": [{"item_id": "a", "timestamp_ms": NaN}]}',
        b'{"clicks": [{"item_id": "\\ud800"}]}',
        b'{"clicks": [{"item_id": "\xff"}]}',
        b'{"clicks": [{"item_id": "a", "unknown": 1}]}',
        b'{"clicks": [%b]}' % b",".join([b'{"item_id": "a"}'] * 256),
        b"[" * 100_000,
        b'{"clicks": ' + b'{"a":' * 40_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_does_not_fit_is_refused(client: httpx2.Client, body: bytes) -> None:
    """Whatever it is."""
    answer = client.post(SESSIONS, content=body, headers={"Content-Type": "application/json"})

    assert len(assert_problem(answer, 400, "bad-request")) < 400


@pytest.mark.parametrize(("time_ms", "status"), [("1764000000000.0", 200), ("1.764e12", 200), ("1764000000000.5", 400)])
def test_a_whole_number_may_be_written_in_any_way(client: httpx2.Client, time_ms: str, status: int) -> None:
    """As JSON Schema has it, and some languages write it."""
    body = f'{{"clicks": [{{"item_id": "a", "timestamp_ms": {time_ms}}}]}}'
    answer = client.post(SESSIONS, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status


def test_more_clicks_than_a_record_may_have_are_refused(client: httpx2.Client) -> None:
    """And none of them is sent."""
    click = {"user_id": "a", "item_id": "b"}

    assert_problem(client.post("/v1/clicks", json=[click] * 1_001), 400, "bad-request")
    assert_problem(client.post("/v1/clicks", json=[]), 400, "bad-request")


@pytest.mark.parametrize("user_id", ["a\0b", "\U0001f600" * 65])
def test_a_click_that_workers_would_reject_is_refused(client: httpx2.Client, user_id: str) -> None:
    """Without Kafka being asked."""
    answer = client.post("/v1/clicks", json={"user_id": user_id, "item_id": "b"})

    assert_problem(answer, 422, "click-refused")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(client: httpx2.Client, chunked: bool) -> None:
    """Also one that does not say how large it is."""
    body = b" " * (256 * 1024 + 1)
    answer = client.post(SESSIONS, content=iter([body]) if chunked else body)

    assert "262144 bytes" in assert_problem(answer, 413, "too-large")
    assert client.post(SESSIONS, content=b'{"clicks":[]}' + b" " * 200_000).status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "multipart/form-data; boundary=x", "", "application/jsonp"])
def test_a_body_of_another_type_is_refused(client: httpx2.Client, media_type: str) -> None:
    """So that a form of another site cannot send clicks: browsers ask first for JSON (CORS)."""
    answer = client.post(SESSIONS, content=b'{"clicks":[]}', headers={"Content-Type": media_type})

    assert_problem(answer, 415, "unsupported-media-type")
    assert client.post(
        SESSIONS, content=b"{}", headers={"Content-Type": "application/JSON; charset=utf-8"}
    ).is_client_error


# Slow and endless clients


def test_a_head_without_end_is_cut_off(served: ServedFeed) -> None:
    """It would fill the memory."""
    for sent in (
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
        b"GET /" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nx: " + b"y" * 99_999,
    ):
        answer = raw(served, sent, within_s=feed.server.HEAD_S / 2)

        assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""  # the system can throw away what was not read


def test_a_head_that_is_too_long_is_refused_though_it_ends(served: ServedFeed) -> None:
    """All of it can come at once."""
    assert raw(served, b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    assert raw(served, b"GET /healthz HTTP/1.0\r\nx: " + b"y" * 60_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent", [b"", b"GET ", b"GET /healthz HTTP/1.1\r\nhost: a\r\n", b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HT"]
)
def test_a_client_that_does_not_go_on_is_cut_off(
    served: ServedFeed, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """It would keep its place for ever; also behind a request that was answered."""
    monkeypatch.setattr(feed.server, "HEAD_S", 0.3)
    began_s = time.monotonic()
    answer = raw(served, sent)

    assert time.monotonic() - began_s < 5.0
    assert answer.count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\n")


def test_a_body_that_does_not_come_is_not_waited_for(served: ServedFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told."""
    monkeypatch.setattr(feed.bodies, "BODY_S", 0.3)
    head = b"POST /v1/sessions/recommendations HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n"

    assert raw(served, head + b"{").startswith(b"HTTP/1.1 408 ")


def test_what_is_left_of_a_refused_body_is_not_waited_for(served: ServedFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is there already."""
    monkeypatch.setattr(feed.server, "HEAD_S", 0.3)
    head = b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n"

    assert raw(served, head + b"{").startswith(b"HTTP/1.1 404 ")


def test_a_connection_is_kept_between_requests(served: ServedFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a head begins with the request, and a body that came late is no reason to end it."""
    monkeypatch.setattr(feed.server, "HEAD_S", 0.3)
    ask = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(ask)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.6)  # longer than a head may take


def test_a_head_that_came_in_parts_has_its_answer_in_its_own_time(
    served: ServedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream goes on longer than a head may take."""
    monkeypatch.setattr(feed.server, "HEAD_S", 0.5)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"GET /v1/users/fay/events HTTP/1.1\r\n")
        time.sleep(0.1)  # so that it is read by itself
        connection.sendall(b"host: a\r\n\r\n")
        while b'"sequence":0' not in connection.recv(65_536):
            pass
        time.sleep(0.8)
        served.store(update("fay", 1))

        assert b'"sequence":1' in connection.recv(65_536)


def test_only_so_many_requests_may_wait_behind_another_one(served: ServedFeed) -> None:
    """They would fill the memory, all at once."""
    ask, end = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /healthz HTTP/1.0\r\n\r\n"

    assert raw(served, ask * 60 + end).count(b"HTTP/1.1 200 ") == 61
    assert b"HTTP/1.1 400 " in raw(served, ask * 1_000)


def test_a_client_that_does_not_read_is_cut_off(served: ServedFeed) -> None:
    """By the system, after a minute: an answer of which it takes nothing would stay in memory."""
    with feed.server.listening_socket(served.settings) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_a_feed_may_open_as_many_connections_as_the_system_allows() -> None:
    """A shell's own limit is often a thousand."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
    try:
        feed.server.allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00", b"nonsense\r\n\r\n", b"GET http:// HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_request_is_refused(served: ServedFeed, sent: bytes) -> None:
    """And the connection ends."""
    assert raw(served, sent).startswith(b"HTTP/1.1 400 ")


# Failures


def test_a_route_that_fails_is_a_problem_and_the_log_says_where_but_not_who_asked(
    client: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages of other origins may read that it has failed."""
    answer = client.get(f"/v1/failing/{SECRET}", headers={"Origin": "https://shop.example"})
    logged = [logging.Formatter().format(record) for record in caplog.records]

    assert_problem(answer, 500, "internal")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert [line.splitlines()[0] for line in logged if "failed" in line] == ["/v1/failing/{user_id} failed: KeyError"]
    assert "in failing" in "".join(logged)
    assert SECRET not in "".join(logged)
    assert 'method="GET",route="/v1/failing/{user_id}",status="500"} 1.0' in client.get("/metrics").text


def test_an_answer_that_fails_on_its_way_is_cut_off(served: ServedFeed, caplog: pytest.LogCaptureFixture) -> None:
    """Its client must not take it for whole."""
    answer = raw(served, b"GET /failing-late HTTP/1.1\r\nhost: a\r\n\r\n")

    assert b"begun" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert "/failing-late failed: TemporaryError the disk is gone" in caplog.text


def test_no_log_line_holds_who_asked_or_what_for(
    served: ServedFeed, client: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the feed's own lines nor those of the server, however much it is told to say."""
    for clients_own in ("httpx2", "httpcore2"):
        caplog.set_level(logging.WARNING, clients_own)
    caplog.set_level(logging.DEBUG)
    for path in (f"/v1/users/{SECRET}/recommendations", f"/v1/users/{SECRET}", f"/v1/items/{SECRET}/neighbours"):
        client.get(path, headers={"Authorization": f"Bearer {SECRET}"})
    client.get("/v1/users/a/recommendations", params={"limit": SECRET})
    client.post("/v1/clicks", json={"user_id": SECRET + "\0", "item_id": SECRET, "more": SECRET})
    upgrade = "upgrade: websocket\r\nconnection: upgrade"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(f"GET /v1/users/{SECRET} HTTP/1.1\r\n{upgrade}\r\n\r\n{SECRET}".encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 404 ")
    raw(served, f"{SECRET}\r\n\r\n".encode())

    assert "Invalid HTTP request" in caplog.text
    assert SECRET not in caplog.text


def test_requests_are_counted_by_route_and_status_and_are_there_before_the_first(client: httpx2.Client) -> None:
    """A client can ask for any path: that makes no series of its own."""

    def n_of_none() -> float:
        text = without_app(client.get("/metrics").text)
        return value_of(text, 'nextclick_feed_requests_total{method="GET",route="none",status="404"}') or 0.0

    before = n_of_none()
    client.get("/nowhere/at/all")
    after, text = n_of_none(), without_app(client.get("/metrics").text)

    assert after == before + 1
    assert "nowhere" not in text
    assert value_of(text, 'nextclick_feed_requests_total{method="GET",route="/v1/popular",status="500"}') == 0
    assert 'nextclick_feed_request_seconds_count{method="POST",route="/v1/sessions/recommendations"}' in text
