"""What a feed does with what the shop says of items: its real application, store and model, without Kafka."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from feed.list_store import ListStore
from feed.metrics import FeedMetrics
from feed.shop import FeedShop
from nextclick.catalogue import NOTHING_SAID, ShopItem, encode_item
from nextclick.client import Feed
from nextclick.feed_types import SessionClick
from nextclick.rules import EXCLUDES
from tests.served_feed import ServedFeed, serve_bundle, update
from tools.items.follower import ItemRecord
from tools.kafka import TopicIdentity

IDS = [f"i{number}" for number in range(300)]
SHOES = IDS[10:13]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedFeed]:
    """A feed with a list of ann's, a bundle, and three shoes, the last of which is sold out."""
    with ServedFeed(tmp_path) as served:
        served.store(update("ann", 3, IDS[8:14]))
        said = {item_id: ShopItem(categories=("shoes",), title=f"Shoe {item_id}", price=9.5) for item_id in SHOES}
        served.say(said | {IDS[12]: ShopItem(available=False, categories=("shoes",))})
        serve_bundle(served, IDS)
        yield served


def ask(served: ServedFeed, path: str, **parameters: Any) -> Any:
    answer = httpx2.get(f"{served.url}{path}", params=parameters, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids_of(listed: Any) -> list[str]:
    return [item["item_id"] for item in listed["items"]]


ANN = "/v1/users/ann/recommendations"


def test_a_list_has_what_is_said_and_not_what_is_sold_out(served: ServedFeed) -> None:
    """At the moment of the answer: the stored list is the same, and so is nobody's tag of it."""
    first = httpx2.get(f"{served.url}{ANN}")
    shoe = next(item for item in first.json()["items"] if item["item_id"] == IDS[10])
    served.say({IDS[10]: ShopItem(available=False), IDS[12]: None, IDS[9]: ShopItem(image="i.webp", url="/p/9")})
    then = httpx2.get(f"{served.url}{ANN}", headers={"If-None-Match": first.headers["etag"]})
    other = next(item for item in then.json()["items"] if item["item_id"] == IDS[9])

    assert ids_of(first.json()) == [IDS[8], IDS[9], IDS[10], IDS[11], IDS[13]]
    assert (shoe["title"], shoe["price"]) == (f"Shoe {IDS[10]}", 9.5)
    assert then.status_code == 200
    assert ids_of(then.json()) == [IDS[8], IDS[9], IDS[11], IDS[12], IDS[13]]
    assert (other["image"], other["url"]) == ("i.webp", "/p/9")


def test_a_limit_counts_what_can_be_had(served: ServedFeed) -> None:
    """What is left out makes room for what comes behind it."""
    assert ids_of(ask(served, ANN, limit=5)) == [IDS[8], IDS[9], IDS[10], IDS[11], IDS[13]]


def test_an_item_is_there_from_when_it_is_published_until_it_expires(served: ServedFeed) -> None:
    """Nobody says anything at these moments."""
    now_ms = int(time.time() * 1000)
    served.say({IDS[8]: ShopItem(expires_at_ms=now_ms + 700), IDS[9]: ShopItem(published_at_ms=now_ms + 700)})
    before = ids_of(ask(served, ANN))
    time.sleep(0.8)
    after = ids_of(ask(served, ANN))

    assert (IDS[8] in before, IDS[9] in before) == (True, False)
    assert (IDS[8] in after, IDS[9] in after) == (False, True)


def test_a_category_is_asked_for(served: ServedFeed) -> None:
    """Of a stored list that part which is in it; of a session, of popular items and neighbours the best that are."""
    session = {"clicks": [{"item_id": IDS[11]}]}
    url = f"{served.url}/v1/sessions/recommendations?category=shoes,nothing&exclude={IDS[11]}"
    listed = httpx2.post(url, json=session, timeout=20).json()

    assert ids_of(ask(served, ANN, category="shoes")) == [IDS[10], IDS[11]]
    assert ids_of(ask(served, ANN, category=["unknown", "shoes"], exclude=IDS[10])) == [IDS[11]]
    assert ids_of(listed) == [IDS[10]]
    assert ids_of(ask(served, "/v1/popular", category="shoes", limit=255)) == [IDS[11], IDS[10]]
    assert ids_of(ask(served, "/v1/popular", category="unknown")) == []
    assert set(ids_of(ask(served, f"/v1/items/{IDS[11]}/neighbours", category="shoes"))) <= set(SHOES[:2])
    assert httpx2.get(f"{served.url}{ANN}?category={'a,' * 64}a").status_code == 400


def test_what_is_sold_out_is_in_no_list_of_a_session_nor_popular(served: ServedFeed) -> None:
    """Lists stay as long as they are asked for."""
    url = f"{served.url}/v1/sessions/recommendations?limit=255"
    body = {"clicks": [{"item_id": IDS[11]}]}
    served.say({item_id: ShopItem(available=False) for item_id in IDS[280:]})
    listed = ids_of(httpx2.post(url, json=body, timeout=20).json())
    popular = ids_of(ask(served, "/v1/popular", limit=200))

    assert len(listed) == 255
    assert not {IDS[12], *IDS[280:]} & set(listed)
    assert len(popular) == 200
    assert not {IDS[12], *IDS[280:]} & set(popular)


def test_a_boost_counts_in_the_lists_that_the_feed_makes(served: ServedFeed) -> None:
    """As in a worker's."""
    url = f"{served.url}/v1/sessions/recommendations?limit=255"
    body = {"clicks": [{"item_id": IDS[11]}]}
    last = ids_of(httpx2.post(url, json=body, timeout=20).json())[-1]
    served.say({last: ShopItem(boost=1000.0)})

    assert ids_of(httpx2.post(url, json=body, timeout=20).json()).index(last) < 20


def test_the_client_asks_for_categories(served: ServedFeed) -> None:
    """In every call that gives a list."""
    with Feed(served.url) as feed:
        lists = [
            feed.recommendations("ann", category=["shoes"]),
            feed.popular(category=["shoes"], exclude=["none"]),
            feed.session([SessionClick(IDS[11])], category=["shoes"]),
            feed.neighbours(IDS[11], category=["shoes"]),
            next(feed.events("ann", category=["shoes"])),
        ]

    assert lists[0].items[0].title == f"Shoe {IDS[10]}"
    for listed in lists:
        assert {item.item_id for item in listed.items} <= set(SHOES[:2])


def test_what_was_read_is_known_after_a_restart_and_read_on(tmp_path: Path) -> None:
    """From where it was read to; of a topic that was created anew nothing is left."""
    topic, anew = TopicIdentity("items", "one", 1), TopicIdentity("items", "two", 1)
    gone = ShopItem(available=False, title="T")
    positions = []
    for known, next_offset in ((topic, 7), (topic, 9), (anew, 3)):
        store = ListStore(tmp_path / "items", 8 * 1024**2, 0.0)
        shop = FeedShop(store, FeedMetrics(CollectorRegistry()))
        positions.append(shop.begin(known, anew=False))
        if known is topic:
            assert shop.look(["a", "b"]) == ([gone, NOTHING_SAID] if positions[-1] else [NOTHING_SAID] * 2)
            assert len(shop.stock.table) == bool(positions[-1])
        else:
            assert shop.look(["a"]) == [NOTHING_SAID]
            assert not len(shop.stock.table)
        shop.take([ItemRecord("a", gone, encode_item(gone))], next_offset)
        store.close()

    assert positions == [None, 7, None]


def test_a_session_says_which_of_its_items_are_left_out(served: ServedFeed) -> None:
    """As the setting does for workers, which holds otherwise."""
    clicks = [SessionClick(IDS[20]), SessionClick(IDS[21]), SessionClick(IDS[22], event_type="purchase")]
    with Feed(served.url) as feed:
        left_out = {}
        for each in (None, *EXCLUDES):
            listed = {item.item_id for item in feed.session(clicks, limit=255, exclude_clicked=each).items}
            left_out[each] = [item_id for item_id in IDS[20:23] if item_id not in listed]

    assert left_out["last"] == [IDS[22]]
    assert left_out["session"] == left_out["recent"] == IDS[20:23]
    assert left_out["purchased"] == [IDS[22]]
    assert left_out["none"] == left_out[None]
    url = f"{served.url}/v1/sessions/recommendations?exclude_clicked=all"
    assert "must be one of none, last" in httpx2.post(url, json={"clicks": []}).json()["detail"]
