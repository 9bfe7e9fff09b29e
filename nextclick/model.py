"""A bundle's network as the stream and the offline path use it: numpy in, numpy out, no gradient."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from nextclick.errors import CorruptStateError
from nextclick.mixture import MAX_SESSION_CLICKS, N_AGES, SESSION_GAP_S, Context
from nextclick.network import Network
from nextclick.recurrence import Recurrence
from nextclick.updates import RNN, RankedList, Recommendation, ranked_list
from nextclick.user_state import DAMAGE_REMEDY, RecentClick, iter_recent
from nextclick.vocabulary import Vocabulary

Floats = npt.NDArray[np.float32]
NetworkClick = tuple[int, int, int]  # item_index, gap_s, event_type


class ServedModel:
    """A network with its vocabulary and the bundle that both came from.

    Attributes:
        bundle_id: 16 hexadecimal digits.
        bundle: the same as a number, as states name it.
        vocabulary: the items that it knows.
    """

    def __init__(self, bundle_id: str, network: Network, vocabulary: Vocabulary) -> None:
        self.bundle_id = bundle_id
        self.bundle = int(bundle_id, 16)
        self.vocabulary = vocabulary
        self._network = network.eval()
        self._state_size = network.config.state_size
        self._recurrence = Recurrence(network.config.cell, network.config.hidden_size, network.cell.all_weights[0])

    def index_of(self, item_hash: int) -> int | None:
        """Give the item_index of an item, or None if this bundle does not know it."""
        return self.vocabulary.index_of_hash.get(item_hash)

    @torch.inference_mode()
    def run(self, hidden: Sequence[bytes], clicks: Sequence[Sequence[NetworkClick]]) -> list[bytes]:
        """Advance each user's hidden state by a sequence of clicks, in waves: every user's first click, then the
        second, and so on.

        Args:
            hidden: float16 state per user, packed; empty for the zero state.
            clicks: (item_index, gap_s, event_type) of each click of each user, at least one in all.

        Returns:
            The states after the clicks, packed float16.

        Raises:
            CorruptStateError: a state is not one of this network's.
        """
        order = sorted(range(len(clicks)), key=lambda row: -len(clicks[row]))  # a wave is then the first few rows
        waves, n_active = _waves([clicks[row] for row in order])
        item_index, gap_s, event_type = torch.tensor(waves, dtype=torch.int64).T  # each (clicks,)
        inputs = self._network.inputs(item_index, event_type, gap_s).numpy()
        after = self._recurrence.run(self._unpack([hidden[row] for row in order]), inputs, n_active)
        packed = [b""] * len(order)
        for row, state in zip(order, after, strict=True):
            packed[row] = state.tobytes()
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

    @torch.inference_mode()
    def probabilities(self, hidden: Sequence[bytes], recent: Sequence[bytes]) -> Floats:
        """Give every item's probability to be each user's next click: float32 (batch, n_items).

        Args:
            hidden: float16 state per user, packed; empty for the zero state.
            recent: the clicks that the user's state remembers, packed, the newest one included.

        Raises:
            CorruptStateError: a state is not one of this network's.
        """
        state = torch.from_numpy(self._unpack(hidden))
        context, newest = self._context(recent)
        features = self._network.features(self._network.hidden(state), self._inputs_of(newest))
        return self._network.probabilities(features, context).numpy()

    def rank(self, hidden: Sequence[bytes], recent: Sequence[bytes], k: int) -> list[RankedList]:
        """Give each user's k best items with their probabilities; exact. For the arguments see `probabilities`."""
        probabilities = torch.from_numpy(self.probabilities(hidden, recent))
        top = torch.topk(probabilities, min(k, probabilities.shape[1]), dim=1)
        item_ids, low_hashes = self.vocabulary.item_ids, self.vocabulary.low_hashes
        lists = []
        for indices, row in zip(top.indices.numpy(), top.values.tolist(), strict=True):
            items = [Recommendation(item_ids[index], score) for index, score in zip(indices, row, strict=True)]
            lists.append(ranked_list(RNN, items, low_hashes[indices].tolist()))
        return lists

    def _context(self, recent: Sequence[bytes]) -> tuple[Context, list[NetworkClick | None]]:
        """Find the last clicks on known items, and of each user the newest of them."""
        index_of = self.vocabulary.index_of_hash
        item_index = np.full((len(recent), N_AGES), -1, dtype=np.int64)
        age_s = np.zeros((len(recent), N_AGES), dtype=np.float32)
        n_session = np.zeros(len(recent), dtype=np.float32)
        newest: list[NetworkClick | None] = []
        for row, packed in enumerate(recent):
            n_known, n_running, since_s, is_running, first = 0, 0, 0, True, None
            for item_hash, gap_s, event_type in reversed(list(iter_recent(packed))):
                index = index_of.get(item_hash)
                if index is not None:
                    first = first or (index, gap_s, event_type)
                    if n_known < N_AGES:
                        item_index[row, n_known], age_s[row, n_known] = index, since_s
                        n_known += 1
                    n_running += is_running
                since_s += gap_s
                is_running = is_running and gap_s <= SESSION_GAP_S
                if n_known == N_AGES and not is_running:
                    break
            n_session[row] = min(n_running, MAX_SESSION_CLICKS)
            newest.append(first)
        return Context(torch.from_numpy(item_index), torch.from_numpy(age_s), torch.from_numpy(n_session)), newest

    def _inputs_of(self, clicks: Sequence[NetworkClick | None]) -> torch.Tensor:
        """Give the input vectors of clicks, float32 (batch, hidden_size); zeros where there is none."""
        item_index, gap_s, event_type = torch.tensor([click or (0, 0, 0) for click in clicks], dtype=torch.int64).T
        is_there = torch.tensor([click is not None for click in clicks])
        return self._network.inputs(item_index, event_type, gap_s) * is_there.unsqueeze(1)

    def _unpack(self, hidden: Sequence[bytes]) -> Floats:
        states = np.zeros((len(hidden), self._state_size), dtype=np.float32)
        expected_bytes = 2 * self._state_size
        for row, packed in enumerate(hidden):
            if packed:
                if len(packed) != expected_bytes:
                    raise self._corrupt(f"{expected_bytes} bytes", f"{len(packed)}")
                states[row] = np.frombuffer(packed, dtype="<f2")
        if not np.isfinite(states).all():  # no network that is served makes these (see `nextclick.bundle.MAX_WEIGHT`)
            raise self._corrupt("numbers", "NaN or infinity")
        return states

    def _corrupt(self, expected: str, found: str) -> CorruptStateError:
        return CorruptStateError(
            f"a user's hidden state under bundle {self.bundle_id} expected {expected}, found {found}; {DAMAGE_REMEDY}"
        )


def _waves(clicks: Sequence[Sequence[NetworkClick]]) -> tuple[list[NetworkClick], list[int]]:
    """Give every user's first click, then every second one, ..., and how many of each there are; the longest first."""
    waves: list[NetworkClick] = []
    n_active: list[int] = []
    n_users = len(clicks)
    for depth in range(len(clicks[0])):
        while len(clicks[n_users - 1]) <= depth:
            n_users -= 1
        waves += [user_clicks[depth] for user_clicks in clicks[:n_users]]
        n_active.append(n_users)
    return waves, n_active
