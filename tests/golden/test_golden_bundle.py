"""Yesterday's bundles still load, under the same id and with the same scores.

For their bytes see make_bundle_v1.py and make_bundle_mixture.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nextclick.advance import Limits, LoggedClick, UserKey, advance
from nextclick.bundle import load_bundle, load_network
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.manifest import bundle_id_of
from nextclick.model import ServedModel
from nextclick.updates import POPULAR, ranked_list
from nextclick.user_state import UserState

Clicks = list[tuple[str, int, int]]  # item id, event time in ms, event type

FOLDER = Path(__file__).parent / "bundle-v1"
MIXTURE_FOLDER = Path(__file__).parent / "bundle-mixture"
ITEMS = ("apple", "bread", "cheese", "dates", "élan")

# Of the arithmetic: float32 sums are ordered differently from processor to processor, and rounding to float16 can
# turn the last bit into one step (5e-4 below 1) per click.
SCORE_TOLERANCE = 1e-5
HIDDEN_TOLERANCE = 2e-3

NEW_USER_SCORES = [-0.279415488243103, 0.40484973788261414, 0.898708164691925, 0.9698897004127502, 0.5849170684814453]
HIDDEN = [0.454833984375, 0.428466796875, 0.9189453125, 0.5927734375]
SCORES = [1.4172842502593994, -1.4049842357635498, 2.612539768218994, -0.44989627599716187, 1.5465948581695557]
RANKED = [("cheese", 0.5841804146766663), ("élan", 0.20119304955005646), ("apple", 0.1767885386943817)]
CLICKS: Clicks = [("apple", 0, 0), ("élan", 5_000, 1), ("kiwi", 6_000, 0), ("cheese", 3_606_000, 255)]

MIXTURE_CLICKS: Clicks = [*CLICKS[:3], ("bread", 3_606_000, 255), ("apple", 3_700_000, 0)]
MIXTURE_HIDDEN = [0.255126953125, -0.142578125, 0.63427734375, 0.5029296875]
MIXTURE_RANKED = [
    ("bread", 0.4645700454711914),
    ("cheese", 0.23193728923797607),
    ("apple", 0.06398887932300568),
    ("élan", 0.005820159800350666),
    ("dates", 1.4812216022619396e-06),
]


def test_a_bundle_of_format_1_still_loads() -> None:
    """Every part of it, and its id still follows from its content."""
    manifest, model = load_bundle(FOLDER)

    assert manifest.bundle_id == "80017eb691437708"
    assert bundle_id_of(manifest.files, manifest.network, manifest.created_ms) == manifest.bundle_id
    assert manifest.network == {"n_items": 5, "hidden_size": 4, "cell": "gru", "tied": True}
    assert (manifest.parent, manifest.log_range) == ("00000000000000aa", {"0": (0, 99)})
    assert model.bundle == 0x80017EB691437708
    assert tuple(model.item_ids) == ITEMS
    assert model.popularity.tolist() == [5, 4, 3, 2, 1]


def test_fixed_weights_give_fixed_scores() -> None:
    """Without a click, and for a given hidden state."""
    _, network, _ = load_network(FOLDER)
    hidden = torch.tensor([[0.0] * 4, HIDDEN])

    with torch.inference_mode():
        scores = network.scores(network.features(hidden, torch.ones(2, 4)))

    np.testing.assert_allclose(scores, [NEW_USER_SCORES, SCORES], atol=SCORE_TOLERANCE)


def test_fixed_clicks_give_a_fixed_list() -> None:
    """Items, event types, gaps, an item that the bundle does not know: the whole way from clicks to the list."""
    _, model = load_bundle(FOLDER)

    _check(model, CLICKS, HIDDEN, RANKED)


def test_a_bundle_with_a_mixture_still_loads_and_gives_the_same_list() -> None:
    """Skip, normalised vectors, neighbours and re-clicks: clicks in two sessions, one of an unknown item."""
    manifest, model = load_bundle(MIXTURE_FOLDER)

    assert manifest.bundle_id == "b28f0a5024cf0230"
    assert manifest.network == {
        "n_items": 5,
        "hidden_size": 4,
        "cell": "gru",
        "tied": True,
        "skip": True,
        "normalised": True,
        "n_neighbours": 2,
    }
    _check(model, MIXTURE_CLICKS, MIXTURE_HIDDEN, MIXTURE_RANKED)


def _check(model: ServedModel, clicks: Clicks, hidden: list[float], ranked: list[tuple[str, float]]) -> None:
    states: dict[UserKey, UserState] = {}
    for offset, (item_id, time_ms, event_type) in enumerate(clicks):
        click = LoggedClick((3, b"u"), offset, time_ms, Click("u", item_id, time_ms, event_type), item_hash(item_id))
        (outcome,) = advance(model, ranked_list(POPULAR, [], []), states, [click], Limits(20, len(ranked)))
        states[click.user] = outcome.state

    items = json.loads(bytes(outcome.ranked.items))
    found = np.frombuffer(outcome.state.hidden, "<f2").astype(np.float32)
    np.testing.assert_allclose(found, hidden, atol=HIDDEN_TOLERANCE)
    assert [item["item_id"] for item in items] == [item_id for item_id, _ in ranked]
    assert [item["score"] for item in items] == pytest.approx([score for _, score in ranked], abs=HIDDEN_TOLERANCE)
