"""One whole training, without a broker."""

from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.settings import Settings
from training.learning import training_round
from training.learning.cancellation import Cancellation
from training.learning.continual import Continued
from training.learning.judgement import Judgement
from training.learning.judging import Contender, Judging
from training.learning.round_clicks import RoundClicks
from training.learning.sequences import ClickColumns
from training.learning.training_data import TrainingData
from training.learning.training_round import Champion, Round, continue_round, train_round
from training.service.publication import judge

N_ITEMS = 60
SETTINGS = Settings(hidden_size=32, epochs=4)


def ring_clicks(count: int, n_items: int = N_ITEMS) -> TrainingData:
    """Users who mostly go three items on."""
    rng = np.random.default_rng(0)
    n_users = count // 10
    place = rng.integers(n_items, size=n_users)
    user = rng.integers(n_users, size=count)
    item = np.zeros(count, dtype=np.int64)
    for number, who in enumerate(user):
        item[number] = place[who]
        place[who] = rng.integers(n_items) if rng.random() < 0.1 else (place[who] + 3) % n_items
    ids = [f"item-{number}" for number in range(n_items)]
    clicks = ClickColumns(user, item, np.arange(count) * 500, np.zeros(count, dtype=np.int64), ids)
    return TrainingData(clicks, count, np.zeros(count, dtype=np.int64), np.arange(count))


def run(data: TrainingData, champion: Champion | None = None, settings: Settings = SETTINGS) -> Round:
    torch.set_num_threads(1)
    return train_round(data, champion, settings, Cancellation(Event()))


def is_published(outcome: Round) -> bool:
    """Decide as the trainer does."""
    return judge(outcome.judgement).publish


def stored(folder: Path, outcome: Round) -> Champion:
    """Store a round's bundle and load it again."""
    manifest = save_bundle(
        folder, outcome.made.network, outcome.made.vocabulary, created_ms=1, metrics=outcome.metrics()
    )
    return Champion(*load_network(folder / manifest.bundle_id))


def test_the_first_training_beats_popularity() -> None:
    """From nothing, on a few thousand clicks with structure."""
    outcome = run(ring_clicks(2_000))

    assert is_published(outcome)
    assert outcome.judgement.new.recall > 0.7 > outcome.judgement.popularity.recall
    assert outcome.judgement.champion is None
    assert (outcome.n_clicks, outcome.n_judging, outcome.has_learnt_all) == (2_000, 200, True)
    assert outcome.judgement.new.n_predictions > 150


def test_the_champion_is_what_it_is_compared_with(tmp_path: Path) -> None:
    """All three figures are in the metrics, whatever the champion's shape."""
    champion = stored(tmp_path, run(ring_clicks(1_500)))

    outcome = run(ring_clicks(2_000), champion, Settings(hidden_size=16, epochs=2))

    assert outcome.made.network.config.hidden_size == 16
    assert outcome.judgement.champion is not None
    assert outcome.metrics()["current_recall@20"] == outcome.judgement.champion.recall
    assert is_published(outcome)


@pytest.mark.parametrize(
    ("log_range", "expected"),
    [({"0": (0, 1_949)}, 50), ({"0": (0, 1_500)}, 200), ({}, 200), ({"7": (0, 1_999)}, 200), ({"0": (0, 1_999)}, 200)],
    ids=["most of the newest", "none of the newest", "it does not say", "another partition", "all"],
)
def test_clicks_that_the_champion_has_learnt_do_not_compare_it_with_another(
    log_range: dict[str, tuple[int, int]], expected: int, tmp_path: Path
) -> None:
    """It learns the clicks that judged it, too: of them it knows the answers, and what begins anew could not win."""
    data, settings = ring_clicks(2_000), Settings(hidden_size=16, epochs=1)
    champion = stored(tmp_path, run(data, settings=settings))
    manifest = msgspec.structs.replace(champion.manifest, log_range=log_range)

    outcome = run(data, champion._replace(manifest=manifest), settings)

    assert outcome.n_judging == expected
    assert outcome.judgement.champion is not None


def test_items_that_appear_only_in_the_newest_part_are_missed_and_then_known() -> None:
    """While that part judges they have no learnt row; the bundle knows them."""
    data = ring_clicks(2_000)
    item = data.clicks.item_index.copy()
    item[-150:] = N_ITEMS
    clicks = data.clicks._replace(item_index=item, item_ids=[*data.clicks.item_ids, "too new"])

    outcome = run(data._replace(clicks=clicks))

    assert "too new" in outcome.made.vocabulary.index_of
    assert outcome.judgement.new.recall < 0.3


def test_the_same_clicks_and_seed_give_the_same_network() -> None:
    """A whole round repeats itself to the last bit."""
    first, second = (run(ring_clicks(800)).made.network.state_dict() for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_users_with_one_click_each_give_nothing_to_publish() -> None:
    """No sequence, no prediction: no crash, no bundle."""
    data = ring_clicks(500)
    lonely = data._replace(clicks=data.clicks._replace(user=np.arange(500)))

    outcome = run(lonely)

    assert not is_published(outcome)


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_newest_clicks_judge_before_they_are_learnt(
    goes_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clicks there: the network that is judged is the same, the one that is served is another."""
    judged: list[dict[str, torch.Tensor]] = []
    really_judge = Judging.judgement

    def judge_and_keep(judging: Judging, new: Contender, *more: Any) -> Judgement:
        judged.append({name: weight.clone() for name, weight in new.network.state_dict().items()})
        return really_judge(judging, new, *more)

    monkeypatch.setattr(Judging, "judgement", judge_and_keep)
    settings = Settings(hidden_size=16, epochs=1, negatives=5)
    data, served, figures = ring_clicks(2_000), [], []
    item = data.clicks.item_index.copy()
    item[-100:] = np.random.default_rng(9).integers(N_ITEMS, size=100)
    older = data._replace(clicks=data.clicks.take(slice(1_500)), n_recent=1_500)
    begun = run(older, settings=settings) if goes_on else None
    judged.clear()
    for clicks in (data.clicks, data.clicks._replace(item_index=item)):
        if begun is not None:
            new = RoundClicks(clicks, 500)
            champion = stored(tmp_path / str(len(served)), begun)
            outcome = continue_round(begun.made.checkpoint, new, champion, settings, Cancellation(Event()))
        else:
            outcome = run(data._replace(clicks=clicks), settings=settings)
        served.append(outcome.made.network.item_embedding.weight)
        figures.append(outcome.judgement.new.recall)

    assert all(torch.equal(weight, judged[1][name]) for name, weight in judged[0].items())
    assert figures[0] != figures[1]
    assert not torch.equal(*served)


def test_a_round_goes_on_from_the_champions_checkpoint(tmp_path: Path) -> None:
    """It is better than the champion after new items have come, and is compared with it and with popularity."""
    data = ring_clicks(3_000)
    begun = run(data._replace(clicks=data.clicks.take(slice(2_000)), n_recent=2_000))
    champion = stored(tmp_path, begun)
    item, ids = data.clicks.item_index.copy(), [f"new-{number}" for number in range(N_ITEMS)]
    item[2_000:] += N_ITEMS  # a catalogue of other items
    clicks = data.clicks._replace(item_index=item, item_ids=[*data.clicks.item_ids, *ids])

    outcome = continue_round(
        begun.made.checkpoint, RoundClicks(clicks, 1_000), champion, SETTINGS, Cancellation(Event())
    )

    assert is_published(outcome)
    assert outcome.judgement.champion is not None
    assert outcome.judgement.new.recall > outcome.judgement.champion.recall + 0.2
    assert outcome.n_clicks == 3_000
    assert outcome.has_learnt_all


def test_what_breaks_while_the_newest_clicks_are_learnt_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network that was judged is served then, and it is said that the clicks were not learnt."""
    really_continue = training_round.continue_fit

    def break_it(*arguments: Any) -> Continued:
        made = really_continue(*arguments)
        with torch.no_grad():
            made.network.item_bias.fill_(torch.nan)
        return made

    monkeypatch.setattr(training_round, "continue_fit", break_it)

    outcome = run(ring_clicks(2_000))

    assert not outcome.has_learnt_all
    assert outcome.n_clicks == 1_800
    assert outcome.made.network.item_bias.isfinite().all()
    assert is_published(outcome)


def test_a_round_without_a_new_click_publishes_nothing(tmp_path: Path) -> None:
    """All that came were retries, say."""
    data = ring_clicks(1_000)
    begun = run(data)

    outcome = continue_round(
        begun.made.checkpoint, RoundClicks(data.clicks, 0), stored(tmp_path, begun), SETTINGS, Cancellation(Event())
    )

    assert not is_published(outcome)
