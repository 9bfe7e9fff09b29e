"""Histories before clicks of a log, as the stream would have them: what the mixture sees when a click is predicted."""

import numpy as np
import torch

from nextclick.mixture import MAX_SESSION_CLICKS, N_AGES, History
from training.learning.associations import session_starts
from training.learning.sequences import Ints, Sequences


class Histories:
    """The last clicks on known items before any row.

    Attributes:
        known_rows: int64 (n_known,), the rows with items that the vocabulary knows, rising.
        n_known_before: int64 (n + 1,), how many of them stand before each row.
    """

    def __init__(self, item_index: Ints, sequences: Sequences) -> None:
        """Prepare.

        Args:
            item_index: int64 (n,), for every row its item; -1 where the vocabulary does not know it.
            sequences: the clicks.
        """
        self.known_rows = np.flatnonzero(item_index >= 0)
        self.n_known_before = np.concatenate([[0], np.cumsum(item_index >= 0)])
        self._item_index = item_index
        self._clock_s = np.cumsum(sequences.gap_s)  # differences within a user are what counts
        self._session_start = session_starts(sequences)
        self._user_first = sequences.first_row_of_user()

    def before(self, rows: Ints) -> History:
        """Give the histories with which the clicks in some rows are predicted.

        Args:
            rows: int64 (batch,), none a user's first.
        """
        newest = self.n_known_before[rows] - 1
        places = newest[:, None] - np.arange(N_AGES)  # (batch, N_AGES), into known_rows
        there = places >= self.n_known_before[self._user_first[rows]][:, None]
        places = np.where(there, places, 0)
        clicked = self.known_rows[places] if len(self.known_rows) else places  # rows
        last_row = rows - 1
        age_s = np.where(there, self._clock_s[last_row][:, None] - self._clock_s[clicked], 0)
        n_session = self.n_known_before[rows] - self.n_known_before[self._session_start[last_row]]
        return History(
            torch.from_numpy(np.where(there, self._item_index[clicked], -1)),
            torch.from_numpy(age_s.astype(np.float32)),
            torch.from_numpy(np.minimum(n_session, MAX_SESSION_CLICKS).astype(np.float32)),
        )
