"""How good lists are, by what is clicked: counted as a person would, from the lists and the clicks."""

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from nextclick.advance import Limits, LoggedClick, UserKey, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network_config import NetworkConfig
from nextclick.popular_lists import PopularItem, PopularLists
from nextclick.rules import Rules
from nextclick.updates import POPULAR, RNN, RankedList, decode_items, encode_items
from nextclick.user_state import UserState
from nextclick.vocabulary import Vocabulary
from stream.calibration import _ONE_IN
from stream.live_quality import ONE_IN, LiveQuality
from stream.metrics import WorkerMetrics
from stream.shown_sample import ShownSample
from tests.networks import random_network, served_model

N_ITEMS, LENGTH = 30, 5
LIMITS = Limits(recent_clicks=5, list_length=LENGTH)
IDS = [f"i{number}" for number in range(N_ITEMS)]
POPULAR_LISTS = PopularLists([PopularItem(each, 0.1, item_hash(each)) for each in IDS], LENGTH, 0, encode_items)


def model_with_counts() -> ServedModel:
    """A network whose items have each eight different neighbours."""
    network = random_network(NetworkConfig(n_items=N_ITEMS, hidden_size=8, n_neighbours=8), seed=3)
    assert network.mixture is not None
    with torch.no_grad():
        network.mixture.neighbours.copy_(torch.stack([torch.randperm(N_ITEMS)[:8] for _ in range(N_ITEMS)]))
    return served_model("1".zfill(16), network, Vocabulary(IDS, np.ones(N_ITEMS)))


MODEL = model_with_counts()


def click(user: str, item: str, offset: int) -> LoggedClick:
    return LoggedClick((0, user.encode()), offset, 1_000, Click(user, item, 1_000 + offset, 0, 0), item_hash(item))


def test_places_are_those_among_the_neighbours_of_every_item() -> None:
    hashes = np.array([item_hash(each) for each in IDS], np.uint64)
    items, others = (each.ravel() for each in np.meshgrid(hashes, hashes))
    places = MODEL.neighbour_places(items, others).reshape(N_ITEMS, N_ITEMS)  # of others, items
    unknown = np.array([item_hash("nobody knows"), hashes[0]], np.uint64)

    n_found = 0
    for other in range(N_ITEMS):
        near = [row for row, _ in MODEL.neighbours_of(other, 100)]
        assert [places[other, row] for row in near] == list(range(len(near)))
        assert (places[other] >= 0).sum() == len(near)
        n_found += len(near)
    assert n_found > 100
    assert MODEL.neighbour_places(unknown, unknown[::-1]).tolist() == [-1, -1]


def test_hits_ranks_popularity_and_association_are_counted_from_what_was_shown() -> None:
    """Many users: each clicks something, gets a list, and clicks something else."""
    registry = CollectorRegistry()
    quality = LiveQuality(WorkerMetrics(registry), LIMITS)
    first = [click(f"u{number}", IDS[number % N_ITEMS], number) for number in range(2 * N_ITEMS)]
    states, lists = _after(quality, {}, first)
    second = [click(f"u{number}", IDS[(number * 7 + 1) % N_ITEMS], 9_000 + number) for number in range(2 * N_ITEMS)]
    _after(quality, states, second)
    places = [_place(lists[logged.user], logged.click.item_id) for logged in second]
    near = [  # of a chunk that counts for several
        _place(_near(before.click.item_id), logged.click.item_id)
        for before, logged in zip(first, second, strict=True)
        for _ in range(ONE_IN)
    ]
    popular = [_place(IDS[:LENGTH], logged.click.item_id) for logged in second]

    assert _value(registry, "live_judged_total", strategy=RNN) == len(second)
    for name, expected in (("live", places), ("live_association", near), ("live_popularity", popular)):
        hits = [place for place in expected if place is not None]
        assert hits, name
        assert _value(registry, f"{name}_hits_total", strategy=RNN) == len(hits)
        reciprocal = _value(registry, f"{name}_reciprocal_ranks_total", strategy=RNN)
        assert reciprocal == pytest.approx(sum(1 / (place + 1) for place in hits))
    for k in (1, 5, 20):
        n_hits = sum(place is not None and place < k for place in places)
        assert _value(registry, "live_hits_at_total", strategy=RNN, k=str(k)) == n_hits
    assert _value(registry, "clicks_of_new_users_total") == len(first)
    assert _value(registry, "clicks_on_unknown_items_total") == 0
    assert _value(registry, "live_judged_total", strategy=POPULAR) == 0


def test_association_is_looked_up_for_one_chunk_in_several_each_of_which_counts_for_all() -> None:
    """Chunks in which nobody is judged do not count among them."""
    registry = CollectorRegistry()
    quality = LiveQuality(WorkerMetrics(registry), LIMITS)
    states, _ = _after(quality, {}, [click("u", IDS[1], 0)])
    near = _near(IDS[1])[0]
    for number in range(1, 2 * ONE_IN + 1):
        _after(quality, states, [click("u", near, number)])
        _after(quality, {}, [click(f"new{number}", IDS[0], number)])

    assert _value(registry, "live_judged_total", strategy=RNN) == 2 * ONE_IN
    assert _value(registry, "live_association_hits_total", strategy=RNN) == 2 * ONE_IN


def test_what_a_rule_leaves_out_is_no_hit_of_the_rules_beside() -> None:
    """They would have left it out, too."""
    registry = CollectorRegistry()
    limits = LIMITS._replace(rules=Rules(exclude="session"))
    quality = LiveQuality(WorkerMetrics(registry), limits)
    states, _ = _after(quality, {}, [click("u", IDS[0], 0)], limits=limits)
    _after(quality, states, [click("u", IDS[0], 1)], limits=limits)

    assert _value(registry, "live_judged_total", strategy=RNN) == 1
    assert _value(registry, "live_popularity_hits_total", strategy=RNN) == 0


def test_what_a_rule_leaves_out_makes_room_in_the_rules_beside() -> None:
    """Their lists would be as long as ever: what came next moves up, into them or by some places."""
    limits, last = LIMITS._replace(rules=Rules(exclude="session")), max(IDS, key=lambda each: len(_near(each, N_ITEMS)))
    known = [IDS[0], _near(last)[0], last]
    popular, near = ([each for each in ids if each not in known][:LENGTH] for ids in (IDS, _near(last, N_ITEMS)))
    assert popular[-1] not in IDS[:LENGTH]
    assert near[-1] not in _near(last)
    for clicked in (*popular, *near):
        registry = CollectorRegistry()
        quality, states = LiveQuality(WorkerMetrics(registry), limits), dict[UserKey, UserState]()
        for offset, item in enumerate(known):
            states, _ = _after(quality, states, [click("u", item, offset)], limits=limits)
        before = _sums(registry)
        quality._n_chunks = 0  # so that it is among the chunks that are looked at
        _after(quality, states, [click("u", clicked, 10)], limits=limits)

        for name, shown in (("live_popularity", popular), ("live_association", near)):
            hits, reciprocal = (now - then for now, then in zip(_sums(registry)[name], before[name], strict=True))
            place = _place(shown, clicked)
            assert hits == (ONE_IN if place is not None else 0)
            assert reciprocal == pytest.approx(ONE_IN / (place + 1) if place is not None else 0.0)


def test_without_a_bundle_only_popularity_is_judged() -> None:
    registry = CollectorRegistry()
    quality = LiveQuality(WorkerMetrics(registry), LIMITS)
    states, _ = _after(quality, {}, [click("u", IDS[20], 0)], model=None)
    _after(quality, states, [click("u", IDS[2], 1), click("v", "new", 2)], model=None)

    assert _value(registry, "live_hits_total", strategy=POPULAR) == 1
    assert _value(registry, "live_reciprocal_ranks_total", strategy=POPULAR) == pytest.approx(1 / 3)
    assert _value(registry, "live_association_hits_total", strategy=POPULAR) == 0
    assert _value(registry, "clicks_on_unknown_items_total") == 0


def test_clicks_on_what_the_bundle_does_not_know_are_counted() -> None:
    registry = CollectorRegistry()
    quality = LiveQuality(WorkerMetrics(registry), LIMITS)
    _after(quality, {}, [click("u", "new", 0), click("v", IDS[0], 1)])

    assert _value(registry, "clicks_on_unknown_items_total") == 1


def test_scores_are_compared_with_hits_for_some_of_the_users() -> None:
    """What is expected is what the users' lists say, item by item."""
    registry = CollectorRegistry()
    quality = LiveQuality(WorkerMetrics(registry), LIMITS)
    users = [f"user-{number}" for number in range(800)]
    states, _ = _after(quality, {}, [click(user, IDS[n % N_ITEMS], n) for n, user in enumerate(users)])
    second = [click(user, IDS[(n * 7 + 1) % N_ITEMS], 1_000 + n) for n, user in enumerate(users)]
    _after(quality, states, second)
    judged = _value(registry, "calibration_judged_total")
    outcomes = advance(MODEL, POPULAR_LISTS, {}, [click("u", IDS[0], 0)], LIMITS)
    scores = [item.score for item in decode_items(outcomes[0].ranked.items)]

    assert outcomes[0].ranked.promised == pytest.approx(sum(scores), rel=1e-3)
    assert len(users) / _ONE_IN / 2 < judged < 2 * len(users) / _ONE_IN
    assert 0 < _value(registry, "calibration_expected_total") < judged
    assert 0 < _value(registry, "calibration_hits_total") < judged


def test_a_list_that_was_made_elsewhere_says_nothing_of_the_scores() -> None:
    """Another worker has answered the user meanwhile: its list is not the one that is remembered."""
    registry = CollectorRegistry()
    quality = LiveQuality(WorkerMetrics(registry), LIMITS)
    users = [f"user-{number}" for number in range(300)]
    first = [click(user, IDS[n % N_ITEMS], n) for n, user in enumerate(users)]
    states, _ = _after(quality, {}, first)
    moved = {user: state._replace(offset=500) for user, state in states.items()}
    _after(quality, moved, [click(user, IDS[0], 1_000 + n) for n, user in enumerate(users)])

    assert _value(registry, "live_judged_total", strategy=RNN) == len(users)
    assert _value(registry, "calibration_judged_total") == 0


def test_variety_is_measured_on_lists_of_the_last_minutes() -> None:
    """Not on all of a crowd that clicks at once."""
    now_s = 0.0
    sample = ShownSample(lambda: now_s)
    outcomes = advance(MODEL, POPULAR_LISTS, {}, [click(f"u{n}", IDS[n % N_ITEMS], n) for n in range(300)], LIMITS)
    empty = sample.variety()
    sample.note(outcomes)
    too_soon = sample.variety()
    now_s = 10.0
    sample.note(outcomes)
    sample.note(outcomes)
    shown = np.frombuffer(b"".join(each.ranked.shown for each in outcomes[::7][:40]), "<u4")
    counts = np.unique(shown, return_counts=True)[1]

    assert empty == too_soon == (0, None)
    assert sample.variety().n_items == len(counts)
    concentration = sample.variety().concentration
    assert concentration == pytest.approx(np.sort(counts)[-10:].sum() / len(shown))
    assert 10 * LENGTH / N_ITEMS / LENGTH < (concentration or 0) < 1


def test_coverage_is_a_share_of_the_items_of_the_bundle() -> None:
    """Without lists, or without a bundle, there is none: 0 would be taken for lists that show nothing."""
    names = [f"nextclick_shown_{each}_ratio" for each in ("coverage", "concentration")]
    registry = CollectorRegistry()
    quality, n_items = LiveQuality(WorkerMetrics(registry), LIMITS), [N_ITEMS]
    quality.show(lambda: n_items[0])
    before = [registry.get_sample_value(name) for name in names]
    quality._shown._noted_s -= 100.0
    _after(quality, {}, [click(f"u{number}", IDS[number], number) for number in range(N_ITEMS)])
    n_shown = _value(registry, "shown_items")

    assert before == [None, None]
    assert LENGTH < n_shown <= N_ITEMS
    assert _value(registry, "shown_coverage_ratio") == pytest.approx(n_shown / N_ITEMS)
    assert 0 < _value(registry, "shown_concentration_ratio") <= 1
    n_items[0] = 0
    assert registry.get_sample_value(names[0]) is None


def _after(
    quality: LiveQuality,
    states: dict[UserKey, UserState],
    clicks: list[LoggedClick],
    model: ServedModel | None = MODEL,
    limits: Limits = LIMITS,
) -> tuple[dict[UserKey, UserState], dict[UserKey, list[str]]]:
    """Apply clicks and count them; gives states and lists."""
    outcomes = advance(model, POPULAR_LISTS, states, clicks, limits)
    quality.count(clicks, states, outcomes, model, POPULAR_LISTS)
    lists: dict[UserKey, RankedList] = {logged.user: each.ranked for logged, each in zip(clicks, outcomes, strict=True)}
    ids = {user: [item.item_id for item in decode_items(ranked.items)] for user, ranked in lists.items()}
    return {logged.user: each.state for logged, each in zip(clicks, outcomes, strict=True)}, ids


def _near(item_id: str, n: int = LENGTH) -> list[str]:
    return [IDS[row] for row, _ in MODEL.neighbours_of(IDS.index(item_id), n)]


def _sums(registry: CollectorRegistry) -> dict[str, tuple[float, float]]:
    """Give the hits and the sum of reciprocal ranks of each rule beside the lists."""
    return {
        name: (
            _value(registry, f"{name}_hits_total", strategy=RNN),
            _value(registry, f"{name}_reciprocal_ranks_total", strategy=RNN),
        )
        for name in ("live_popularity", "live_association")
    }


def _place(shown: list[str], item_id: str) -> int | None:
    return shown.index(item_id) if item_id in shown else None


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(f"nextclick_{name}", labels)
    assert found is not None, name
    return found
