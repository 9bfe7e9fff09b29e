"""A bundle's network as the stream and the offline path use it: numpy in, numpy out, no gradient, no torch.

What is computed here is what `nextclick.network` and `nextclick.mixture` say, which training uses; tests hold both to
each other. The way of a batch: `run` lets hidden states follow the clicks, `rank` makes queries of hidden states, lets
the gate weigh the terms, and asks `nextclick.scoring` for the best items.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from nextclick.clicks import OTHER_EVENT
from nextclick.errors import CorruptStateError
from nextclick.network_config import (
    INPUT_SCALE,
    MAX_SESSION_CLICKS,
    N_AGES,
    N_EVENT_ROWS,
    N_GAP_BINS,
    SESSION_GAP_S,
    NetworkConfig,
)
from nextclick.recurrence import Recurrence
from nextclick.scoring.histories import Histories, Lookback, read_histories, row_finder
from nextclick.scoring.inputs import InputVectors
from nextclick.scoring.item_lists import write_lists
from nextclick.scoring.mixing import Best, Terms, best_items
from nextclick.served_form import INPUTS, ItemIds, ServedForm, arrays_of, served_form
from nextclick.updates import RNN, RankedList
from nextclick.user_state import DAMAGE_REMEDY, RecentClick
from nextclick.vocabulary import Vocabulary

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
NetworkClick = tuple[int, int, int]  # item_index, gap_s, event_type

_CELL = ("cell.weight_ih_l0", "cell.weight_hh_l0", "cell.bias_ih_l0", "cell.bias_hh_l0")
_LOOKBACK = Lookback(N_AGES, SESSION_GAP_S, MAX_SESSION_CLICKS)
_SHORTEST = 1e-12  # a vector that is brought to length 1 is divided by this at least, as torch does


class ServedModel:
    """A bundle at work: its network, the items that it knows, and how popular they were.

    Attributes:
        bundle_id: 16 hexadecimal digits.
        bundle: the same as a number, as states name it.
        item_ids: the items, in the order of their rows.
        popularity: float64 (n_items,), recency-weighted clicks per item when the bundle was made.
    """

    def __init__(
        self, bundle_id: str, config: NetworkConfig, weights: Mapping[str, npt.NDArray[Any]], vocabulary: Vocabulary
    ) -> None:
        """Make a model of a network that is in memory.

        Args:
            bundle_id: names the bundle.
            config: of the network.
            weights: by name, with the shapes of `NetworkConfig.weights`.
            vocabulary: of the same bundle.
        """
        self._serve(bundle_id, config, served_form(config, weights, vocabulary))

    @classmethod
    def of_form(cls, bundle_id: str, config: NetworkConfig, form: ServedForm) -> "ServedModel":
        """Make a model of what is packed already."""
        model = cls.__new__(cls)
        model._serve(bundle_id, config, form)
        return model

    def _serve(self, bundle_id: str, config: NetworkConfig, form: ServedForm) -> None:
        self.bundle_id = bundle_id
        self.bundle = int(bundle_id, 16)
        self.item_ids = ItemIds(form.texts)
        self.popularity = form.popularity
        self._config, self._form, weights = config, form, form.weights
        self._inputs = Inputs(config, form.items.exact if config.tied else weights[INPUTS], weights)
        inputs = InputVectors(
            form.items.exact if config.tied else weights[INPUTS],
            weights["event_embedding.weight"],
            weights["gap_embedding.weight"],
            np.array([INPUT_SCALE if config.normalised else 1.0], np.float32),
        )
        cell = [weights[name] for name in _CELL]
        self._recurrence = Recurrence(config.cell, config.hidden_size, cell, inputs)
        self._skip: Floats | None = weights["skip"] if config.skip else None
        self._scale = np.float32(weights["scale"]) if config.normalised else None
        self._gate = Gate(weights) if config.n_neighbours else None
        self._find_row = row_finder(form.rows)

    def index_of(self, item_hash: int) -> int | None:
        """Give the item_index of an item, or None if this bundle does not know it."""
        return self._find_row(item_hash)

    def run(self, hidden: Sequence[bytes], clicks: Sequence[Sequence[NetworkClick]]) -> list[bytes]:
        """Advance each user's hidden state by a sequence of clicks.

        Args:
            hidden: float16 state per user, packed; empty for the zero state.
            clicks: (item_index, gap_s, event_type) of each click of each user, at least one in all.

        Returns:
            The states after the clicks, packed float16.

        Raises:
            CorruptStateError: a state is not one of this network's.
        """
        n_users, lengths = len(clicks), [len(user_clicks) for user_clicks in clicks]
        order = sorted(range(n_users), key=lambda row: -lengths[row])  # those with as many clicks are taken together
        flat = np.array([click for row in order for click in clicks[row]], dtype=np.int64)
        states = self._states([hidden[row] for row in order])
        after = self._recurrence.run(states, flat, np.array([lengths[row] for row in order], dtype=np.int64))
        if after is None:
            raise self._no_number()
        packed, joined, width = [b""] * n_users, after.tobytes(), 2 * self._config.state_size
        for place, row in enumerate(order):
            packed[row] = joined[place * width : (place + 1) * width]
        return packed

    def rebuild(self, recent_clicks: Sequence[Sequence[RecentClick]]) -> list[bytes]:
        """Compute hidden states anew from recent clicks, from the zero state; unknown items are passed over.

        Returns:
            Packed float16 per user; empty when this bundle knows none of the user's recent items.
        """
        known = [
            [
                (index, click.gap_s, click.event_type)
                for click in user_clicks
                if (index := self.index_of(click.item_hash)) is not None
            ]
            for user_clicks in recent_clicks
        ]
        states = [b""] * len(known)
        rows = [row for row, clicks in enumerate(known) if clicks]
        if rows:
            rebuilt = self.run([b""] * len(rows), [known[row] for row in rows])
            for row, state in zip(rows, rebuilt, strict=True):
                states[row] = state
        return states

    def rank(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int) -> list[RankedList]:
        """Give each user's k best items with their probabilities; exact.

        Args:
            hidden: float16 state per user, packed; empty for the zero state.
            recent: the clicks that the user's state remembers, packed, the newest one included.
            k: how many items; there may be fewer.

        Raises:
            CorruptStateError: a state is not one of this network's.
        """
        best = self.best(hidden, recent, k)
        shown = self._form.low_hashes[best.items].astype("<u4")
        lists = zip(write_lists(self._form.texts, best), shown, strict=True)
        return [RankedList(RNN, msgspec.Raw(items_json), low_hashes.tobytes()) for items_json, low_hashes in lists]

    def warm_up(self) -> None:
        """Take a step for nobody: what is compiled at first use is compiled, and nobody has to wait for it later."""
        self.rank(self.run([b""], [[(0, 0, 0)]]), [b""], 1)

    def best(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int) -> Best:
        """Give each user's k best items as rows of the vocabulary; for the arguments see `rank`."""
        states, histories = self._unpack(hidden), self.histories(recent)
        queries, form = self._queries(states, histories), self._form
        return best_items(form.items, queries, form.counts, self._terms(histories), min(k, self._config.n_items))

    @property
    def n_bytes(self) -> int:
        """Bytes of what serving can read: item vectors, neighbours, texts, the table of hashes, all weights."""
        return sum(array.nbytes for array in arrays_of(self._form).values())

    def histories(self, recent: Sequence[bytes]) -> Histories:
        """Read what users' states remember of clicks on items that this bundle knows."""
        return read_histories(recent, self._form.rows, _LOOKBACK)

    def _queries(self, states: Floats, histories: Histories) -> Floats:
        """Give what item vectors are multiplied with, float32 (users, hidden_size)."""
        features = states[:, : self._config.hidden_size]
        if self._skip is not None:
            is_there = histories.newest[:, :1] >= 0
            features = features + self._inputs.of(np.maximum(histories.newest, 0)) * is_there * self._skip
        if self._scale is None:
            return np.ascontiguousarray(features)
        lengths = np.sqrt(np.einsum("ij,ij->i", features, features))
        scaled: Floats = features * (self._scale / np.maximum(lengths, np.float32(_SHORTEST)))[:, None]
        return scaled

    def _terms(self, histories: Histories) -> Terms:
        if self._gate is None:
            n_users = len(histories.item_index)
            return Terms(np.zeros((n_users, 0), np.int64), np.ones((n_users, 1)))
        return Terms(histories.item_index, self._gate.weights(histories))

    def _states(self, hidden: Sequence[bytes]) -> npt.NDArray[np.uint16]:
        """Give the bits of the users' states, float16 (users, state_size)."""
        width = 2 * self._config.state_size
        lengths = {len(packed) for packed in hidden}
        if not lengths <= {0, width}:
            raise self._corrupt(f"{width} bytes", str(min(lengths - {0, width})))
        joined = b"".join(hidden if 0 not in lengths else [packed or bytes(width) for packed in hidden])
        return np.frombuffer(joined, dtype="<u2").reshape(len(hidden), -1)

    def _unpack(self, hidden: Sequence[bytes]) -> Floats:
        states = self._states(hidden).view(np.float16).astype(np.float32)
        if not np.isfinite(states).all():
            raise self._no_number()
        return states

    def _no_number(
        self,
    ) -> CorruptStateError:  # no network that is served makes one (see `nextclick.bundle.MAX_WEIGHT`)
        return self._corrupt("numbers", "NaN or infinity")

    def _corrupt(self, expected: str, found: str) -> CorruptStateError:
        return CorruptStateError(
            f"a user's hidden state under bundle {self.bundle_id} expected {expected}, found {found}; {DAMAGE_REMEDY}"
        )


class Inputs:
    """The input vectors of clicks; see `nextclick.network.Network.inputs`."""

    def __init__(self, config: NetworkConfig, items: Floats, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        self._items = items
        self._events: Floats = weights["event_embedding.weight"]
        self._gaps: Floats = weights["gap_embedding.weight"]
        self._item_scale = np.float32(INPUT_SCALE if config.normalised else 1.0)

    def of(self, clicks: Longs) -> Floats:
        """Give the vectors, float32 (clicks, hidden_size), of `NetworkClick`s, int64 (clicks, 3)."""
        item_index, gap_s, event_type = clicks.T
        event_row = np.where(event_type == OTHER_EVENT, N_EVENT_ROWS - 1, np.minimum(event_type, N_EVENT_ROWS - 1))
        gap_bin = np.minimum(np.log2(gap_s + 1.0).astype(np.int64), N_GAP_BINS - 1)
        vectors: Floats = self._items[item_index]
        vectors *= self._item_scale
        vectors += self._events[event_row]
        vectors += self._gaps[gap_bin]
        return vectors


class Gate:
    """How much each term of the mixture counts; see `nextclick.mixture.Mixture.log_weights`."""

    def __init__(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        names = ("of_term", "of_length", "of_support", "of_newest_support", "of_age")
        of_terms: list[Floats] = [weights[f"mixture.{name}"] for name in names]
        self._of_term, self._of_length, self._of_support, self._of_newest_support, self._of_age = of_terms
        self._support: Floats = weights["mixture.support"]

    def weights(self, histories: Histories) -> Doubles:
        """Give the terms' weights of each user, float64 (users, N_TERMS); they sum to 1."""
        there = histories.item_index >= 0
        support = np.where(there, self._support[histories.item_index], np.float32(0.0))
        newest = support[:, :1]
        log_age = np.log2(histories.age_s + np.float32(1.0)) / np.float32(10.0)
        logits = self._of_term + self._of_length * (histories.n_session[:, None] / np.float32(10.0))
        logits = logits + self._of_support * np.concatenate([newest, support, support], axis=1)
        logits = logits + self._of_newest_support * newest
        logits = logits + self._of_age * np.concatenate([np.zeros_like(newest), log_age, log_age], axis=1)
        usable = np.concatenate([np.ones_like(there[:, :1]), there & (support > 0), there], axis=1)
        wide = np.where(usable, logits.astype(np.float64), -np.inf)
        exps = np.exp(wide - wide.max(axis=1, keepdims=True))
        weights: Doubles = exps / exps.sum(axis=1, keepdims=True)
        return weights
