"""Lists that nobody gets, and those that were sent: what of the two is compared."""

from concurrent.futures import wait

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from nextclick.advance import Limits, LoggedClick, advance
from nextclick.clicks import Click
from nextclick.experiment import Place
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network_config import NetworkConfig
from nextclick.popular_lists import PopularLists
from nextclick.rules import Rules
from nextclick.updates import encode_items
from nextclick.user_state import SHOWN_BYTES
from nextclick.vocabulary import Vocabulary
from stream.metrics import WorkerMetrics
from stream.shadow import Shadow
from stream.trial import Trial
from tests.experiments import experiment_of
from tests.networks import random_network, served_model

IDS = [f"i{number}" for number in range(40)]
LIMITS = Limits(recent_clicks=10, list_length=8)
NOBODY = PopularLists([], 8, 0, encode_items)


N_USERS, N_CHUNKS = 20, 6


def champion_of(seed: int = 1) -> ServedModel:
    network = random_network(NetworkConfig(n_items=40, hidden_size=4), seed)
    return served_model("1".zfill(16), network, Vocabulary(IDS, np.ones(40)))


def followed(champion: ServedModel, limits: Limits, new: bytes = b"", *, with_shadow: bool = True) -> Trial:
    """Let users click, who get the champion's lists behind some new items, and the same bundle follow them."""
    trial = Trial(experiment_of(), None, WorkerMetrics(CollectorRegistry()))
    shadow, places = Shadow(trial, champion, limits), {(0, b"u%d" % user): Place(True, user) for user in range(N_USERS)}
    rng, states, offset = np.random.default_rng(1), {}, 0
    for _ in range(N_CHUNKS):
        clicks = []
        for user, item in zip(places, rng.choice(IDS, len(places)).tolist(), strict=True):
            clicks.append(
                LoggedClick(user, offset, 0, Click(user[1].decode(), item, 1_000 * offset, 0), item_hash(item))
            )
            offset += 1
        if with_shadow:
            shadow.take(clicks, places, states, NOBODY)
            wait(shadow._waiting)  # else chunks are passed over
        outcomes = advance(champion, NOBODY, states, clicks, limits)
        for logged, outcome in zip(clicks, outcomes, strict=True):
            state = outcome.state
            states[logged.user] = state._replace(shown=(new + state.shown)[: SHOWN_BYTES * limits.list_length])
    shadow.stop()
    return trial


EXPLORING = [Rules(explore=0.25), Rules(explore=0.25, pinned=("i7",))]


@pytest.mark.parametrize("rules", EXPLORING, ids=["explore", "pinned"])
def test_what_is_explored_is_no_part_of_the_comparison(rules: Rules) -> None:
    """Explored places say nothing of a bundle: one that ranks as the other does is as good."""
    trial = followed(champion_of(), LIMITS._replace(rules=rules))

    assert trial.beside_challenger == trial.beside_champion
    assert sum(row[0] for row in trial.beside_champion) == (N_CHUNKS - 1) * N_USERS
    assert sum(row[1] for row in trial.beside_champion) > 0


@pytest.mark.parametrize("rules", EXPLORING, ids=["explore", "pinned"])
def test_lists_that_nobody_gets_do_not_count_as_shown(rules: Rules) -> None:
    """Exploration gives places to what users were shown little."""
    alone, beside = champion_of(), champion_of()
    followed(alone, LIMITS._replace(rules=rules), with_shadow=False)
    followed(beside, LIMITS._replace(rules=rules))

    assert alone._shop._counted().sum() == N_CHUNKS * N_USERS * LIMITS.list_length
    assert beside._shop._counted().tolist() == alone._shop._counted().tolist()


@pytest.mark.parametrize("n_new", [0, 3, 8])
def test_places_that_new_items_take_are_not_held_against_a_canary(n_new: int) -> None:
    """It ranks what both know as the champion does, behind items that the champion does not know."""
    new = np.array([item_hash(f"new{number}") for number in range(n_new)], np.uint64).astype("<u4").tobytes()
    trial = followed(champion_of(), LIMITS, new)

    assert trial.beside_challenger == trial.beside_champion
    judged = sum(row[0] for row in trial.beside_champion)
    assert judged == ((N_CHUNKS - 1) * N_USERS if n_new < LIMITS.list_length else 0)
    assert n_new == LIMITS.list_length or 0 < sum(row[1] for row in trial.beside_champion) < judged
