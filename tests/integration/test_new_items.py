"""An item that no bundle knows, from its first clicks to the lists of a real worker, before any training."""

from typing import Any

from nextclick.updates import RNN, RecommendationUpdate
from tests.chaos.bundles import announce, mixed_bundle
from tests.integration.test_stream import worker_port
from tests.scrapes import scrape, value_of
from tests.simulated_clicks import NOW_MS

ITEMS = [f"i{number}" for number in range(60)]
N_USERS = 20


def items_of(update: RecommendationUpdate) -> set[str]:
    return {item.item_id for item in update.items}


def metric(playground: Any, name: str) -> float:
    found = value_of(scrape(worker_port(playground)), name)
    assert found is not None
    return found


def newest(playground: Any, user: str) -> RecommendationUpdate:
    updates: list[RecommendationUpdate] = playground.wait_until_answered()
    return [update for update in updates if update.user_id == user][-1]


def test_a_new_item_is_recommended_before_a_bundle_knows_it_and_across_a_swap(playground: Any) -> None:
    """To whoever clicks what it was clicked near; clicks on it are hits, and are counted apart."""
    store, settings = playground.settings.bundle_dir, playground.settings
    announce(settings, mixed_bundle(store, ITEMS, seed=1))
    playground.worker()
    playground.wait_for_log("worker", "serving a new bundle")
    playground.send([(f"u{user}", "i1", NOW_MS) for user in range(N_USERS)])
    playground.wait_until_answered()
    playground.send([(f"u{user}", "new", NOW_MS + 1_000) for user in range(N_USERS)])
    playground.wait_until_answered()
    playground.send([("someone", "i1", NOW_MS + 2_000), ("stranger", "new", NOW_MS + 2_000)])
    lists = [newest(playground, user) for user in ("someone", "stranger")]
    playground.send([("someone", "new", NOW_MS + 3_000)])
    playground.wait_until_answered()
    judged, hits = (metric(playground, f"nextclick_live_new_items_{name}_total") for name in ("judged", "hits"))
    announce(settings, mixed_bundle(store, [*ITEMS, "newer"], seed=2))
    playground.wait_for(lambda: playground.log("worker").read_text().count("serving a new bundle") == 2, "a swap")
    playground.send([("someone else", "i1", NOW_MS + 4_000)])
    after_swap = newest(playground, "someone else")
    n_live = metric(playground, "nextclick_live_items")
    announce(settings, mixed_bundle(store, [*ITEMS, "new"], seed=3))
    playground.wait_for(lambda: playground.log("worker").read_text().count("serving a new bundle") == 3, "a swap")
    playground.send([("somebody", "i1", NOW_MS + 5_000)])
    playground.wait_until_answered()

    assert "new" in items_of(lists[0])
    assert "i1" in items_of(lists[1])
    assert {update.strategy for update in lists} == {RNN}
    assert (judged, hits) == (N_USERS + 1, 1)
    assert "new" in items_of(after_swap)
    assert n_live == 1
    assert metric(playground, "nextclick_live_items") == 0
    playground.assert_states_equal_offline(store)
    playground.assert_no_error_logged("worker")
