"""The lists that serving would make for a sample of predictions: from states and recent clicks, by the served engine.

A network can rank well and still make bad lists: the same few items for everyone, scores that promise too much, or
steps that take too long. Nothing here looks at gradients or at torch.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.hashing import item_hash
from nextclick.model import NetworkClick, ServedModel
from nextclick.network import Network
from nextclick.scoring.terms import Best
from nextclick.user_state import MAX_GAP_S, RECENT_BYTES
from nextclick.vocabulary import Vocabulary
from training.learning.cancellation import Cancellation
from training.learning.judgement import Lists
from training.learning.sequences import Ints, Sequences, flat_ranges
from training.learning.validation import K, Predictions

_BATCH_USERS = 50
_TIMED_BATCHES, _REPEATS = 4, 3  # of a step
_NO_BUNDLE = "0" * 15 + "1"  # a name: nothing is published
_RECENT = np.dtype([("item_hash", "<u8"), ("gap_s", "<u4"), ("event_type", "u1")])  # see `nextclick.user_state`
assert _RECENT.itemsize == RECENT_BYTES


class Users(NamedTuple):
    """Users before the clicks that are predicted.

    Attributes:
        clicks: of each, rows of the clicks of which the hidden state is made.
        recent: of each, packed, what its state remembers.
        target: int64 (n,), the item that each clicks next, as an index into the clicks' items.
    """

    clicks: list[Ints]
    recent: list[bytes]
    target: Ints


def users_before(sequences: Sequences, predictions: Predictions, item_ids: Sequence[str], recent_clicks: int) -> Users:
    """Give what serving would know of users before each of the predicted clicks.

    Args:
        sequences: the clicks, with the items that `item_ids` names.
        predictions: which are predicted.
        item_ids: the items.
        recent_clicks: that a state remembers.
    """
    target, user_first = predictions.target, sequences.first_row_of_user()[predictions.target]
    recent_first = np.maximum(user_first, target - recent_clicks)
    rows = flat_ranges(recent_first, target - recent_first)
    items, item_of_row = np.unique(sequences.item_index[rows], return_inverse=True)
    hashes = np.array([item_hash(item_ids[item]) for item in items.tolist()], dtype=np.uint64)
    packed = np.empty(len(rows), dtype=_RECENT)
    packed["item_hash"] = hashes[item_of_row]
    packed["gap_s"] = np.minimum(sequences.gap_s[rows], MAX_GAP_S)
    packed["event_type"] = sequences.event_type[rows]
    ends = np.cumsum(target - recent_first)
    recent = [part.tobytes() for part in np.split(packed, ends[:-1])]
    clicks = [np.arange(first, end) for first, end in zip(predictions.context_first, target, strict=True)]
    return Users(clicks, recent, sequences.item_index[target])


def lists_as_served(
    network: Network,
    vocabulary: Vocabulary,
    sequences: Sequences,
    users: Users,
    popular: Sequence[str],
    cancellation: Cancellation,
) -> Lists:
    """Make lists, and judge what they hold. Users of whom the network knows nothing get none: they see popular items.

    Args:
        network: every weight a finite number.
        vocabulary: its items.
        sequences: the clicks, with the network's items; -1 where it does not know them.
        users: before the predictions.
        popular: ids of the most popular items.
        cancellation: asked between batches.
    """
    model = ServedModel(_NO_BUNDLE, network.config, network.arrays(), vocabulary)
    is_popular = np.zeros(len(vocabulary), dtype=bool)
    is_popular[[vocabulary.index_of[item_id] for item_id in popular if item_id in vocabulary.index_of]] = True
    known = [_network_clicks(sequences, rows) for rows in users.clicks]
    served = [number for number, clicks in enumerate(known) if clicks]
    lists_with = np.zeros(len(vocabulary), dtype=np.int64)
    expected_hits, hits, step_s = 0.0, 0, np.inf
    for begin in range(0, len(served), _BATCH_USERS):
        cancellation.check()
        chosen = served[begin : begin + _BATCH_USERS]
        of_chosen = [known[user] for user in chosen], [users.recent[user] for user in chosen]
        best, took_s = _timed_step(model, *of_chosen)
        if begin < _TIMED_BATCHES * _BATCH_USERS:  # the first time compiles, and with few users there is no other batch
            took_s = min(_timed_step(model, *of_chosen)[1] for _ in range(_REPEATS))
        lists_with += np.bincount(best.items.ravel(), minlength=len(vocabulary))
        target = users.target[chosen]
        is_known = target >= 0
        expected_hits += float(best.probabilities[is_known].sum())
        hits += int((best.items[is_known] == target[is_known, None]).sum())
        step_s = min(step_s, took_s / len(chosen))
    return Lists(
        len(served),
        int((lists_with > 0).sum()),
        len(vocabulary),
        float(lists_with[is_popular].sum() / max(lists_with.sum(), 1)),
        expected_hits,
        hits,
        step_s * 1000.0 if served else 0.0,
    )


def _network_clicks(sequences: Sequences, rows: Ints) -> list[NetworkClick]:
    rows = rows[sequences.item_index[rows] >= 0]
    columns = (sequences.item_index[rows], sequences.gap_s[rows], sequences.event_type[rows])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _timed_step(
    model: ServedModel, clicks: Sequence[Sequence[NetworkClick]], recent: Sequence[bytes]
) -> tuple[Best, float]:
    """Let states follow all clicks, and rank; gives CPU seconds of the step of the last clicks alone, too."""
    before = [b""] * len(clicks)
    longer = [user for user, of_user in enumerate(clicks) if len(of_user) > 1]
    if longer:
        states = model.run([b""] * len(longer), [clicks[user][:-1] for user in longer])
        for user, state in zip(longer, states, strict=True):
            before[user] = state
    began_s = time.thread_time()
    best = model.best(model.run(before, [of_user[-1:] for of_user in clicks]), recent, K)
    return best, time.thread_time() - began_s


def most_popular(weights: npt.NDArray[np.float64], item_ids: Sequence[str]) -> list[str]:
    """Give the ids of the 20 most popular items.

    Args:
        weights: float64 (n_items,).
        item_ids: their ids.
    """
    order = np.argsort(-weights, kind="stable")[:K]
    return [item_ids[item] for item in order.tolist() if weights[item] > 0.0]
