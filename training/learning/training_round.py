"""One round of training: fit a network to all but the newest clicks, and judge it on these.

Knows neither broker nor clock nor where bundles are kept: it gets clicks and the champion, and gives a network and
figures. Whether that network is published is for the caller to decide.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nextclick.manifest import Manifest
from nextclick.network import Network
from nextclick.network_config import NEIGHBOURS, NetworkConfig
from nextclick.ranking_metrics import Quality
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.learning.cancellation import Cancellation
from training.learning.fit import Fitted, fit, network_config
from training.learning.sequences import ClickColumns, Ints, Sequences, TrainingSet, group_by_user
from training.learning.training_data import TrainingData
from training.learning.validation import (
    choose_predictions,
    network_ranks,
    popularity_ranks,
    popularity_weights,
    quality_of,
)

MAX_PREDICTIONS = 20_000  # of a validation: standard error of a recall of .3 is .003
_CLICKS_METRIC = "clicks"  # in a manifest: what the bundle was trained on
# A bundle that saw less than this share of the clicks is not trained on: from nothing it gets better, and sooner
# (24,000 simulated clicks, its parent trained on half of them: recall@20 .336 from nothing, .285 from the parent).
_MIN_PARENT_SHARE = 0.5
# Nor one that knows less than this share of the items: where it knew half of them, recall@20 was .403 from the bundle
# and .417 from nothing, where it knew three quarters .420 and .417 (24,000 simulated clicks).
_MIN_KNOWN_SHARE = 0.6
_ITEM_ROWS = ("item_embedding.weight", "output_embedding.weight", "item_bias")
_COUNTS = (NEIGHBOURS, "mixture.shares", "mixture.support")


class Champion(NamedTuple):
    """The bundle in use, the one that `models` announced last, loaded."""

    manifest: Manifest
    network: Network
    vocabulary: Vocabulary


class Round(NamedTuple):
    """What came out of a round.

    Attributes:
        network: the new one.
        vocabulary: its items.
        parent: id of the bundle that it was fine-tuned from, or empty.
        n_clicks: that it was trained on: the oldest of the data.
        fitted: how the fit went.
        new: quality of the new network.
        champion: quality of the champion on the same predictions; None when there is no champion.
        popularity: quality of the most popular items on the same predictions.
    """

    network: Network
    vocabulary: Vocabulary
    parent: str
    n_clicks: int
    fitted: Fitted
    new: Quality
    champion: Quality | None
    popularity: Quality

    def metrics(self) -> dict[str, float]:
        """The figures for the bundle's manifest."""
        figures: dict[str, float] = {
            _CLICKS_METRIC: self.n_clicks,
            "clicks_per_s": round(self.fitted.clicks_per_s),
            "epochs": self.fitted.epochs,
            "predictions": self.new.n_predictions,
        }
        for prefix, quality in (("", self.new), ("current_", self.champion), ("popularity_", self.popularity)):
            if quality is not None:
                figures[f"{prefix}recall@20"] = quality.recall
                figures[f"{prefix}mrr@20"] = quality.mrr
                figures[f"{prefix}ndcg@20"] = quality.ndcg
        return figures


def train_round(data: TrainingData, champion: Champion | None, settings: Settings, cancellation: Cancellation) -> Round:
    """Train a network on all but the newest clicks and judge it on these. Takes minutes.

    The network that is judged is the one that may be published: it has not seen the clicks that judge it, and neither
    has the champion, whose training ended before.

    Args:
        data: the clicks.
        champion: is compared with; and trained on, where it has the same shape and has seen enough.
        settings: of the trainer.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: the settings ask for a GPU and there is none.
    """
    torch.manual_seed(settings.seed)
    clicks, sequences = data.clicks, group_by_user(data.clicks)
    n_train = len(sequences) - int(data.n_recent * settings.validation_share)
    parent = champion if champion is not None and _can_be_parent(champion, clicks, n_train, settings) else None
    vocabulary = _vocabulary(clicks, n_train, parent, settings)
    kept = _kept_rows(parent, vocabulary)
    parent = parent if len(kept) else None
    validation = _Validation(clicks, sequences, n_train, settings)
    # Nothing of the validation part is seen, not even how popular its items are.
    learnt = sequences.renumbered(_item_index(vocabulary, clicks)).masked_from(n_train).known()
    network = _first_network(parent, kept, learnt, network_config(settings, len(vocabulary)))
    fitted = fit(network, TrainingSet(learnt, len(learnt), len(kept)), settings, cancellation)
    return Round(
        network,
        vocabulary,
        parent.manifest.bundle_id if parent else "",
        n_train,
        fitted,
        new=validation.quality(network, vocabulary, cancellation),
        champion=validation.quality(champion.network, champion.vocabulary, cancellation) if champion else None,
        popularity=quality_of(validation.popularity),
    )


class _Validation:
    """The predictions by which networks are compared: the clicks that none of them has learnt."""

    def __init__(self, clicks: ClickColumns, sequences: Sequences, n_train: int, settings: Settings) -> None:
        self._clicks, self._sequences = clicks, sequences
        self._predictions = choose_predictions(
            sequences, n_train, len(sequences), MAX_PREDICTIONS, settings.recent_clicks
        )
        weights = popularity_weights(clicks, n_train, settings.popularity_half_life_s)
        self.popularity = popularity_ranks(weights, sequences, self._predictions)

    def quality(self, network: Network, vocabulary: Vocabulary, cancellation: Cancellation) -> Quality:
        """Judge a network on all predictions."""
        sequences = self._sequences.renumbered(_item_index(vocabulary, self._clicks))
        return quality_of(network_ranks(network, sequences, self._predictions, self.popularity, cancellation))


def _can_be_parent(champion: Champion, clicks: ClickColumns, n_train: int, settings: Settings) -> bool:
    config = champion.network.config
    fits = network_config(settings, config.n_items) == config
    # A bundle of unknown origin counts as fully trained.
    n_seen = champion.manifest.metrics.get(_CLICKS_METRIC, float(n_train))
    n_known = sum(item_id in champion.vocabulary.index_of for item_id in clicks.item_ids)
    n_items = min(len(clicks.item_ids), settings.max_items or len(clicks.item_ids))
    return fits and n_seen > _MIN_PARENT_SHARE * n_train and n_known > _MIN_KNOWN_SHARE * n_items


def _vocabulary(clicks: ClickColumns, n_train: int, parent: Champion | None, settings: Settings) -> Vocabulary:
    """The items of the next bundle; popularity over all clicks."""
    item_ids = next_vocabulary(parent.vocabulary.item_ids if parent else [], clicks, n_train, settings.max_items)
    weights = popularity_weights(clicks, len(clicks.item_index), settings.popularity_half_life_s)
    weight_of = dict(zip(clicks.item_ids, weights.tolist(), strict=True))
    return Vocabulary(item_ids, np.array([weight_of[item_id] for item_id in item_ids]))


def next_vocabulary(known: Sequence[str], clicks: ClickColumns, n_train: int, max_items: int) -> list[str]:
    """Let items go that nobody clicks any more, and append those that are new.

    Args:
        known: items of the parent, by row.
        clicks: all that a training reads: the newest, and a sample of older ones.
        n_train: clicks before the validation part. An item that is first clicked there has nothing learnt, and waits
            for the next training; a known one stays if it is clicked anywhere.
        max_items: of more items, those with the fewest clicks go, of equal ones those that were clicked longer ago; 0:
            no bound.
    """
    n_items = len(clicks.item_ids)
    is_learnt = np.bincount(clicks.item_index[:n_train], minlength=n_items) > 0
    n_clicks = np.bincount(clicks.item_index, minlength=n_items)
    known_ids = set(known)
    is_known = np.array([item_id in known_ids for item_id in clicks.item_ids], dtype=bool)
    chosen = np.flatnonzero(is_learnt | (is_known & (n_clicks > 0)))
    if max_items and len(chosen) > max_items:
        last_click = np.zeros(n_items, dtype=np.int64)
        last_click[clicks.item_index] = np.arange(len(clicks.item_index))
        chosen = chosen[np.lexsort((last_click[chosen], n_clicks[chosen]))[-max_items:]]
    chosen_ids = {clicks.item_ids[item] for item in chosen.tolist()}
    return [*(item_id for item_id in known if item_id in chosen_ids), *sorted(chosen_ids - known_ids)]


def _kept_rows(parent: Champion | None, vocabulary: Vocabulary) -> Ints:
    """Give the parent's rows of the items that stay, which are the first ones of the vocabulary."""
    rows = parent.vocabulary.index_of if parent is not None else {}
    return np.array([rows[item_id] for item_id in vocabulary.item_ids if item_id in rows], dtype=np.int64)


def _item_index(vocabulary: Vocabulary, clicks: ClickColumns) -> Ints:
    """Give the row of every item of the clicks in a vocabulary; -1 where it is unknown."""
    return np.array([vocabulary.index_of.get(item_id, -1) for item_id in clicks.item_ids], dtype=np.int64)


def _first_network(parent: Champion | None, kept: Ints, learnt: Sequences, config: NetworkConfig) -> Network:
    if parent is None:
        return Network(config)
    item_counts = np.bincount(learnt.item_index, minlength=config.n_items).astype(np.float64)
    return next_network(parent.network, kept, config, item_counts)


@torch.no_grad()
def next_network(parent: Network, kept: Ints, config: NetworkConfig, item_counts: npt.NDArray[np.float64]) -> Network:
    """Make the network that goes on from another one: items that stay keep what was learnt, new ones get new rows.

    Neighbour lists are not taken over: they name items by their rows, and a fit counts them anew.

    Args:
        parent: gives the weights of everything that stays.
        kept: int64 (n_kept,), at least one: the parent's rows of the first items of the new network.
        config: of the new network; differs from the parent's only in its items.
        item_counts: float64 (n_items,), clicks per item: beside kept items a new one's bias starts at how popular it
            is.
    """
    network = Network(config)
    n_kept, weights = len(kept), network.state_dict()
    for name, learnt in parent.state_dict().items():
        if name in _ITEM_ROWS:
            weights[name][:n_kept] = learnt[kept]
        elif name not in _COUNTS:
            weights[name].copy_(learnt)
    log_count = torch.from_numpy(np.log1p(item_counts)).float()
    level = (network.item_bias[:n_kept] - log_count[:n_kept]).mean()
    network.item_bias[n_kept:] = log_count[n_kept:] + level
    return network
