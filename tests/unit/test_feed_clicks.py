"""What becomes of clicks that clients send, where no broker is needed to tell."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry

import feed.click_writer
from feed.click_writer import ClickWriter
from feed.metrics import FeedMetrics
from nextclick.client import Feed, FeedError
from nextclick.feed_types import ClickIn, TakenClick
from nextclick.schema.encoder import EncodedClick
from nextclick.settings import Settings
from tests.served_feed import NO_BROKER, PARTITION, ServedFeed, update

CLICK = {"user_id": "ann", "item_id": "lamp"}
DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFeed]:
    with ServedFeed(tmp_path_factory.mktemp("feed"), recent_clicks=5) as served:
        yield served


@pytest.mark.parametrize("named_by", ["key", "event_id"])
def test_more_clicks_of_a_user_than_workers_know_again_are_refused_under_an_id(
    served: ServedFeed, named_by: str
) -> None:
    """A retry would apply the first ones twice: the last ones have pushed them out."""
    headers = {"Idempotency-Key": "k"} if named_by == "key" else {}
    named = [CLICK | ({"event_id": f"e{n}"} if named_by == "event_id" else {}) for n in range(6)]
    answer = httpx2.post(f"{served.url}/v1/clicks", json=named, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (422, "urn:nextclick:problem:click-refused")
    assert "6 clicks of its user" in answer.json()["detail"]
    assert "at most 5 of a user at once" in answer.json()["detail"]


@pytest.fixture
def taking(served: ServedFeed, monkeypatch: pytest.MonkeyPatch) -> ServedFeed:
    """A feed whose broker takes all clicks."""

    async def send(records: Sequence[EncodedClick]) -> list[TakenClick]:
        return [TakenClick(PARTITION, place) for place in range(len(records))]

    monkeypatch.setattr(served.parts.clicks, "send", send)
    return served


@pytest.mark.parametrize(("users", "key"), [(["ann"] * 5, "k"), (["ann", "ben"] * 5, "k"), (["ann"] * 6, None)])
def test_other_clicks_are_taken(taking: ServedFeed, users: list[str], key: str | None) -> None:
    """As many of each user as are known again; without an id, any number."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    answer = httpx2.post(f"{taking.url}/v1/clicks", json=[CLICK | {"user_id": user} for user in users], headers=headers)

    assert answer.status_code == 200, answer.text


def test_the_client_does_not_send_twice_what_would_be_applied_twice(taking: ServedFeed) -> None:
    """It is refused, and said; without retries, it goes out once and without a key."""
    many = [ClickIn("ann", "lamp")] * 6
    with Feed(taking.url) as client, pytest.raises(FeedError, match="recent_clicks") as raised:
        client.clicks(many)
    with Feed(taking.url, retries=0) as client:
        taken = client.clicks(many)

    assert raised.value.problem.status == 422
    assert len(taken.clicks) == 6


def test_a_list_that_is_there_is_given_though_the_broker_took_longer_than_the_wait(
    served: ServedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker can be quicker than the broker's answer."""

    async def send(records: Sequence[EncodedClick]) -> list[TakenClick]:
        served.store(update("ann", 3))
        await asyncio.sleep(0.2)
        return [TakenClick(PARTITION, 30)]

    monkeypatch.setattr(served.parts.clicks, "send", send)
    answer = httpx2.post(f"{served.url}/v1/clicks?wait=50ms", json=CLICK)

    assert answer.json()["recommendations"]["sequence"] == 3


def test_no_client_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has become of the broker's answers."""
    monkeypatch.setattr(feed.click_writer, "_ANSWER_S", 0.3)
    monkeypatch.setattr(ClickWriter, "_take_answers", lambda self: None)
    with ServedFeed(tmp_path) as served:
        answer = httpx2.post(f"{served.url}/v1/clicks", json=CLICK, timeout=10)

    assert (answer.status_code, answer.json()["type"]) == (503, "urn:nextclick:problem:no-broker")
    assert "under the same Idempotency-Key or event_id" in answer.json()["detail"]


def test_a_feed_whose_answers_nobody_can_take_any_more_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor starts it again; else it would refuse clicks for ever."""
    monkeypatch.setattr(feed.click_writer, "_POLL_S", "a mistake")
    with ServedFeed(tmp_path) as served:
        end_s = time.monotonic() + DEADLINE_S
        while not served.failures and time.monotonic() < end_s:
            time.sleep(0.01)

    assert [type(error) for error in served.failures] == [TypeError]


def test_an_answer_that_nobody_waits_for_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of those who asked has ended."""
    monkeypatch.setattr(feed.click_writer, "DELIVERY_S", 0.2)
    failures: list[Exception] = []

    async def ask() -> tuple[ClickWriter, "asyncio.Task[list[TakenClick]]"]:
        writer = ClickWriter(Settings(broker=NO_BROKER), FeedMetrics(CollectorRegistry()), failures.append)
        sending = asyncio.create_task(writer.send([writer.record(ClickIn("ann", "lamp"), None, 1_764_000_000_000)]))
        await asyncio.sleep(0.01)
        return writer, sending

    writer, sending = asyncio.run(ask())
    end_s = time.monotonic() + DEADLINE_S
    while len(writer._producer) and time.monotonic() < end_s:
        time.sleep(0.01)
    writer.close()

    assert sending.cancelled()
    assert len(writer._producer) == 0
    assert failures == []
