"""Compares the lists of a trained model with those of a full sort of all probabilities, in float64."""

from threading import Event
from typing import NamedTuple

import numpy as np
import torch

from demo.simulator import Law, Simulator
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.settings import Settings
from nextclick.user_state import with_recent
from tests.networks import probabilities
from training.learning.cancellation import Cancellation
from training.learning.sequences import ClickColumns
from training.learning.training_data import TrainingData
from training.learning.training_round import train_round

_LIST_LENGTH = 20
_BATCH = 250
_RESOLUTION = 2.0**-24  # of float32, in which hidden states and vectors are


class Compared(NamedTuple):
    """How lists compare.

    Attributes:
        n_lists: how many were compared.
        n_same: how many have the same items in the same order.
        n_ties: how many others differ only where probabilities are equal to float32's resolution.
        sum_error: by how much probabilities differ at most, relative.
    """

    n_lists: int
    n_same: int
    n_ties: int
    sum_error: float


def compare(n_clicks: int, n_lists: int) -> Compared:
    """Train on simulated clicks, and compare the lists after some of them."""
    torch.set_num_threads(1)
    clicks = Simulator(Law(), 0).next_clicks(1_700_000_000_000, n_clicks)
    data = _training_data([(click.user_id, click.item_id, click.timestamp_ms) for click in clicks])
    outcome = train_round(data, None, Settings(epochs=1, min_clicks=100), Cancellation(Event()))
    network = outcome.made.network.eval()
    model = ServedModel("1".zfill(16), network.config, network.arrays(), outcome.made.vocabulary)
    network.double()
    hidden: dict[str, bytes] = {}
    recent: dict[str, bytes] = {}
    found = Compared(0, 0, 0, 0.0)
    for first in range(0, n_clicks, _BATCH):
        users = []
        for click in clicks[first : first + _BATCH]:
            index = model.index_of(item_hash(click.item_id))
            if index is not None and click.user_id not in users:
                users.append(click.user_id)
                hidden[click.user_id] = model.run([hidden.get(click.user_id, b"")], [[(index, 30, 0)]])[0]
                before = recent.get(click.user_id, b"")
                recent[click.user_id] = with_recent(before, item_hash(click.item_id), 30, 0, 30)
        if first >= n_clicks - n_lists * 2 and found.n_lists < n_lists and users:
            batch = _compare(model, network, [hidden[user] for user in users], [recent[user] for user in users])
            found = Compared(
                found.n_lists + batch.n_lists,
                found.n_same + batch.n_same,
                found.n_ties + batch.n_ties,
                max(found.sum_error, batch.sum_error),
            )
    return found


def _training_data(clicks: list[tuple[str, str, int]]) -> TrainingData:
    users = {user: number for number, user in enumerate(dict.fromkeys(user for user, _, _ in clicks))}
    items = {item: number for number, item in enumerate(dict.fromkeys(item for _, item, _ in clicks))}
    user = np.array([users[user] for user, _, _ in clicks])
    item = np.array([items[item] for _, item, _ in clicks])
    time_ms = np.array([time_ms for _, _, time_ms in clicks])
    return TrainingData(
        ClickColumns(user, item, time_ms, item * 0, list(items)), len(clicks), item * 0, np.arange(len(clicks))
    )


def _compare(model: ServedModel, network: Network, hidden: list[bytes], recent: list[bytes]) -> Compared:
    best = model.best(hidden, recent, _LIST_LENGTH)
    everything = probabilities(model, network, hidden, recent)
    top = torch.topk(torch.from_numpy(everything), _LIST_LENGTH, dim=1)
    of_found = np.take_along_axis(everything, best.items.astype(np.int64), axis=1)
    is_same = (top.indices.numpy() == best.items).all(axis=1)
    is_tie = (np.abs(of_found / top.values.numpy() - 1.0) <= _RESOLUTION).all(axis=1) & ~is_same
    error = float(np.abs(best.probabilities / of_found - 1.0).max())
    return Compared(len(hidden), int(is_same.sum()), int(is_tie.sum()), error)
