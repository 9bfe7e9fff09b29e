"""One training: choose clicks, fit, evaluate, decide. Knows neither broker nor clock nor where bundles are kept."""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from nextclick.network import Network, NetworkConfig
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.learning.evaluate import (
    Quality,
    choose_predictions,
    network_ranks,
    popularity_ranks,
    quality_of,
)
from training.learning.fit import Fitted, Lesson, fit
from training.learning.growth import grown_item_ids, grown_network
from training.learning.sequences import ClickColumns, Ints, Sequences, group_by_user
from training.learning.training_data import TrainingData
from training.learning.watch import Watch
from training.service.bundle_store import Champion
from training.service.publication import Decision, judge

MAX_PREDICTIONS = 20_000  # of an evaluation: standard error of a recall of .3 is .003
_CLICKS_METRIC = "clicks"  # in a manifest: what the bundle was trained on
# A bundle that saw less than this share of the clicks is not trained on: from nothing it gets better, and sooner
# (24,000 simulated clicks, its parent trained on half of them: recall@20 .336 from nothing, .285 from the parent).
_MIN_PARENT_SHARE = 0.5


class Round(NamedTuple):
    """What came out of a training.

    Attributes:
        network: the new one.
        vocabulary: its items.
        parent: id of the bundle that it was fine-tuned from, or empty.
        n_clicks: that it was trained on: the oldest of the data.
        fitted: how the fit went.
        new: quality of the new network.
        current: quality of the bundle that is served; None when there is none.
        popularity: quality of the most popular items.
        decision: whether to publish.
    """

    network: Network
    vocabulary: Vocabulary
    parent: str
    n_clicks: int
    fitted: Fitted
    new: Quality
    current: Quality | None
    popularity: Quality
    decision: Decision

    def metrics(self) -> dict[str, float]:
        """The figures for the bundle's manifest."""
        figures: dict[str, float] = {
            _CLICKS_METRIC: self.n_clicks,
            "clicks_per_s": round(self.fitted.clicks_per_s),
            "epochs": self.fitted.epochs,
            "predictions": self.new.n_predictions,
        }
        for prefix, quality in (("", self.new), ("current_", self.current), ("popularity_", self.popularity)):
            if quality is not None:
                figures[f"{prefix}recall@20"] = quality.recall
                figures[f"{prefix}mrr@20"] = quality.mrr
                figures[f"{prefix}ndcg@20"] = quality.ndcg
        return figures


def train_round(data: TrainingData, champion: Champion | None, settings: Settings, watch: Watch) -> Round:
    """Train a network on all but the newest clicks and judge it on these.

    The network that is judged is the one that is published: it has not seen the clicks that judge it, and neither
    has the champion, whose training ended before.

    Args:
        data: the clicks.
        champion: the bundle that is served.
        settings: of the trainer.
        watch: can end the training.

    Raises:
        TrainingStopped: it did.
    """
    torch.manual_seed(settings.seed)
    sequences = group_by_user(data.clicks)
    n_train = len(sequences) - int(data.n_recent * settings.validation_share)
    parent = champion if champion is not None and _can_be_parent(champion, n_train, settings) else None
    vocabulary = _vocabulary(data.clicks, n_train, parent, settings.popularity_half_life_s)
    trial = _Trial(data.clicks, sequences, n_train, settings)
    item_index = _item_index(vocabulary, data.clicks)
    # Nothing of the validation part is seen, not even how popular its items are.
    trained_index = np.where(sequences.age_rank < n_train, item_index[sequences.item], -1)
    config = network_config(settings, len(vocabulary))
    counts = np.bincount(trained_index[trained_index >= 0], minlength=len(vocabulary)).astype(np.float64)
    network = grown_network(parent.network if parent else None, config, counts)
    lesson = Lesson(trained_index, sequences, n_train, len(parent.vocabulary) if parent else 0)
    fitted = fit(network, lesson, settings, watch)
    new = trial.quality(network, item_index, watch)
    current = (
        trial.quality(champion.network, _item_index(champion.vocabulary, data.clicks), watch) if champion else None
    )
    popularity = quality_of(trial.popularity)
    decision = judge(new, current, popularity)
    parent_id = parent.manifest.bundle_id if parent else ""
    return Round(network, vocabulary, parent_id, n_train, fitted, new, current, popularity, decision)


class _Trial:
    """The predictions by which networks are compared."""

    def __init__(self, clicks: ClickColumns, sequences: Sequences, n_train: int, settings: Settings) -> None:
        self._sequences = sequences
        self._predictions = choose_predictions(
            sequences, n_train, len(sequences), MAX_PREDICTIONS, settings.recent_clicks
        )
        weights = popularity_weights(clicks, n_train, settings.popularity_half_life_s)
        self.popularity = popularity_ranks(weights, sequences, self._predictions)

    def quality(self, network: Network, item_index: Ints, watch: Watch) -> Quality:
        """Judge a network on all predictions."""
        fallback = self.popularity
        index = item_index[self._sequences.item]
        return quality_of(network_ranks(network, index, self._sequences, self._predictions, fallback, watch))


def popularity_weights(clicks: ClickColumns, n_clicks: int, half_life_s: float) -> npt.NDArray[np.float64]:
    """Weigh each item's clicks among the oldest `n_clicks`: 1 for the newest, half of it a half-life earlier."""
    timestamp_ms = clicks.timestamp_ms[:n_clicks]
    age_s = (timestamp_ms.max(initial=0) - timestamp_ms) / 1000.0
    weights = np.exp2(-age_s / half_life_s)
    summed = np.bincount(clicks.item[:n_clicks], weights, minlength=len(clicks.item_ids))
    return summed.astype(np.float64)  # bincount gives whole numbers when there are none


def network_config(settings: Settings, n_items: int) -> NetworkConfig:
    """Give the configuration of the network that the settings ask for."""
    fields = {
        "n_items": n_items,
        "hidden_size": settings.hidden_size,
        "cell": settings.cell,
        "tied": settings.tied,
        "skip": settings.skip,
        "normalised": settings.normalised,
        "n_neighbours": settings.neighbours,
    }
    return msgspec.convert(fields, NetworkConfig)


def _can_be_parent(champion: Champion, n_train: int, settings: Settings) -> bool:
    config = champion.network.config
    fits = network_config(settings, config.n_items) == config
    # A bundle of unknown origin counts as fully trained.
    seen = champion.manifest.metrics.get(_CLICKS_METRIC, float(n_train))
    return fits and seen > _MIN_PARENT_SHARE * n_train


def _vocabulary(clicks: ClickColumns, n_train: int, parent: Champion | None, half_life_s: float) -> Vocabulary:
    """The parent's items and those that were clicked before the validation part; popularity over all clicks."""
    seen = [clicks.item_ids[item] for item in np.unique(clicks.item[:n_train])]
    item_ids = grown_item_ids(parent.vocabulary.item_ids if parent else [], seen)
    weights = popularity_weights(clicks, len(clicks.item), half_life_s)
    weight_of = dict(zip(clicks.item_ids, weights.tolist(), strict=True))
    return Vocabulary(item_ids, np.array([weight_of.get(item_id, 0.0) for item_id in item_ids]))


def _item_index(vocabulary: Vocabulary, clicks: ClickColumns) -> Ints:
    """Give the row of every item of the clicks in a vocabulary; -1 where it is unknown."""
    return np.array([vocabulary.index_of.get(item_id, -1) for item_id in clicks.item_ids], dtype=np.int64)
