"""A bundle's network as the stream and the offline path use it: numpy in, numpy out, no gradient, no torch.

What is computed here is what `nextclick.network` and `nextclick.mixture` say, which training uses; tests hold both to
each other. The way of a batch: `run` lets hidden states follow the clicks, `rank` makes queries of hidden states, lets
the gate weigh the terms, and asks `nextclick.scoring` for the best items.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextclick.errors import CorruptStateError
from nextclick.network_config import (
    INPUT_SCALE,
    MAX_SESSION_CLICKS,
    N_AGES,
    SESSION_GAP_S,
    NetworkConfig,
)
from nextclick.quick_tuples import quick
from nextclick.recurrence import Recurrence
from nextclick.scoring.binary_lists import write_avro_lists, write_protobuf_lists
from nextclick.scoring.binary_reasons import avro_of_explained, protobuf_of_explained
from nextclick.scoring.gate import Gate
from nextclick.scoring.histories import Histories, Lookback, read_histories, row_finder
from nextclick.scoring.inputs import InputVectors
from nextclick.scoring.item_lists import ItemTexts, write_lists
from nextclick.scoring.mixing import Best, Terms, best_items
from nextclick.scoring.queries import QueryWeights, make_queries
from nextclick.scoring.reasons import write_explained_lists
from nextclick.served_form import INPUTS, ItemIds, ServedForm, arrays_of, served_form
from nextclick.updates import JSON_FORMAT, RNN, ListFormat, RankedList, UpdateFormat
from nextclick.user_state import DAMAGE_REMEDY, SHOWN_BYTES, RecentClick
from nextclick.vocabulary import Vocabulary

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
NetworkClick = tuple[int, int, int]  # item_index, gap_s, event_type

_CELL = ("cell.weight_ih_l0", "cell.weight_hh_l0", "cell.bias_ih_l0", "cell.bias_hh_l0")
_LOOKBACK = Lookback(N_AGES, SESSION_GAP_S, MAX_SESSION_CLICKS)
_WRITERS: Mapping[ListFormat, Callable[[ItemTexts, Best], list[bytes]]] = {
    "json": write_lists,
    "avro": write_avro_lists,
    "protobuf": write_protobuf_lists,
}
_OF_EXPLAINED: Mapping[ListFormat, Callable[[Sequence[bytes]], list[bytes]]] = {
    "avro": avro_of_explained,
    "protobuf": protobuf_of_explained,
}
_ranked = quick(RankedList)


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
    def of_form(
        cls, bundle_id: str, config: NetworkConfig, form: ServedForm, output: UpdateFormat = JSON_FORMAT
    ) -> "ServedModel":
        """Make a model of what is packed already.

        Args:
            bundle_id: names the bundle.
            config: of the network.
            form: of the bundle.
            output: how `rank` writes lists.
        """
        model = cls.__new__(cls)
        model._serve(bundle_id, config, form, output)
        return model

    def _serve(
        self, bundle_id: str, config: NetworkConfig, form: ServedForm, output: UpdateFormat = JSON_FORMAT
    ) -> None:
        self.bundle_id = bundle_id
        self.bundle = int(bundle_id, 16)
        self.item_ids = ItemIds(form.texts)
        self.popularity = form.popularity
        self._config, self._form, weights = config, form, form.weights
        self._output, self._write_lists = output, _WRITERS[output.list_format]
        inputs = InputVectors(
            form.items.exact if config.tied else weights[INPUTS],
            weights["event_embedding.weight"],
            weights["gap_embedding.weight"],
            np.array([INPUT_SCALE if config.normalised else 1.0], np.float32),
        )
        nothing = np.zeros(0, np.float32)
        scale = np.array([weights["scale"]], np.float32) if config.normalised else nothing
        self._query_weights = QueryWeights(inputs, weights["skip"] if config.skip else nothing, scale)
        cell = [weights[name] for name in _CELL]
        self._recurrence = Recurrence(config.cell, config.hidden_size, cell, inputs)
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

    def rank(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int, explain: bool = False) -> list[RankedList]:
        """Give each user's k best items with their probabilities; exact.

        Args:
            hidden: float16 state per user, packed; empty for the zero state.
            recent: the clicks that the user's state remembers, packed, the newest one included.
            k: how many items; there may be fewer.
            explain: write the parts of each item's probability, too (see `nextclick.updates.Part`).

        Raises:
            CorruptStateError: a state is not one of this network's.
        """
        best, terms = self._best(hidden, recent, k)
        lists = self._explained_lists(best, terms) if explain else self._write_lists(self._form.texts, best)
        n_bytes = SHOWN_BYTES * best.items.shape[1]
        shown = self._form.low_hashes.take(best.items).astype("<u4", copy=False).tobytes()
        return [_ranked((RNN, items, shown[user * n_bytes : (user + 1) * n_bytes])) for user, items in enumerate(lists)]

    def warm_up(self, explain: bool = False) -> None:
        """Take a step for nobody: what is compiled at first use is compiled, and nobody has to wait for it later.

        Args:
            explain: lists will be explained, too.
        """
        hidden = self.run([b""], [[(0, 0, 0)]])
        self.rank(hidden, [b""], 1)
        if explain:
            self.rank(hidden, [b""], 1, explain)

    def best(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int) -> Best:
        """Give each user's k best items as rows of the vocabulary; for the arguments see `rank`."""
        return self._best(hidden, recent, k)[0]

    def neighbours_of(self, item_index: int, limit: int) -> list[tuple[int, float]]:
        """Give what is clicked near an item: item_index and share of each, the largest share first.

        Args:
            item_index: of the item.
            limit: how many at most; there are fewer where the bundle counted fewer, and none if it has no counts.
        """
        starts, neighbours, shares, _ = self._form.counts
        if len(starts) == 1:
            return []
        begin, end = int(starts[item_index]), int(starts[item_index + 1])
        largest_first = (-shares[begin:end]).argsort(kind="stable")[:limit]
        return [(int(neighbours[begin + place]), float(shares[begin + place])) for place in largest_first]

    @property
    def n_bytes(self) -> int:
        """Bytes of what serving can read: item vectors, neighbours, texts, the table of hashes, all weights."""
        return sum(array.nbytes for array in arrays_of(self._form).values())

    def histories(self, recent: Sequence[bytes]) -> Histories:
        """Read what users' states remember of clicks on items that this bundle knows."""
        return read_histories(recent, self._form.rows, _LOOKBACK)

    def _best(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int) -> tuple[Best, Terms]:
        """Give each user's k best items, and the terms that they were found with."""
        states, histories, form = self._states(hidden), self.histories(recent), self._form
        queries = np.empty((len(states), self._config.hidden_size), np.float32)
        if not make_queries(self._query_weights, states, histories.newest, queries):
            raise self._no_number()
        terms = self._terms(histories)
        return best_items(form.items, queries, form.counts, terms, min(k, self._config.n_items)), terms

    def _explained_lists(self, best: Best, terms: Terms) -> list[bytes]:
        """Write lists with the parts of each probability: as JSON, and from that in another format."""
        lists = write_explained_lists(self._form.texts, best, terms, self._form.counts)
        translate = _OF_EXPLAINED.get(self._output.list_format)
        return translate(lists) if translate is not None else lists

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

    def _no_number(
        self,
    ) -> CorruptStateError:  # no network that is served makes one (see `nextclick.bundle.MAX_WEIGHT`)
        return self._corrupt("numbers", "NaN or infinity")

    def _corrupt(self, expected: str, found: str) -> CorruptStateError:
        return CorruptStateError(
            f"a user's hidden state under bundle {self.bundle_id} expected {expected}, found {found}; {DAMAGE_REMEDY}"
        )
