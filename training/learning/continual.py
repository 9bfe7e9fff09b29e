"""Continual rounds: from a checkpoint, what is new is learnt, at a price that grows with the new clicks alone.

A round, in this order:

1. **The gate is fitted again** on the new clicks: the parent's network and counts have not seen them, which is what
   the gate has to be fitted on.
2. **Counts and popularity are added to**; what was counted fades. Items that nobody clicks any more leave.
3. **Vectors are drawn towards their neighbours'**, those of new items wholly, the others a little: a network that only
   goes on forgets what the counts know of rare items, which a new one begins with (docs/model.md has what it brings).
4. **The network learns** the new clicks and a sample of older ones, mixed, and then the new ones once more. The
   optimizer goes on from where it stood: what has learnt much takes small steps, what is new large ones.
"""

import copy
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nextclick.network import Network
from nextclick.network_config import NEIGHBOURS
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.learning.associations import AssociationCounts, half_life_of
from training.learning.cancellation import Cancellation
from training.learning.checkpoint import Checkpoint
from training.learning.fit import Fitted, Passes, fit, give_neighbours, network_config
from training.learning.fit_mixture import refit_mixture
from training.learning.item_statistics import ItemStatistics, no_statistics
from training.learning.judging import item_index_in
from training.learning.round_clicks import RoundClicks, round_clicks
from training.learning.sequences import (
    ClickColumns,
    Sequences,
    TrainingSet,
    group_by_user,
    training_windows,
)
from training.learning.step import LearntBefore
from training.learning.turnover import NextItems, known_items, next_items
from training.learning.validation import choose_predictions

__all__ = ["Checkpoint", "Continued", "RoundClicks", "continue_fit", "fit_anew", "round_clicks"]

_GATE_PREDICTIONS = 20_000  # the newest of them, as in a fit, of which some are looked at
_ITEM_ROWS = ("item_embedding.weight", "output_embedding.weight", "item_bias")
_COUNTS = (NEIGHBOURS, "mixture.shares", "mixture.support")  # are given anew
_SUPPORT = 5.0  # added to a neighbour's sum: what is rarely clicked says little of where a new item belongs
_RANDOM_SHARE = 0.1  # of a new item's vector: else two with the same neighbours would be one
_NEIGHBOUR_STEPS = 2  # the second reaches new items that have but new neighbours
_PULL = 1.5  # towards the neighbours, times the share of the window that is new: a vector of length 1 is there then


class Continued(NamedTuple):
    """What came out of a round, or of a fit anew.

    Attributes:
        network: as it would be served.
        vocabulary: its items.
        checkpoint: what the next round goes on from.
        fitted: how the fit went.
    """

    network: Network
    vocabulary: Vocabulary
    checkpoint: Checkpoint
    fitted: Fitted


def fit_anew(clicks: ClickColumns, settings: Settings, cancellation: Cancellation) -> Continued:
    """Learn all clicks, from nothing. Takes minutes.

    Args:
        clicks: oldest first.
        settings: of the trainer.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: the settings ask for a GPU and there is none.
    """
    torch.manual_seed(settings.seed)
    items = known_items(clicks, settings.max_items)
    sequences = group_by_user(clicks).renumbered(items.row).known()
    n_items, n_clicks = len(items.item_ids), len(sequences)
    network = Network(network_config(settings, n_items))
    fitted = fit(network, TrainingSet(sequences, n_clicks), settings, cancellation)
    statistics = no_statistics(n_items).later(
        clicks, 0, items.row, half_life_of(n_clicks), settings.popularity_half_life_s
    )
    return _continued(network, items, statistics, fitted)


def continue_fit(
    checkpoint: Checkpoint, data: RoundClicks, settings: Settings, cancellation: Cancellation
) -> Continued:
    """Learn what is new.

    Args:
        checkpoint: of the round before; is not changed.
        data: the clicks.
        settings: of the trainer.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: the settings ask for a GPU and there is none.
    """
    torch.manual_seed(settings.seed)
    grouped = group_by_user(data.clicks)
    parent = _with_gate_fitted_again(checkpoint, data, grouped, settings, cancellation)
    window = int(settings.recent_window_clicks * (1.0 + settings.replay_share))
    items = next_items(checkpoint.vocabulary, checkpoint.items, data, window, settings.max_items)
    n_items, sequences = len(items.item_ids), grouped.renumbered(items.row)
    n_window = min(checkpoint.items.n_log_clicks + data.n_new, window)
    half_life = half_life_of(n_window)
    statistics = checkpoint.items.renumbered(items.new_row, n_items).later(
        data.clicks, data.n_old, items.row, half_life, settings.popularity_half_life_s
    )
    counts = checkpoint.counts.renumbered(items.new_row, n_items)
    counts = counts.later(sequences, range(data.n_old, len(sequences)), half_life)
    network = next_network(parent, items, counts, statistics)
    draw_towards_neighbours(network, counts, _PULL * data.n_new / n_window)
    squares = {
        name: _moved_rows(square, items) if name in _ITEM_ROWS else square
        for name, square in checkpoint.squares.items()
    }
    before = LearntBefore(statistics.n_clicks, squares)
    learnt = sequences.known()
    n_old = int((sequences.item_index[sequences.age_rank < data.n_old] >= 0).sum())
    passes = Passes(network, learnt, settings, cancellation, before)
    n_passes = _learn(passes, learnt, n_old, settings)
    give_neighbours(network, counts)
    fitted = Fitted(n_passes, passes.clicks_per_s, passes.squares(), counts)
    return _continued(network, items, statistics, fitted)


def _continued(network: Network, items: NextItems, statistics: ItemStatistics, fitted: Fitted) -> Continued:
    vocabulary = Vocabulary(items.item_ids, statistics.popularity)
    checkpoint = Checkpoint(network, vocabulary, fitted.squares, fitted.counts, statistics)
    return Continued(network, vocabulary, checkpoint, fitted)


def _with_gate_fitted_again(
    checkpoint: Checkpoint, data: RoundClicks, grouped: Sequences, settings: Settings, cancellation: Cancellation
) -> Network:
    """Give a copy of the parent's network, whose gate was fitted on the new clicks."""
    parent = copy.deepcopy(checkpoint.network)
    if parent.mixture is None:
        return parent
    sequences = grouped.renumbered(item_index_in(checkpoint.vocabulary, data.clicks))
    predictions = choose_predictions(sequences, data.n_old, len(sequences), _GATE_PREDICTIONS, settings.recent_clicks)
    predictions = predictions.take(np.flatnonzero(sequences.item_index[predictions.target] >= 0))
    refit_mixture(parent, sequences, predictions, checkpoint.counts, cancellation)
    return parent


def _moved_rows(rows: Tensor, items: NextItems) -> Tensor:
    """Give a table of the items' rows; those of new items are 0."""
    moved = torch.zeros(len(items.item_ids), *rows.shape[1:])
    moved[: items.n_kept] = rows[torch.from_numpy(items.kept)]
    return moved


@torch.no_grad()
def next_network(parent: Network, items: NextItems, counts: AssociationCounts, statistics: ItemStatistics) -> Network:
    """Make a network of the parent's weights with the items of now.

    Beside kept items a new one's bias starts at how popular it is.
    """
    network = Network(msgspec.structs.replace(parent.config, n_items=len(items.item_ids)))
    weights, n_kept = network.state_dict(), items.n_kept
    for name, learnt in parent.state_dict().items():
        if name in _ITEM_ROWS:
            weights[name][:n_kept] = learnt[torch.from_numpy(items.kept)]
        elif name not in _COUNTS:
            weights[name].copy_(learnt)
    for embedding in {network.item_embedding, network.output_embedding}:
        _start_amid_neighbours(embedding.weight, n_kept, counts)
    network.normalise()
    log_count = torch.from_numpy(np.log1p(statistics.n_clicks)).float()
    level = (network.item_bias[:n_kept] - log_count[:n_kept]).mean() if n_kept else 0.0
    network.item_bias[n_kept:] = log_count[n_kept:] + level
    return network


def _start_amid_neighbours(vectors: Tensor, n_known: int, counts: AssociationCounts) -> None:
    """Let the vectors of new items, the last rows, begin where the items are that are clicked near them.

    Args:
        vectors: float32 (n_items, width): rows from `n_known` on are changed, which are random.
        n_known: rows that were learnt.
        counts: with the clicks of the new items.
    """
    first = int(np.searchsorted(counts.code, n_known * counts.n_items))
    of_new, neighbour = counts.item_index[first:] - n_known, counts.neighbour[first:]
    weight = counts.count[first:] / np.sqrt(counts.total[neighbour] + _SUPPORT)
    row, column, weights = (torch.from_numpy(each) for each in (of_new, neighbour, weight.astype(np.float32)))
    drawn = functional.normalize(vectors[n_known:])
    vectors[n_known:] = 0.0
    for _ in range(_NEIGHBOUR_STEPS):
        around = torch.zeros_like(drawn).index_add_(0, row, weights[:, None] * vectors[column])
        vectors[n_known:] = functional.normalize(around)
    vectors[n_known:] += _RANDOM_SHARE * drawn


@torch.no_grad()
def draw_towards_neighbours(network: Network, counts: AssociationCounts, pull: float) -> None:
    """Add to each item's vector that of its neighbourhood.

    Args:
        network: its vectors are changed.
        counts: how near items are.
        pull: length of what is added, as a share of the vector's; an item without neighbours stays where it is.
    """
    for embedding in {network.item_embedding, network.output_embedding}:
        vectors = embedding.weight
        around = torch.from_numpy(counts.normalised_times(vectors.numpy(), _SUPPORT))
        vectors.addcmul_(functional.normalize(around), vectors.norm(dim=1, keepdim=True), value=pull)
    network.normalise()


def _learn(passes: Passes, sequences: Sequences, n_old: int, settings: Settings) -> int:
    """Learn; give how often the new clicks were."""
    windows = training_windows(sequences, len(sequences), settings.recent_clicks + 1)
    is_new = sequences.age_rank[windows.end - 1] >= n_old
    mixed = np.random.default_rng(settings.seed).permutation(len(windows))
    passes.learn(windows.take(mixed), "training, older clicks and new ones")
    passes.learn(windows.take(np.flatnonzero(is_new)), "training, new clicks")
    return 2
