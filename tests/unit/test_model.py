"""A served model: what is stored is what was computed, and the ranking is exact."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from nextclick.bundle import MAX_WEIGHT
from nextclick.errors import CorruptStateError
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import N_AGES, SESSION_GAP_S, NetworkConfig
from nextclick.updates import RNN, RankedList
from nextclick.user_state import RecentClick, with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import probabilities, random_network, served_model

CELLS = ("gru", "lstm", "rnn")
N_ITEMS = 500
Form = dict[str, Any]
PLAIN: Form = {}
FULL: Form = {"skip": True, "normalised": True, "n_neighbours": 6}
BY_FORM = pytest.mark.parametrize("form", [PLAIN, FULL], ids=["plain", "full"])
CLICKS = [(3, 0, 0), (7, 65, 1), (3, 4_000_000, 255), (499, 5, 2)]  # (item_index, gap_s, event_type)


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_is_rounded_to_float16_after_each_click(cell: str) -> None:
    """Stored and carried states are the same number: a restart between two clicks changes nothing."""
    model, network = _model(cell)
    hidden = b""
    rounded = exact = torch.zeros(1, network.config.state_size)
    for item_index, gap_s, event_type in CLICKS:
        hidden = model.run([hidden], [[(item_index, gap_s, event_type)]])[0]
        with torch.inference_mode():
            click = network.inputs(*(torch.tensor([[value]]) for value in (item_index, event_type, gap_s)))
            rounded = network.run(click, rounded)[1].half().float()
            exact = network.run(click, exact)[1]

    assert hidden == rounded.half().numpy().tobytes()
    assert hidden != exact.half().numpy().tobytes()
    assert len(hidden) == 2 * network.config.state_size


@pytest.mark.parametrize("cell", CELLS)
def test_users_in_a_batch_do_not_touch_each_other(cell: str) -> None:
    """Each row gets its own state and click, and the bytes are those that it gets alone."""
    model, _ = _model(cell)
    before = [b"", model.run([b""], [[CLICKS[0]]])[0], b"", model.run([b""], [[CLICKS[1]]])[0]]

    together = model.run(before, [[click] for click in CLICKS])

    for state, click, row in zip(before, CLICKS, together, strict=True):
        (alone,) = model.run([state], [[click]])
        assert alone == row


@BY_FORM
def test_rank_is_exact_against_a_full_sort(form: Form) -> None:
    """The list is the head of the full order, and its scores are the probabilities."""
    model, network = _model("gru", form)
    users = _some_users(model)

    expected = probabilities(model, network, *users)

    for row, ranked in enumerate(model.rank(*users, 20)):
        order = np.argsort(-expected[row], kind="stable")[:20]
        ids, scores = _items(ranked)
        assert ids == [f"i{index}" for index in order]
        np.testing.assert_allclose(scores, expected[row, order], rtol=1e-5)
        assert ranked.strategy == RNN
        assert ranked.shown == np.array([item_hash(model.item_ids[row]) for row in order], "u8").astype("<u4").tobytes()


def test_probabilities_of_all_items_sum_to_one() -> None:
    """Asking for more items than there are gives them all."""
    model, _ = _model("gru")

    for ranked in model.rank(*_some_users(model), N_ITEMS + 5):
        ids, scores = _items(ranked)
        assert len(set(ids)) == N_ITEMS
        assert sum(scores) == pytest.approx(1.0, abs=1e-4)
        assert scores == sorted(scores, reverse=True)


@BY_FORM
def test_a_list_of_one_is_allowed(form: Form) -> None:
    """The best item alone."""
    model, network = _model("gru", form)
    users = _some_users(model)

    best = [_items(ranked)[0] for ranked in model.rank(*users, 1)]

    assert best == [[f"i{index}"] for index in probabilities(model, network, *users).argmax(axis=1)]


def test_the_mixture_sees_the_last_clicks_on_known_items_and_how_long_ago_they_were() -> None:
    """Ages run from the newest click, known or not, also over clicks that are passed over."""
    model, _ = _model("gru", FULL)
    clicks = [("i1", 0, 0), ("unknown", 50, 0), ("i2", 7, 1), ("i1", 3, 0), ("unknown", 10, 2)]

    histories = model.histories([_packed(clicks)])

    assert histories.item_index.tolist() == [[1, 2, 1] + [-1] * (N_AGES - 3)]
    assert histories.age_s.tolist() == [[10.0, 13.0, 70.0] + [0.0] * (N_AGES - 3)]
    assert histories.n_session.tolist() == [3.0]
    assert histories.newest.tolist() == [[1, 3, 0]]


@pytest.mark.parametrize(("gap_s", "n_session"), [(SESSION_GAP_S, 3), (SESSION_GAP_S + 1, 2)])
def test_a_session_ends_with_a_pause_of_more_than_half_an_hour(gap_s: int, n_session: int) -> None:
    """The click after the pause is the first of its session; older clicks are still seen."""
    model, _ = _model("gru", FULL)

    histories = model.histories([_packed([("i1", 0, 0), ("i2", gap_s, 0), ("i3", 1, 0)])])

    assert histories.n_session.tolist() == [n_session]
    assert histories.item_index[0, :3].tolist() == [3, 2, 1]


def test_a_user_without_a_known_click_has_no_context() -> None:
    """The network answers alone, and nothing is counted for the item in row 0."""
    model, _ = _model("gru", FULL)

    histories = model.histories([b"", _packed([("unknown", 0, 0)])])

    assert (histories.item_index == -1).all()
    assert histories.n_session.tolist() == [0.0, 0.0]
    assert (histories.newest[:, 0] == -1).all()


@torch.inference_mode()
def test_the_skip_takes_the_newest_known_click_with_its_own_gap_and_event() -> None:
    """As it went through the cell; later clicks on unknown items change nothing of it."""
    model, network = _model("gru", {"skip": True})
    hidden = model.run([b""], [[(7, 65, 1)]])

    (ranked,) = model.rank(hidden, [_packed([("i3", 0, 0), ("i7", 65, 1), ("unknown", 4, 2)])], N_ITEMS)

    assert network.skip is not None
    inputs = network.inputs(torch.tensor([7]), torch.tensor([1]), torch.tensor([65]))
    features = torch.from_numpy(_floats(hidden[0])) + network.skip * inputs
    ids, scores = _items(ranked)
    expected = network.scores(features).softmax(1)[0, [int(item_id[1:]) for item_id in ids]]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_rebuilding_takes_the_same_steps(cell: str) -> None:
    """From the zero state, over users with more and fewer clicks; unknown items are passed over."""
    model, _ = _model(cell)
    unknown = RecentClick(item_hash("never heard of"), 9, 0)
    recent = [
        _recent_clicks(CLICKS),
        [],
        [unknown, *_recent_clicks(CLICKS[:1]), unknown, *_recent_clicks(CLICKS[1:2])],
        [unknown, unknown],
        _recent_clicks(CLICKS[:1]),
    ]

    rebuilt = model.rebuild(recent)

    assert rebuilt[1] == rebuilt[3] == b""
    for row, clicks in ((0, CLICKS), (2, CLICKS[:2]), (4, CLICKS[:1])):
        hidden = b""
        for click in clicks:
            hidden = model.run([hidden], [[click]])[0]
        assert rebuilt[row] == hidden


def test_rebuilding_nobody_is_nothing() -> None:
    """No users, or users without clicks, need no network."""
    model, _ = _model("gru")

    assert model.rebuild([]) == []
    assert model.rebuild([[], []]) == [b"", b""]


def test_a_bundle_is_named_by_text_and_by_number() -> None:
    """States hold the number of what updates name as text."""
    model, _ = _model("gru")

    assert model.bundle_id == "00000000000000ff"
    assert model.bundle == 255


def test_items_are_found_by_hash() -> None:
    """States remember hashes, not ids."""
    model, _ = _model("gru")

    assert model.index_of(item_hash("i42")) == 42
    assert model.index_of(item_hash("never heard of")) is None


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", [1, 2, 4, 8, 15, 17, 64])
def test_a_state_of_another_width_is_a_clear_error(cell: str, size: int) -> None:
    """One number would otherwise be taken for every place of the state."""
    model, network = _model(cell)
    hidden = bytes(size)

    with pytest.raises(CorruptStateError, match=f"expected {2 * network.config.state_size} bytes, found {size}"):
        model.rank([b"", hidden], [b"", b""], 3)
    with pytest.raises(CorruptStateError, match="data_dir"):
        model.run([hidden], [[CLICKS[0]]])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_no_number_is_a_clear_error(number: float) -> None:
    """No list is ever sent with scores that are none."""
    model, network = _model("gru")
    hidden = np.zeros(network.config.state_size, "<f2")
    hidden[3] = number

    with pytest.raises(CorruptStateError, match="expected numbers, found NaN or infinity"):
        model.rank([hidden.tobytes()], [b""], 3)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sign", [1, -1])
@BY_FORM
def test_the_largest_weights_that_a_bundle_may_have_give_numbers(cell: str, sign: int, form: Form) -> None:
    """However many clicks: what is checked when a bundle is loaded is enough for serving."""
    model, network = _model(cell, form)
    with torch.no_grad():
        for weights in network.parameters():
            weights.fill_(MAX_WEIGHT * sign)
        if network.mixture is not None:
            network.mixture.sharpness.fill_(MAX_WEIGHT * sign)
            network.mixture.support.fill_(MAX_WEIGHT)
    hidden = [b""]
    for _ in range(100):
        hidden = model.run(hidden, [[CLICKS[0]]])

    assert np.isfinite(np.frombuffer(hidden[0], "<f2")).all()
    (ranked,) = model.rank(hidden, [_packed([("i3", 0, 0)] * 100)], N_ITEMS)
    ids, scores = _items(ranked)
    assert len(set(ids)) == N_ITEMS
    assert 0.1 < sum(scores) < 1.0001


def _model(cell: str, form: Form = PLAIN) -> tuple[ServedModel, Network]:
    network = random_network(
        msgspec.convert({"n_items": N_ITEMS, "hidden_size": 8, "cell": cell} | form, NetworkConfig), 3
    )
    vocabulary = Vocabulary([f"i{index}" for index in range(N_ITEMS)], np.ones(N_ITEMS))
    return served_model("00000000000000ff", network, vocabulary), network


def _some_users(model: ServedModel) -> tuple[list[bytes], list[bytes]]:
    """Hidden states and recent clicks: of users of one click each, and of a user who has not clicked."""
    recent = [_packed([(f"i{index}", gap_s, event)]) for index, gap_s, event in CLICKS]
    return [*model.run([b""] * len(CLICKS), [[click] for click in CLICKS]), b""], [*recent, b""]


def _packed(clicks: list[tuple[str, int, int]]) -> bytes:
    recent = b""
    for item_id, gap_s, event_type in clicks:
        recent = with_recent(recent, item_hash(item_id), gap_s, event_type, keep=255)
    return recent


def _recent_clicks(clicks: list[tuple[int, int, int]]) -> list[RecentClick]:
    return [RecentClick(item_hash(f"i{index}"), gap_s, event_type) for index, gap_s, event_type in clicks]


def _items(ranked: RankedList) -> tuple[list[str], list[float]]:
    items = json.loads(bytes(ranked.items))
    return [item["item_id"] for item in items], [item["score"] for item in items]


def _floats(hidden: bytes) -> np.ndarray:
    return np.frombuffer(hidden, dtype="<f2").astype(np.float32)
