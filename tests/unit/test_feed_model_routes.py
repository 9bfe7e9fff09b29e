"""The model inside the feed: how it begins, that it is in nobody's way, and what is answered over HTTP."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feed.list_store import ListStore
from feed.metrics import FeedMetrics
from feed.popular import PopularItems, younger
from feed.problems import ProblemError
from feed.routes.items import item_neighbours, popular
from feed.routes.sessions import session_recommendations
from feed.served_model import MAX_WAITING, ModelAtWork
from feed.shop import FeedShop
from nextclick.bundle import MODEL_FILE, save_bundle
from nextclick.feed_types import Neighbours, PopularList, SessionList
from nextclick.manifest import Manifest
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.updates import POPULAR, AnsweredClick, Recommendation, ServedBy, encode_update, ranked_list
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from tools.bundle_copies import BundleCopies

ROOT = Path(__file__).parents[2]
N_ITEMS = 40
IDS = [f"shop/item ä{number}" for number in range(N_ITEMS)]
DEADLINE_S = 30.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Where no broker is."""
    return Settings(
        broker="127.0.0.1:1",
        feed_dir=tmp_path / "feed",
        bundle_dir=tmp_path / "bundles",
        served_dir=tmp_path / "served",
    )


@pytest.fixture
def manifest(settings: Settings) -> Manifest:
    """A bundle that the feed of these settings served when it was last there."""
    network = random_network(NetworkConfig(N_ITEMS, 8, n_neighbours=4), 1)
    vocabulary = Vocabulary(IDS, np.arange(N_ITEMS, dtype=np.float64))
    manifest = save_bundle(settings.bundle_dir, network, vocabulary, created_ms=1_000, metrics={})
    BundleCopies(settings, settings.feed_dir / "bundles").fetch(manifest)
    return manifest


class Feed:
    """What the routes see of a feed."""

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self.settings = settings
        metrics = FeedMetrics(self.registry)
        self.items = ListStore(settings.feed_dir / "items", 8 * 1024**2, 0.0)
        self.shop = FeedShop(self.items, metrics)
        self.shop.absent()
        self.model = ModelAtWork(settings, metrics, self.shop.prepare)
        self.newest_popular: bytes | None = None

    def popular(self) -> PopularItems | None:
        bundle = self.model.current
        return younger(self.newest_popular, bundle.popular if bundle is not None else None)

    def swaps(self, result: str) -> float | None:
        return self.registry.get_sample_value("nextclick_feed_bundle_swaps_total", {"result": result})


@pytest.fixture
def feed(settings: Settings) -> Iterator[Feed]:
    feed = Feed(settings)
    yield feed
    feed.model.stop()
    feed.items.close()
    wait_for(lambda: not follows_models())


@pytest.fixture
def serving(manifest: Manifest, feed: Feed) -> Feed:
    feed.model.start()
    wait_for(lambda: feed.model.current is not None)
    return feed


def follows_models() -> bool:
    return "models" in {thread.name for thread in threading.enumerate()}


def wait_for(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def answer(feed: Feed, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    """Ask as a server would; gives the status and what the answer says."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return error.response()

    app = Starlette(
        routes=[
            Route("/v1/items/{item_id:path}/neighbours", item_neighbours),
            Route("/v1/popular", popular),
            Route("/v1/sessions/recommendations", session_recommendations, methods=["POST"]),
        ],
        exception_handlers={ProblemError: problem},
    )
    app.state.feed = feed
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json")],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": msgspec.json.encode(body), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], msgspec.json.decode(b"".join(part.get("body", b"") for part in sent[1:]))


def test_the_feed_begins_with_its_last_copy_while_kafka_is_away(manifest: Manifest, feed: Feed) -> None:
    """And while the store of bundles is away."""
    settings = feed.settings
    settings.bundle_dir.rename(settings.bundle_dir.with_name("gone"))
    feed.model.start()
    wait_for(lambda: feed.model.current is not None)

    assert feed.model.current is not None
    assert feed.model.current.model.bundle_id == manifest.bundle_id
    assert feed.model.current.popular.items[0].item_id == IDS[-1]
    assert feed.model.current.popular.produced_at_ms == 1_000
    assert (feed.swaps("swapped"), feed.swaps("refused")) == (1.0, 0.0)
    assert feed.registry.get_sample_value("nextclick_feed_bundle_info", {"bundle": manifest.bundle_id}) == 1


def test_a_copy_that_is_damaged_is_refused_and_the_feed_goes_on(
    manifest: Manifest, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which and why."""
    for form in feed.settings.served_dir.iterdir():
        form.unlink()
    (feed.settings.feed_dir / "bundles" / manifest.bundle_id / MODEL_FILE).write_bytes(b"damaged")
    feed.model.start()
    wait_for(lambda: feed.swaps("refused") == 1.0)

    assert feed.model.current is None
    assert feed.registry.get_sample_value("nextclick_feed_bundle_refused") == 1
    [said] = [record for record in caplog.records if "bundle refused" in record.message]
    assert f"{MODEL_FILE} is not what the manifest says" in said.message
    assert said.fields == {"bundle": manifest.bundle_id, "still_served": ""}  # type: ignore[attr-defined]
    assert follows_models()


def test_what_nobody_expected_of_a_bundle_does_not_end_the_feed(
    manifest: Manifest, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without memory, say."""

    def no_memory(self: BundleCopies, bundle_id: str) -> None:
        raise MemoryError

    monkeypatch.setattr(BundleCopies, "load", no_memory)
    feed.model.start()
    wait_for(lambda: feed.swaps("refused") == 1.0)

    assert follows_models()


def test_a_feed_ends_when_it_is_told_to(serving: Feed) -> None:
    """Its thread is not held up by a broker that is away."""
    serving.model.stop()

    wait_for(lambda: not follows_models())


def test_a_feed_starts_without_what_takes_long_to_load(settings: Settings, manifest: Manifest) -> None:
    """Neither numba nor numpy before the thread has a bundle; and never torch or Faust."""
    program = f"""
import sys, time
from pathlib import Path
from prometheus_client import CollectorRegistry
from feed.metrics import FeedMetrics
from feed.routes import items, sessions
from feed.served_model import ModelAtWork
from nextclick.settings import Settings
print(*({{"torch", "faust", "aiokafka", "numba", "numpy", "pyarrow"}} & set(sys.modules)))
folder = Path({str(settings.feed_dir.parent)!r})
settings = Settings(broker="127.0.0.1:1", feed_dir=folder / "feed", served_dir=folder / "served")
model = ModelAtWork(settings, FeedMetrics(CollectorRegistry()))
model.start()
while model.current is None:
    time.sleep(0.01)
print(*({{"torch", "faust", "aiokafka", "pyarrow", "safetensors"}} & set(sys.modules)))
model.stop()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr, done.returncode) == ("\n\n", "", 0)


def test_the_event_loop_goes_on_while_the_model_computes(feed: Feed) -> None:
    """What is computed is computed elsewhere, and what it raises is raised."""
    goes_on = threading.Event()

    def work() -> str:
        assert goes_on.wait(DEADLINE_S)
        return threading.current_thread().name

    def fail() -> None:
        raise ProblemError("unknown-item", "none")

    async def ask() -> str:
        computing = asyncio.create_task(feed.model.compute(work))
        await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(ProblemError, match="none"):
            await feed.model.compute(fail)
        return await computing

    assert asyncio.run(ask()).startswith("model")


def test_when_too_many_wait_one_more_is_refused_at_once(feed: Feed) -> None:
    """With a time after which to ask again; and who went away makes room."""
    goes_on = threading.Event()

    async def work() -> bool:
        async with asyncio.timeout(DEADLINE_S):
            return await feed.model.compute(goes_on.wait)

    async def ask() -> ProblemError:
        waiting = [asyncio.create_task(work()) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        try:
            with pytest.raises(ProblemError) as raised:
                await work()
            waiting[-1].cancel()
            await asyncio.sleep(0)
            waiting[-1] = asyncio.create_task(work())
            await asyncio.sleep(0)
        finally:
            goes_on.set()
        assert all(await asyncio.gather(*waiting))
        return raised.value

    refused = asyncio.run(ask())
    assert (refused.kind, dict(refused.headers or {})) == ("too-many", {"Retry-After": "1"})


def test_neighbours_over_http(serving: Feed) -> None:
    """An item's id may have slashes, blanks and letters of any language; the limit is the request's."""
    status, found = answer(serving, "GET", "/v1/items/shop%2Fitem%20%C3%A44/neighbours")
    _, two = answer(serving, "GET", "/v1/items/shop/item%20%C3%A44/neighbours?limit=2")

    assert status == 200
    neighbours = msgspec.convert(found, Neighbours)
    assert neighbours.item_id == IDS[4]
    assert [item.score for item in neighbours.items] == sorted((item.score for item in neighbours.items), reverse=True)
    assert len(neighbours.items) == 4
    assert two["items"] == found["items"][:2]


def test_an_unknown_item_is_a_problem_that_says_so(serving: Feed) -> None:
    """With the bundle that does not know it."""
    status, problem = answer(serving, "GET", "/v1/items/nothing/neighbours")

    assert (status, problem["type"]) == (404, "urn:nextclick:problem:unknown-item")
    assert "does not know the item 'nothing'" in problem["detail"]


def test_popular_items_over_http(serving: Feed) -> None:
    """Of the bundle; of an update that is younger."""
    status, of_bundle = answer(serving, "GET", "/v1/popular?limit=3")
    ranked = ranked_list(POPULAR, [Recommendation("a", 0.5)], [1])
    serving.newest_popular = encode_update("u", ranked, ServedBy(""), 1, AnsweredClick(0, 1, 2), 2_000)
    _, of_update = answer(serving, "GET", "/v1/popular?limit=3")

    assert status == 200
    assert [item.item_id for item in msgspec.convert(of_bundle, PopularList).items] == IDS[:-4:-1]
    assert [item.item_id for item in msgspec.convert(of_update, PopularList).items] == ["a", *IDS[:-3:-1]]


def test_a_session_over_http(serving: Feed) -> None:
    """As long as was asked for, without what is excluded; twice the same."""
    body = {"clicks": [{"item_id": IDS[3], "timestamp_ms": 1_764_000_000_000}]}
    status, whole = answer(serving, "POST", "/v1/sessions/recommendations?limit=6", body)
    first = msgspec.convert(whole, SessionList).items[0].item_id
    _, rest = answer(serving, "POST", "/v1/sessions/recommendations?limit=5&exclude=" + quote(first), body)

    assert (status, whole["strategy"], whole["sequence"], len(whole["items"])) == (200, "rnn", 1, 6)
    assert [item["item_id"] for item in rest["items"]] == [item["item_id"] for item in whole["items"][1:]]


def test_a_session_of_whom_nothing_is_known_gets_the_popular_items(feed: Feed) -> None:
    """Also before there is a bundle, of the newest update."""
    ranked = ranked_list(POPULAR, [Recommendation("a", 0.5)], [1])
    feed.newest_popular = encode_update("u", ranked, ServedBy(""), 1, AnsweredClick(0, 1, 2), 2_000)
    status, found = answer(feed, "POST", "/v1/sessions/recommendations", {"clicks": [{"item_id": "b"}]})

    assert status == 200
    assert found == {"items": [{"item_id": "a", "score": 0.5}], "strategy": "popular", "bundle_id": "", "sequence": 1}


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/v1/items/a/neighbours"), ("GET", "/v1/popular"), ("POST", "/v1/sessions/recommendations")],
)
def test_without_a_bundle_the_answer_says_that_there_is_none_yet(feed: Feed, method: str, target: str) -> None:
    """And to come again."""
    status, problem = answer(feed, method, target, {"clicks": []})

    assert (status, problem["type"]) == (503, "urn:nextclick:problem:no-model")


def test_a_request_that_cannot_be_read_is_refused(serving: Feed) -> None:
    """Also one without a bundle's work."""
    bad_limit = answer(serving, "GET", "/v1/items/a/neighbours?limit=0")
    bad_click = answer(serving, "POST", "/v1/sessions/recommendations", {"clicks": [{"item": "a"}]})
    future = {"clicks": [{"item_id": "a", "timestamp_ms": 4_000_000_000_000}]}
    too_late = answer(serving, "POST", "/v1/sessions/recommendations", future)

    assert (bad_limit[0], bad_click[0], too_late[0]) == (400, 400, 422)
