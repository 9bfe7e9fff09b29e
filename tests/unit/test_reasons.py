"""What an item is listed for: the terms of the mixture, the largest first, and they add up to the score."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from nextclick.clicks import MAX_ID_BYTES
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import N_AGES, NetworkConfig
from nextclick.scoring.item_lists import item_texts, write_lists
from nextclick.scoring.reasons import write_explained_lists
from nextclick.scoring.terms import NO_COUNTS, Best, Terms, pack_counts
from nextclick.settings import MAX_STORED_COUNT
from nextclick.updates import MAX_UPDATE_BYTES, RNN, AnsweredClick, RankedList, ServedBy, decode_update, encode_update
from nextclick.user_state import with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import features_and_context, probabilities, random_network, served_model

N_ITEMS, K = 60, 25
LEFT_OUT = 1.1e-3  # of a score: a smaller part need not be told apart
Item = dict[str, Any]
Source = tuple[str, str | None]  # kind, and item_id of a neighbour's
NETWORK = ("network", None)
# Of the item clicks, the oldest first: none, one, an item twice, as many as are looked at, and items nobody counted.
USERS = [[], [4], [7, 4, 7], [1, 2, 4, 5, 7, 8, 10, 11, 13, 14], [0, 3, 6], [5, 5, 5, 5, 5, 5, 5, 5]]


def random_model(seed: int) -> tuple[ServedModel, Network]:
    """A gate and neighbours at random: terms of every size."""
    return serve(random_network(NetworkConfig(N_ITEMS, 8, skip=True, normalised=True, n_neighbours=20), seed))


def trained_like_model(seed: int) -> tuple[ServedModel, Network]:
    """A gate that fades with age, and neighbours whose shares fall, as counts have them."""
    network = random_network(NetworkConfig(N_ITEMS, 8, skip=True, normalised=True, n_neighbours=20), seed)
    assert network.mixture is not None
    falling = 1.0 / torch.arange(1.0, 21.0)
    network.mixture.load_state_dict(Network(network.config).state_dict(), strict=False)
    network.mixture.neighbours.copy_(torch.stack([torch.randperm(N_ITEMS)[:20] for _ in range(N_ITEMS)]))
    network.mixture.shares.copy_(0.9 * falling / falling.sum())
    return serve(network)


def serve(network: Network) -> tuple[ServedModel, Network]:
    names = [f"i{index}" for index in range(N_ITEMS)]
    return served_model("00000000000000ff", network, Vocabulary(names, np.ones(N_ITEMS))), network


def states_of(model: ServedModel, users: list[list[int]]) -> tuple[list[bytes], list[bytes]]:
    """Hidden states and recent clicks of users who clicked these items, a minute apart."""
    hidden = [model.run([b""], [[(index, 60, 0) for index in clicks]])[0] if clicks else b"" for clicks in users]
    return hidden, [recent_of([f"i{index}" for index in clicks]) for clicks in users]


def recent_of(item_ids: list[str]) -> bytes:
    recent = b""
    for item_id in item_ids:
        recent = with_recent(recent, item_hash(item_id), 60, 0, keep=255)
    return recent


def exactly(items_json: bytes) -> list[Item]:
    """Read a list with numbers as they are written."""
    items: list[Item] = json.loads(bytes(items_json), parse_float=Decimal)
    return items


def parts_of(item: Item) -> dict[Source, Decimal]:
    return {(part["kind"], part.get("item_id")): part["share"] for part in item["because"]}


def check_sums(items: list[Item]) -> None:
    """The shares add up digit by digit, fall, and are each named once."""
    for item in items:
        shares = [part["share"] for part in item["because"]]

        assert sum(shares) == item["score"]
        assert shares == sorted(shares, reverse=True)
        assert all(share > 0 for share in shares)
        assert len(parts_of(item)) == len(shares)


@torch.inference_mode()
def expected_parts(network: Network, features: torch.Tensor, context: Any) -> list[dict[Source, np.ndarray]]:
    """Each user's terms of `nextclick.mixture`, by source, float64 (n_items,) each."""
    mixture = network.mixture
    assert mixture is not None
    softmax = torch.softmax(network.scores(features, float(mixture.sharpness)).double(), 1)
    clicked = context.item_index.clamp(min=0)
    weights = mixture.log_weights(context, mixture.support[clicked]).exp().double()
    users = []
    for user, items in enumerate(context.item_index.tolist()):
        parts: dict[Source, np.ndarray] = {NETWORK: (weights[user, 0] * softmax[user]).numpy()}
        reclicks = parts.setdefault(("reclick", None), np.zeros(N_ITEMS))
        for age, item in enumerate(items):
            if item >= 0:
                neighbours = parts.setdefault(("neighbour", f"i{item}"), np.zeros(N_ITEMS))
                shares = weights[user, 1 + age] * mixture.shares[item].double()
                np.add.at(neighbours, mixture.neighbours[item].numpy(), shares.numpy())
                reclicks[item] += float(weights[user, 1 + N_AGES + age])
        users.append(parts)
    return users


@pytest.mark.parametrize("made", [random_model, trained_like_model], ids=["random", "trained-like"])
@pytest.mark.parametrize("seed", range(3))
def test_parts_are_the_terms_of_the_mixture(made: Any, seed: int) -> None:
    """Each term that matters is named with its size and no other is; ages of an item are added up."""
    model, network = made(seed)
    users = states_of(model, USERS)

    lists = [exactly(ranked.items) for ranked in model.rank(*users, K, explain=True)]

    expected = expected_parts(network, *features_and_context(model, network, *users))
    np.testing.assert_allclose(
        [sum(parts.values()) for parts in expected], probabilities(model, network, *users), rtol=1e-4
    )
    n_told_apart = 0
    for items, parts in zip(lists, expected, strict=True):
        check_sums(items)
        for item in items:
            found, index, score = parts_of(item), int(item["item_id"][1:]), float(item["score"])
            of_item = {source: float(of_source[index]) for source, of_source in parts.items()}
            left_out = [of_item[source] for source in of_item if source not in found]
            assert found.keys() <= of_item.keys()
            assert all(part <= LEFT_OUT * score for part in left_out)
            of_item[NETWORK if NETWORK in found else next(iter(found))] += sum(left_out)
            for source, share in found.items():
                assert float(share) == pytest.approx(of_item[source], abs=2e-5 * score)
            n_told_apart += len(found)
    assert n_told_apart > 1.5 * K * len(USERS)  # not all of it is the network's


@pytest.mark.parametrize("made", [random_model, trained_like_model], ids=["random", "trained-like"])
def test_a_list_is_the_same_with_and_without_reasons(made: Any) -> None:
    """To the last byte, and so is what the state keeps of it."""
    model, _ = made(1)
    users = states_of(model, USERS)

    plain, explained = model.rank(*users, K), model.rank(*users, K, explain=True)

    for ranked, with_reasons in zip(plain, explained, strict=True):
        items = msgspec.json.decode(with_reasons.items)
        assert all(item.pop("because") for item in items)
        assert items == msgspec.json.decode(ranked.items)
        assert "because" not in bytes(ranked.items).decode()
        assert ranked.shown == with_reasons.shown


def test_a_list_by_hand() -> None:
    """Two clicks on item 0, one on item 1 before: items 0 and 2 are listed for three reasons, item 3 for one."""
    counts = pack_counts(
        np.array([[2, 1], [2, 0], [0, 1], [0, 1]], np.int32),
        np.array([[0.5, 0.25], [0.25, 0.5], [0, 0], [0, 0]], np.float32),
    )
    terms = Terms(np.array([[0, 0, 1]]), np.array([[0.2, 0.2, 0.1, 0.2, 0.1, 0.1, 0.1]]))
    # Of the network 0.05 each, as all are alike to it.
    best = Best(np.array([[0, 2, 3]], np.int32), np.array([[0.05 + 0.2 * 0.5 + 0.2, 0.05 + 0.3 * 0.5 + 0.05, 0.05]]))

    [items] = [
        json.loads(text) for text in write_explained_lists(item_texts(["a", "b", "c", "d"]), best, terms, counts)
    ]

    assert [item["because"] for item in items] == [
        [
            {"kind": "reclick", "share": 0.2},
            {"kind": "neighbour", "item_id": "b", "share": 0.1},
            {"kind": "network", "share": 0.05},
        ],
        [
            {"kind": "neighbour", "item_id": "a", "share": 0.15},
            {"kind": "neighbour", "item_id": "b", "share": 0.05},
            {"kind": "network", "share": 0.05},
        ],
        [{"kind": "network", "share": 0.05}],
    ]


def test_the_network_alone_is_the_only_reason() -> None:
    """A bundle without neighbours, and a user whose clicks no bundle knows."""
    plain, _ = serve(random_network(NetworkConfig(N_ITEMS, 8), 1))
    mixed, _ = random_model(1)

    for model, recent in ((plain, recent_of(["i4", "i7"])), (mixed, recent_of(["unknown"]))):
        [ranked] = model.rank([b""], [recent], K, explain=True)
        for item in exactly(ranked.items):
            assert item["because"] == [{"kind": "network", "share": item["score"]}]


def test_scores_of_any_size_have_parts_that_add_up() -> None:
    """From 1 to next to nothing; of a score that is written as 0 there are none."""
    scores = [1.0, 0.99999999, 0.5, 0.1, 0.012345678, 9.9999999e-5, 1.5e-5, 1.2345678e-9, 3e-120, 0.0]
    n = len(scores)
    shares = np.random.default_rng(1).dirichlet(np.ones(3), n)
    of_counts = np.full((n, n), 1e-3, np.float32)
    of_counts[:2] = shares[:, :2].T * scores
    counts = pack_counts(np.tile(np.arange(n, dtype=np.int32), (n, 1)), of_counts)
    terms = Terms(np.array([[0, 1]]), np.array([[0.0, 1.0, 1.0, 0.0, 0.0]]))
    best = Best(np.arange(n, dtype=np.int32)[None], np.array([scores]))
    texts = item_texts([f"i{index}" for index in range(n)])

    [text] = write_explained_lists(texts, best, terms, counts)

    items, [plain] = exactly(text), write_lists(texts, best)
    check_sums(items)
    assert [item["score"] for item in items] == [item["score"] for item in exactly(plain)]
    assert [len(item["because"]) for item in items[:-2]] == [3] * (n - 2)
    assert items[-1]["because"] == []


def test_what_is_added_up_in_another_precision_still_adds_up() -> None:
    """The ranking adds counts up in float32: two equal parts can be more than their sum, and stay in their order."""
    for error in (1 - 3e-7, 1.0, 1 + 3e-7):
        counts = pack_counts(np.array([[2], [2], [0]], np.int32), np.array([[0.5], [0.5], [0]], np.float32))
        terms = Terms(np.array([[0, 1]]), np.array([[0.0, 0.5, 0.5, 0.0, 0.0]]))
        best = Best(np.array([[2]], np.int32), np.array([[0.5 * error]]))

        [text] = write_explained_lists(item_texts(["a", "b", "c"]), best, terms, counts)

        items = exactly(text)
        check_sums(items)
        assert {source for source, _ in parts_of(items[0])} == {"neighbour"}


def test_random_parts_always_add_up() -> None:
    """Thousands of items with up to eight clicked ones, at random; weights and scores of very different sizes."""
    rng, n_items, n_users = np.random.default_rng(5), 50, 200
    shares = (rng.random((n_items, n_items)) ** 6).astype(np.float32)
    counts = pack_counts(np.tile(np.arange(n_items, dtype=np.int32), (n_items, 1)), shares)
    clicked = rng.integers(-1, 12, size=(n_users, N_AGES))
    weights = rng.random((n_users, 1 + 2 * N_AGES)) ** 8
    weights[:, 1:] *= np.tile(clicked >= 0, 2)
    scores = rng.random((n_users, n_items)) * 1e-9
    for age, items in enumerate(clicked.T):
        scores += weights[:, 1 + age, None] * shares[items]
        scores[np.arange(n_users), items] += weights[:, 1 + N_AGES + age]
    listed = rng.permuted(np.tile(np.arange(n_items, dtype=np.int32), (n_users, 1)), axis=1)[:, :30]
    best = Best(listed, np.take_along_axis(scores, listed.astype(int), 1) / (2 * N_AGES))
    texts = item_texts([f"item-{number}" for number in range(n_items)])

    lists = write_explained_lists(texts, best, Terms(clicked, weights / (2 * N_AGES)), counts)

    for text in lists:
        check_sums(exactly(text))
    assert {len(item["because"]) for text in lists for item in exactly(text)} >= {1, 3, 5, 7}


def test_reasons_are_json_of_any_id() -> None:
    """Quotes, letters of all languages, and what a terminal does not show."""
    ids = ['a "lamp"', "Küche\\", "灯", "\n", "\x00", "}],{"]
    n = len(ids)
    counts = pack_counts(np.roll(np.arange(n, dtype=np.int32), -1)[:, None], np.full((n, 1), 0.5, np.float32))
    terms = Terms(np.arange(n)[None], np.array([[0.5, *[0.5 / n] * n, *[0.0] * n]]))
    best = Best(np.arange(n, dtype=np.int32)[None], np.full((1, n), 0.25 / n + 0.5 / n))

    [text] = write_explained_lists(item_texts(ids), best, terms, counts)

    items = exactly(text)
    check_sums(items)
    assert [item["item_id"] for item in items] == ids
    assert [part["item_id"] for item in items for part in item["because"] if "item_id" in part] == ids[-1:] + ids[:-1]


def test_the_largest_update_is_one_that_a_broker_takes() -> None:
    """As many items as can be listed, every id as long as it can be written, and every click speaks for every item."""
    n = MAX_STORED_COUNT
    ids = ["\x01" * (MAX_ID_BYTES - 1) + chr(number) for number in range(n // 2)]
    ids += ["\x02" * (MAX_ID_BYTES - 2) + chr(128 + number) for number in range(n - len(ids))]
    neighbours = np.tile(np.arange(n, dtype=np.int32), (n, 1))
    counts = pack_counts(neighbours, np.full((n, n), 1 / n, np.float32))
    terms = Terms(np.arange(N_AGES)[None], np.full((1, 1 + 2 * N_AGES), 1 / (1 + 2 * N_AGES)))
    reclicked = np.where(np.arange(n) < N_AGES, 1.0, 0.0)
    best = Best(np.arange(n, dtype=np.int32)[None], ((9 / n + reclicked) / (1 + 2 * N_AGES))[None])

    [items_json] = write_explained_lists(item_texts(ids), best, terms, counts)
    ranked = RankedList(RNN, items_json, b"")
    value = encode_update(
        "\x01" * MAX_ID_BYTES, ranked, ServedBy("f" * 16), 2**63 - 1, AnsweredClick(1, 2**62, 2**62), 2**62
    )

    check_sums(exactly(items_json))
    assert MAX_UPDATE_BYTES * 0.7 < len(value) < MAX_UPDATE_BYTES
    assert all("neighbour" in {kind for kind, _ in parts_of(item)} for item in exactly(items_json)[N_AGES:])
    assert len(decode_update(value).items) == n


def test_short_ids_always_find_room() -> None:
    """All that speaks for an item is named."""
    n = N_AGES + 2
    counts = pack_counts(np.full((n, 1), n - 1, np.int32), np.full((n, 1), 0.5, np.float32))
    weights = np.full(1 + 2 * N_AGES, 1 / (1 + 2 * N_AGES))
    best = Best(np.array([[n - 1]], np.int32), np.array([[(0.5 * N_AGES + 0.25) / (1 + 2 * N_AGES)]]))
    texts = item_texts([f"{number:0100d}" for number in range(n)])

    [text] = write_explained_lists(texts, best, Terms(np.arange(N_AGES)[None], weights[None]), counts)

    assert len(exactly(text)[0]["because"]) == N_AGES + 1


def test_nothing_is_listed_for_an_empty_list_of_users() -> None:
    """An empty batch is a batch."""
    best = Best(np.zeros((0, 3), np.int32), np.zeros((0, 3)))

    assert (
        write_explained_lists(item_texts(["a"]), best, Terms(np.zeros((0, 2), np.int64), np.zeros((0, 5))), NO_COUNTS)
        == []
    )
