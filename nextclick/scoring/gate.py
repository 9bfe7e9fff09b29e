"""How much each term of the mixture counts; see `nextclick.mixture.Mixture.log_weights`.

The arithmetic of torch, number by number, in compiled code; logarithms, powers and their sums are numpy's.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit
from nextclick.scoring.histories import Histories
from nextclick.scoring.packed_items import Doubles, Floats


class GateWeights(NamedTuple):
    """Float32 (terms,) each."""

    of_term: Floats
    of_length: Floats
    of_support: Floats
    of_newest_support: Floats
    of_age: Floats


class Gate:
    """The gate of a bundle's mixture.

    Attributes:
        support: float32 (n_items,), how well each item's neighbours are known.
    """

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        self._weights = GateWeights(*(weights[f"mixture.{name}"] for name in GateWeights._fields))
        self.support: Floats = weights["mixture.support"]

    def weights(self, histories: Histories, supports: Floats | None = None) -> Doubles:
        """Give the terms' weights of each user, float64 (users, terms); they sum to 1.

        Args:
            histories: of the users.
            supports: float32 (users, ages), of the clicked items, where it is not that of the bundle.
        """
        if supports is None:
            supports = self.support.take(np.maximum(histories.item_index, 0))
        log_ages = np.log2(histories.age_s + np.float32(1.0))
        weights = np.empty((len(log_ages), len(self._weights.of_term)))
        _weigh(self._weights, histories.item_index, supports, histories.n_session, log_ages, weights)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=1, keepdims=True)
        return weights


@jit
def _weigh(gate: Any, item_index: Any, supports: Any, n_session: Any, log_ages: Any, logits: Any) -> None:
    """Write the logarithm of each weight, less the largest one of the user."""
    of_term, of_length, of_support, of_newest_support, of_age = gate
    n_ages, ten, nothing = item_index.shape[1], np.float32(10.0), np.float32(0.0)
    for user in range(len(logits)):
        items, log_age, of_user = item_index[user], log_ages[user], logits[user]
        length = n_session[user] / ten
        newest = supports[user, 0] if items[0] >= 0 else nothing
        largest = -np.inf
        for term in range(len(of_user)):
            place = (term - 1) % n_ages  # of the click; the first term, the network, has none
            is_there = items[place] >= 0
            support = newest if term == 0 else supports[user, place] if is_there else nothing
            age = log_age[place] / ten if term > 0 else nothing
            is_usable = term == 0 or (is_there and (support > nothing or term > n_ages))
            logit = of_term[term] + of_length[term] * length
            logit = logit + of_support[term] * support
            logit = logit + of_newest_support[term] * newest
            logit = logit + of_age[term] * age
            of_user[term] = logit if is_usable else -np.inf
            largest = max(largest, of_user[term])
        for term in range(len(of_user)):
            of_user[term] -= largest
