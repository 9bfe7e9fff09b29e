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
from nextclick.network import Network, NetworkConfig
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
    parent = champion if champion is not None and _can_be_parent(champion, n_train, settings) else None
    vocabulary = _vocabulary(clicks, n_train, parent, settings.popularity_half_life_s)
    validation = _Validation(clicks, sequences, n_train, settings)
    # Nothing of the validation part is seen, not even how popular its items are.
    learnt = sequences.renumbered(_item_index(vocabulary, clicks)).masked_from(n_train)
    network = _first_network(parent, learnt, network_config(settings, len(vocabulary)))
    n_known = len(parent.vocabulary) if parent else 0
    fitted = fit(network, TrainingSet(learnt, n_train, n_known), settings, cancellation)
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


def _can_be_parent(champion: Champion, n_train: int, settings: Settings) -> bool:
    config = champion.network.config
    fits = network_config(settings, config.n_items) == config
    # A bundle of unknown origin counts as fully trained.
    n_seen = champion.manifest.metrics.get(_CLICKS_METRIC, float(n_train))
    return fits and n_seen > _MIN_PARENT_SHARE * n_train


def _vocabulary(clicks: ClickColumns, n_train: int, parent: Champion | None, half_life_s: float) -> Vocabulary:
    """The parent's items and those that were clicked before the validation part; popularity over all clicks."""
    clicked = [clicks.item_ids[item] for item in np.unique(clicks.item_index[:n_train])]
    item_ids = extended_vocabulary(parent.vocabulary.item_ids if parent else [], clicked)
    weights = popularity_weights(clicks, len(clicks.item_index), half_life_s)
    weight_of = dict(zip(clicks.item_ids, weights.tolist(), strict=True))
    return Vocabulary(item_ids, np.array([weight_of.get(item_id, 0.0) for item_id in item_ids]))


def extended_vocabulary(known: Sequence[str], clicked: Sequence[str]) -> list[str]:
    """Append the items that are new to those that are known, so that known ones keep their rows."""
    return [*known, *sorted(set(clicked) - set(known))]


def _item_index(vocabulary: Vocabulary, clicks: ClickColumns) -> Ints:
    """Give the row of every item of the clicks in a vocabulary; -1 where it is unknown."""
    return np.array([vocabulary.index_of.get(item_id, -1) for item_id in clicks.item_ids], dtype=np.int64)


def _first_network(parent: Champion | None, learnt: Sequences, config: NetworkConfig) -> Network:
    if parent is None:
        return Network(config)
    item_index = learnt.item_index[learnt.item_index >= 0]
    item_counts = np.bincount(item_index, minlength=config.n_items).astype(np.float64)
    return extended_network(parent.network, config, item_counts)


@torch.no_grad()
def extended_network(parent: Network, config: NetworkConfig, item_counts: npt.NDArray[np.float64]) -> Network:
    """Make the network that goes on from another one: everything that the other has stays, new items get new rows.

    Args:
        parent: gives the weights of everything that it has.
        config: of the new network; differs from the parent's only in having more items.
        item_counts: float64 (n_items,), clicks per item: beside known items a new one's bias starts at how popular it
            is.
    """
    network = Network(config)
    n_known, weights = parent.config.n_items, network.state_dict()
    for name, known in parent.state_dict().items():
        target = weights[name]
        (target[:n_known] if target.shape != known.shape else target).copy_(known)
    log_count = torch.from_numpy(np.log1p(item_counts)).float()
    level = (parent.item_bias - log_count[:n_known]).mean()
    network.item_bias[n_known:] = log_count[n_known:] + level
    return network
