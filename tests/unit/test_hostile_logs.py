"""A whole training on a log with a crawler or a wrong clock in it: the list of new users, and what judges a bundle."""

from threading import Event

import numpy as np
import pyarrow as pa
import pytest
import torch

from nextclick.settings import Settings
from training.learning.cancellation import Cancellation
from training.learning.judgement import Judgement
from training.learning.training_data import LogSegment, TrainingData, select_training_data
from training.learning.training_round import Round, train_round
from training.service.publication import judge

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
YEAR_2099_MS = 4_070_908_800_000
N_VISITS, N_CRAWLED = 2_000, 5_000
SETTINGS = Settings(hidden_size=16, epochs=1, neighbours=20)

ShopClick = tuple[str, str, int]  # user, item, event time in ms


def visits() -> list[ShopClick]:
    """A day of 600 people who mostly go three items on."""
    rng = np.random.default_rng(0)
    place: dict[int, int] = {}
    clicks = []
    for number in range(N_VISITS):
        user = int(rng.integers(600))
        goes_on = user in place and rng.random() > 0.15
        place[user] = (place[user] + 3) % 300 if goes_on else int(300 * rng.random() ** 2)
        clicks.append((f"visitor-{user}", f"item-{place[user]}", NOW_MS + DAY_MS * number // N_VISITS))
    return clicks


def crawled(n_items: int) -> list[ShopClick]:
    """What a crawler clicks on the same day, again and again."""
    return [
        ("crawler", f"crawled-{number % n_items}", NOW_MS + DAY_MS * number // N_CRAWLED) for number in range(N_CRAWLED)
    ]


def selected(clicks: list[ShopClick]) -> TrainingData:
    """Take what a training takes of a log of these clicks."""
    user, item, time_ms = zip(*clicks, strict=True)
    zeros = np.zeros(len(clicks), dtype=np.int64)
    rows = {"user_id": user, "item_id": item, "timestamp_ms": time_ms, "event_type": zeros, "partition": zeros}
    table = pa.table({**rows, "offset": np.arange(len(clicks)), "event_hash": zeros})
    return select_training_data(
        [LogSegment(0, 0, len(table), lambda: table)], 500_000, 0.2, 20, NOW_MS + DAY_MS, np.random.default_rng(0)
    )


def trained(clicks: list[ShopClick]) -> Round:
    torch.set_num_threads(1)
    return train_round(selected(clicks), None, SETTINGS, Cancellation(Event()))


def most_popular(outcome: Round, count: int = 20) -> list[str]:
    """The list of new users."""
    order = np.argsort(-outcome.made.vocabulary.popularity, kind="stable")
    return [outcome.made.vocabulary.item_ids[index] for index in order[:count]]


@pytest.mark.parametrize("n_items", [20, 200])
def test_a_crawler_neither_fills_the_list_nor_judges_the_bundle(n_items: int) -> None:
    """With 5,000 of 7,000 clicks: the list is the visitors', and so are most of the predictions."""
    clicks = sorted([*visits(), *crawled(n_items)], key=lambda click: click[2])

    outcome, without = trained(clicks), trained(visits())

    assert not [item_id for item_id in most_popular(outcome) if item_id.startswith("crawled")]
    assert outcome.judgement.new.n_predictions <= 1.2 * without.judgement.new.n_predictions
    assert outcome.judgement.popularity.recall == pytest.approx(without.judgement.popularity.recall, abs=0.03)
    assert outcome.judgement.new.recall == pytest.approx(without.judgement.new.recall, abs=0.08)


@pytest.mark.parametrize("wrong", [10, N_VISITS // 2])
def test_a_click_of_2099_neither_spoils_the_list_nor_opens_the_gate(wrong: int) -> None:
    """They are those of a log without it: what is no better than popularity is not published."""
    clicks = visits()
    clicks[wrong] = (*clicks[wrong][:2], YEAR_2099_MS)

    outcome, without = trained(clicks), trained(visits())

    assert len(set(most_popular(outcome)) & set(most_popular(without))) >= 19
    assert outcome.judgement.popularity.recall == pytest.approx(without.judgement.popularity.recall, abs=0.01)
    assert not judge(Judgement(without.judgement.popularity, None, outcome.judgement.popularity)).publish
