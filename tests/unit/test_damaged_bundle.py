"""A bundle that is damaged and looks whole: every number finite, every file in order, and the wrong vectors.

On a real log, through a whole training round: what is not seen here is published.
"""

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.network import Network
from nextclick.settings import Settings
from tests.real_clicks import real_clicks
from training.learning.cancellation import Cancellation
from training.learning.judgement import Judgement
from training.learning.judging import Contender, Judging
from training.learning.training_round import Champion, Round, train_round
from training.service.publication import judge

Damage = Callable[[Network], None]
SETTINGS = Settings(hidden_size=32)


def run(count: int, champion: Champion | None = None) -> Round:
    torch.set_num_threads(1)
    return train_round(real_clicks(count), champion, SETTINGS, Cancellation(Event()))


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Champion:
    """A sound bundle, trained on a day."""
    outcome, folder = run(10_000), tmp_path_factory.mktemp("bundles")
    assert judge(outcome.judgement).publish
    made = outcome.made
    manifest = save_bundle(folder, made.network, made.vocabulary, created_ms=1, metrics=outcome.metrics())
    return Champion(*load_network(folder / manifest.bundle_id))


@torch.no_grad()
def shuffle(network: Network) -> None:
    """Give every item the vector of another one."""
    order = torch.randperm(network.config.n_items, generator=torch.Generator().manual_seed(0))
    network.item_embedding.weight.copy_(network.item_embedding.weight[order])


@torch.no_grad()
def favour_a_few(network: Network) -> None:
    """Give 30 items a bias that puts them into every list."""
    network.item_bias[:30] += 16.0


@torch.no_grad()
def not_a_number(network: Network) -> None:
    """Let a step of the optimizer go wrong in one weight."""
    network.item_embedding.weight[3, 3] = torch.nan


def damaging(monkeypatch: pytest.MonkeyPatch, damage: Damage) -> None:
    """Damage each network right before it is judged."""
    judgement = Judging.judgement

    def damage_and_judge(judging: Judging, new: Contender, *others: Any) -> Judgement:
        damage(new.network)
        return judgement(judging, new, *others)

    monkeypatch.setattr(Judging, "judgement", damage_and_judge)


def test_a_sound_bundle_takes_the_place_of_the_champion(champion: Champion) -> None:
    """Else what follows would show nothing."""
    assert judge(run(12_000, champion).judgement).publish


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (shuffle, "worse than the champion"),
        (favour_a_few, "worse than the champion"),
        (not_a_number, "a weight is not a finite number"),
    ],
)
def test_a_damaged_bundle_does_not(
    champion: Champion, damage: Damage, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the line says what was seen."""
    damaging(monkeypatch, damage)

    decision = judge(run(12_000, champion).judgement)

    assert not decision.publish
    assert reason in decision.reason


@pytest.mark.parametrize("damage", [shuffle, favour_a_few, not_a_number])
def test_nor_as_the_first_bundle(damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no champion to compare with: its own counts are."""
    damaging(monkeypatch, damage)

    decision = judge(run(10_000).judgement)

    assert not decision.publish
