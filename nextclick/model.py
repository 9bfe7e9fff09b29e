"""A bundle's network as the stream and the offline path use it: numpy in, numpy out, no gradient, no torch.

What is computed here is what `nextclick.network` and `nextclick.mixture` say, which training uses; tests hold both to
each other. The way of a batch: `run` lets hidden states follow the clicks, `rank` makes queries of hidden states, lets
the gate weigh the terms, and asks `nextclick.scoring` for the best items.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextclick.errors import CorruptStateError
from nextclick.item_table import ItemTable
from nextclick.item_traits import ItemTraits
from nextclick.live_items import LiveItems
from nextclick.network_config import (
    INPUT_SCALE,
    MAX_SESSION_CLICKS,
    N_AGES,
    SESSION_GAP_S,
    NetworkConfig,
)
from nextclick.quick_tuples import quick
from nextclick.recurrence import Recurrence
from nextclick.rules import NO_RULES, Rules
from nextclick.scoring.binary_lists import write_avro_lists, write_protobuf_lists
from nextclick.scoring.binary_reasons import avro_of_explained, protobuf_of_explained
from nextclick.scoring.gate import Gate
from nextclick.scoring.histories import NOTHING_BEHIND, Behind, Histories, Lookback, read_histories, row_finder
from nextclick.scoring.inputs import InputVectors
from nextclick.scoring.item_lists import NO_LIVE_TEXTS, ItemTexts, LiveTexts, write_lists
from nextclick.scoring.neighbour_places import neighbour_places
from nextclick.scoring.queries import QueryWeights, make_queries
from nextclick.scoring.reasons import write_explained_lists
from nextclick.scoring.terms import Best, Terms
from nextclick.served_form import INPUTS, ItemIds, ServedForm, arrays_of, served_form
from nextclick.shop import Lists, Shop
from nextclick.updates import JSON_FORMAT, RNN, ListFormat, RankedList, Recommendation, UpdateFormat
from nextclick.user_state import DAMAGE_REMEDY, SHOWN_BYTES, RecentClick
from nextclick.vocabulary import Vocabulary

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
NetworkClick = tuple[int, int, int]  # item_index, gap_s, event_type

_CELL = ("cell.weight_ih_l0", "cell.weight_hh_l0", "cell.bias_ih_l0", "cell.bias_hh_l0")
_LOOKBACK = Lookback(N_AGES, SESSION_GAP_S, MAX_SESSION_CLICKS)
_WRITERS: Mapping[ListFormat, Callable[[ItemTexts, Best, LiveTexts], list[bytes]]] = {
    "json": write_lists,
    "avro": write_avro_lists,
    "protobuf": write_protobuf_lists,
}
_OF_EXPLAINED: Mapping[ListFormat, Callable[[Sequence[bytes]], list[bytes]]] = {
    "avro": avro_of_explained,
    "protobuf": protobuf_of_explained,
}
_EVERY_RULE = Rules("recent", 1, (), 1.0)
_ranked = quick(RankedList)


class ServedModel:
    """A bundle at work: its network, the items that it knows, and how popular they were.

    Attributes:
        bundle_id: 16 hexadecimal digits.
        bundle: the same as a number, as states name it.
        item_ids: the items, in the order of their rows.
        popularity: float64 (n_items,), recency-weighted clicks per item when the bundle was made.
        live: items that the bundle does not know; None: they are in no list.
    """

    live: LiveItems | None = None

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
        self._shop = Shop(form, self.index_of)

    def set_traits(self, traits: ItemTraits | None) -> None:
        """Let the next lists follow what a shop says of items. Takes 20 ms for a million items.

        Args:
            traits: of all items of this bundle; None: nothing is said.
        """
        self._shop.set_traits(traits)

    def with_traits(self, traits: ItemTraits) -> "ServedModel":
        """Give another model of the same bundle, for lists under other traits; what was packed is shared."""
        other = copy.copy(self)
        other._shop, other.live = Shop(self._form, self.index_of), None
        other.set_traits(traits)
        return other

    def without_live(self) -> "ServedModel":
        """Give another model of the same bundle and traits that lists no item which the bundle does not know."""
        other = copy.copy(self)
        other.live = None
        return other

    def begin_live(self, n_live: int, before: LiveItems | None = None) -> None:
        """List items that the bundle does not know, too, if it has counts to list them among.

        Args:
            n_live: how many at most; 0: none.
            before: those of the model that was served before: they go on, but for what this bundle knows.
        """
        if self._gate is not None and n_live:
            rows, support = self._form.rows, self._gate.support
            self._shop.begin_live(n_live)
            self.live = before.carried_to(rows, support) if before is not None else LiveItems(rows, support, n_live)

    def set_live_traits(self, table: ItemTable) -> None:
        """Let the next lists follow what a shop says of live items; whoever makes lists calls it."""
        if self.live is None:
            return
        starts, numbers = table.categories_of(self.live.hashes)
        self._shop.set_live_traits(ItemTraits(table.factors_of(self.live.hashes), starts, numbers))

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

    def rank(
        self,
        hidden: Sequence[bytes],
        recent: Sequence[bytes],
        k: int,
        explain: bool = False,
        rules: Rules = NO_RULES,
        offsets: Sequence[float] = (),
    ) -> list[RankedList]:
        """Give each user's k best items with their probabilities; exact, under the rules and the traits of items.

        Args:
            hidden: float16 state per user, packed; empty for the zero state.
            recent: the clicks that the user's state remembers, packed, the newest one included.
            k: how many items; there may be fewer.
            explain: write the parts of each item's probability, too (see `nextclick.updates.Part`).
            rules: of the lists.
            offsets: of each user, which places are explored (see `nextclick.rules.explored_from`); only under a rule
                that some are.

        Raises:
            CorruptStateError: a state is not one of this network's.
        """
        found, terms = self._best(hidden, recent, k, rules, offsets)
        best = found.best
        live = self.live.texts if self.live is not None else NO_LIVE_TEXTS
        lists = (
            self._explained_lists(found, terms, live) if explain else self._write_lists(self._form.texts, best, live)
        )
        n_bytes = SHOWN_BYTES * best.items.shape[1]
        shown = self._low_hashes(best.items).astype("<u4", copy=False).tobytes()
        is_nothing = best.items < 0
        ends = n_bytes * np.arange(1, len(lists) + 1) - SHOWN_BYTES * is_nothing.sum(axis=1)
        promised = np.where(is_nothing, 0.0, best.probabilities).sum(axis=1)
        return [
            _ranked((RNN, items, shown[user * n_bytes : end], sum_of_scores))
            for user, (items, end, sum_of_scores) in enumerate(
                zip(lists, ends.tolist(), promised.tolist(), strict=True)
            )
        ]

    def has_counted(self, recent: Sequence[bytes]) -> list[bool]:
        """Tell of each user whether something of the recent clicks can be ranked by, though the network knows none."""
        if not self.live:
            return [False] * len(recent)
        found: list[bool] = (self.histories(recent).item_index[:, 0] >= 0).tolist()
        return found

    def warm_up(self, explain: bool = False) -> None:
        """Take a step for nobody: what is compiled at first use is compiled, and nobody has to wait for it later.

        Args:
            explain: lists will be explained, too.
        """
        hidden = self.run([b""], [[(0, 0, 0)]])
        self.rank(hidden, [b""], 1, rules=_EVERY_RULE, offsets=[0.0])  # the traits of items need nothing of their own
        self._shop.warm_up()
        if explain:
            self.rank(hidden, [b""], 1, explain)
        self.neighbour_places(np.zeros(1, np.uint64), np.zeros(1, np.uint64))
        if self._gate is not None:
            live = LiveItems(self._form.rows, self._gate.support, 1)
            live.warm_up()
            live.near(np.zeros((1, N_AGES), np.int64))

    def best(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int, rules: Rules = NO_RULES) -> Best:
        """Give each user's k best items as rows of the vocabulary; for the arguments see `rank`."""
        return self._best(hidden, recent, k, rules, ())[0].best

    def most_popular(self, limit: int) -> list[Recommendation]:
        """Give the items that were clicked most when the bundle was made, of those that may be listed; scores are
        shares of all clicks. Takes 30 ms of a million items.
        """
        weights = self.popularity * self._shop.factors
        total = float(self.popularity.sum()) or 1.0
        limit = min(limit, len(weights))
        first = np.argpartition(-weights, limit - 1)[:limit] if limit else np.zeros(0, np.int64)
        first = first[weights[first] > 0.0]
        first = first[np.lexsort((first, -weights[first]))]
        return [Recommendation(self.item_ids[row], min(1.0, float(weights[row]) / total)) for row in first.tolist()]

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

    def neighbour_places(self, items: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Give where items, by hash, stand among the neighbours of others, from 0; -1 where they do not.

        Args:
            items: uint64 (n,).
            others: uint64 (n,).
        """
        return neighbour_places(self._form.counts, self._form.rows, items, others)

    @property
    def item_hashes(self) -> npt.NDArray[np.uint64]:
        """The items' hashes by row, uint64 (n_items,): made anew at each call."""
        rows, hashes = self._form.rows.rows, np.empty(len(self.item_ids), np.uint64)
        is_there = rows >= 0
        hashes[rows[is_there]] = self._form.rows.hashes[is_there]
        return hashes

    @property
    def n_bytes(self) -> int:
        """Bytes of what serving can read: item vectors, neighbours, texts, the table of hashes, all weights."""
        return sum(array.nbytes for array in arrays_of(self._form).values())

    def histories(self, recent: Sequence[bytes]) -> Histories:
        """Read what users' states remember of clicks on items that this bundle knows, or that are live."""
        return read_histories(recent, self._form.rows, _LOOKBACK, self._behind)

    @property
    def _behind(self) -> Behind:
        return self.live.behind if self.live else NOTHING_BEHIND

    def _best(
        self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int, rules: Rules, offsets: Sequence[float]
    ) -> tuple[Lists, Terms]:
        """Give each user's k best items, and the terms that they were found with."""
        states, histories = self._states(hidden), self.histories(recent)
        queries = np.empty((len(states), self._config.hidden_size), np.float32)
        if not make_queries(self._query_weights, states, histories.newest, queries):
            raise self._no_number()
        terms, k = self._terms(histories), min(k, self._config.n_items)
        return self._shop.lists(queries, terms, recent, k, rules, offsets, self._behind), terms

    def _low_hashes(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
        """Give the low bits of items' hashes."""
        n_items, hashes = self._config.n_items, self._form.low_hashes
        is_live = items >= n_items
        if self.live is None or not is_live.any():
            return hashes.take(items)
        found: npt.NDArray[np.uint32] = hashes.take(np.minimum(items, n_items - 1))
        found[is_live] = self.live.low_hashes(items[is_live] - n_items)
        return found

    def _explained_lists(self, found: Lists, terms: Terms, live: LiveTexts) -> list[bytes]:
        """Write lists with the parts of each probability: as JSON, and from that in another format."""
        terms = terms._replace(weights=terms.weights / found.norms[:, None])
        lists = write_explained_lists(self._form.texts, found.best, terms, self._form.counts, found.factors, live)
        translate = _OF_EXPLAINED.get(self._output.list_format)
        return translate(lists) if translate is not None else lists

    def _terms(self, histories: Histories) -> Terms:
        if self._gate is None:
            n_users = len(histories.item_index)
            return Terms(np.zeros((n_users, 0), np.int64), np.ones((n_users, 1)))
        if not self.live:
            return Terms(histories.item_index, self._gate.weights(histories))
        near, supports = self.live.near(histories.item_index)
        return Terms(histories.item_index, self._gate.weights(histories, supports), near)

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
