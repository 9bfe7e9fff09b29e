"""When lists may be made, and which must be made again."""

import asyncio
import sys
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from nextclick.catalogue import ShopItem
from nextclick.hashing import item_hash
from nextclick.item_traits import ItemTraits
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignment, Phase, Superseded
from stream.shop_view import _ANY, MAX_AGE_S, ShopView
from tools.items.follower import ItemRecord
from tools.kafka import TopicIdentity

TOPIC = TopicIdentity("items", "one", 1)
IDS = ["a", "b", "c"]
GONE = ShopItem(available=False)


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Model:
    """What a view sees of a model."""

    def __init__(self) -> None:
        self.item_hashes = np.array([item_hash(each) for each in IDS], np.uint64)
        self.given: list[ItemTraits | None] = []

    def set_traits(self, traits: ItemTraits | None) -> None:
        self.given.append(traits)

    @property
    def factors(self) -> list[float] | None:
        traits = self.given[-1]
        return traits.factors.tolist() if traits is not None else None


def records(**said: ShopItem) -> list[ItemRecord]:
    return [ItemRecord(item_id, item, b"{}") for item_id, item in said.items()]


def low(item_id: str) -> int:
    return item_hash(item_id) & 0xFFFFFFFF


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(clock: Clock) -> ShopView:
    return ShopView(WorkerMetrics(CollectorRegistry()), clock)


def test_lists_are_made_while_what_is_known_is_new(view: ShopView, clock: Clock) -> None:
    """Not before the topic was read, and not when it was not heard of for too long."""
    assert not view.is_new_enough()
    assert "until the topic of items is read" in str(view.trouble())
    view.begin(TOPIC, anew=False)
    view.heard(clock.now_s - 0.5)
    assert view.is_new_enough()
    assert view.trouble() is None
    clock.now_s += MAX_AGE_S - 0.5 + 0.01
    assert not view.is_new_enough()
    assert "it is not known since 0.8 s" in str(view.trouble())
    view.heard(clock.now_s)
    assert view.is_new_enough()
    view.begin(TOPIC, anew=True)
    assert not view.is_new_enough()
    view.absent()
    clock.now_s += 1e6
    assert view.is_new_enough()


def test_waiting_ends_with_news_or_with_the_assignment(view: ShopView, clock: Clock) -> None:
    """And is told to the watchdog meanwhile."""

    async def wait() -> Any:
        assignment = Assignment(10.0, 0.0)
        assignment.enter(Phase.SERVING, 0.0)
        first = asyncio.create_task(view.wait(assignment))
        await asyncio.sleep(0.05)
        waited_for = view.is_waited_for, first.done()
        view.heard(clock.now_s)
        await asyncio.wait_for(first, 1.0)
        clock.now_s += 5.0
        second = asyncio.create_task(view.wait(assignment))
        await asyncio.sleep(0.05)
        assignment.end()
        with pytest.raises(Superseded):
            await asyncio.wait_for(second, 1.0)
        return waited_for

    assert asyncio.run(wait()) == (True, False)
    assert not view.is_waited_for


def test_models_have_the_traits_before_an_item_counts_as_lost(view: ShopView, clock: Clock) -> None:
    """What was withdrawn since lists were last begun is named; after a beginning anew it can be any item."""
    model: Any = Model()
    view.stock.prepare(model)
    view.take(records(a=GONE), 1)
    assert view.take_lost() == set()
    assert model.factors is None
    view.heard(clock.now_s)
    assert model.factors == [0.0, 1.0, 1.0]
    assert view.take_lost() is None
    view.take(records(a=ShopItem(), b=GONE, x=GONE, c=ShopItem(boost=2.0)), 5)
    assert model.factors == [1.0, 0.0, 2.0]
    assert view.take_lost() == {low("b"), low("x")}
    assert view.take_lost() == set()
    assert view.stock.factor_of(item_hash("x")) == 0.0


def test_nothing_that_was_lost_is_forgotten_while_nobody_makes_lists(
    view: ShopView, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so many that they are not kept, it can be any item: at every moment, for another thread may ask at any."""
    monkeypatch.setattr("stream.shop_view._MOST_LOST", 2)
    view.heard(clock.now_s)
    view.take_lost()
    view.take(records(a=GONE), 1)
    seen: list[list[int]] = []

    def each_line(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is ShopView._note_lost.__code__:
            seen.append(list(view._lost))
            return each_line
        return None

    sys.settrace(each_line)
    try:
        view.take(records(b=GONE, c=GONE), 3)
    finally:
        sys.settrace(None)

    assert all(low("a") in lost or _ANY in lost for lost in seen)
    assert view.take_lost() is None
    assert view.take_lost() == set()


def test_a_model_that_is_prepared_meanwhile_misses_nothing(
    view: ShopView, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle of a million items takes a while to be given its traits, and the follower's thread does not wait."""
    view.heard(clock.now_s)
    table = view.stock.table
    categories_of = table.categories_of

    def slow(hashes: Any) -> Any:  # the factors have been looked up by now
        view.take(records(b=GONE), 1)
        return categories_of(hashes)

    monkeypatch.setattr(table, "categories_of", slow)
    model: Any = Model()
    view.stock.prepare(model)

    assert model.factors == [1.0, 0.0, 1.0]


def test_a_model_that_is_prepared_while_the_topic_is_read_to_its_end_has_all_of_it(
    view: ShopView, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, or of a topic that was created anew: nobody else gives it what was read meanwhile."""
    view.begin(TOPIC, anew=False)
    table = view.stock.table
    categories_of = table.categories_of

    def slow(hashes: Any) -> Any:  # the factors have been looked up by now
        monkeypatch.undo()
        view.take(records(b=GONE, c=ShopItem(categories=("shoes",))), 2)
        view.heard(clock.now_s)
        return categories_of(hashes)

    monkeypatch.setattr(table, "categories_of", slow)
    model: Any = Model()
    view.stock.prepare(model)

    assert model.factors == [1.0, 0.0, 1.0]
    assert model.given[-1].category_starts.tolist() == [0, 0, 0, 1]


def test_categories_follow_a_little_later(view: ShopView, clock: Clock) -> None:
    """With what is next heard."""
    model: Any = Model()
    view.stock.prepare(model)
    view.heard(clock.now_s)
    view.take(records(a=ShopItem(categories=("shoes",))), 1)
    view.heard(clock.now_s)

    assert model.given[-1].category_starts.tolist() == [0, 1, 1, 1]


def test_a_popular_list_is_another_when_an_item_is_lost(view: ShopView, clock: Clock) -> None:
    """At once, and not after a hundred clicks."""
    from nextclick.popularity import Popularity
    from nextclick.updates import decode_items

    view.heard(clock.now_s)
    popularity = Popularity(3_600.0, stock=view.stock)
    for number in range(500):
        for user in range(2 if number < 300 else 1):
            popularity.add(user, f"i{number}", 1_764_000_000_000)
    before = [item.item_id for item in decode_items(popularity.ranked(3).items)]
    view.take(records(**dict.fromkeys([f"i{number}" for number in range(299)], GONE), i499=ShopItem(boost=0.5)), 1)
    after = decode_items(popularity.ranked(300).items)

    assert before == ["i0", "i1", "i10"]
    assert after[0].item_id == "i299"
    assert len(after) == 201
    assert after[-1].item_id == "i499"
