"""Carries a long history's state from one window to the next: backpropagation is cut off there, the state is not.

The stream never starts a user anew, so a network that only ever saw states of a window's age would serve older ones
blindly. Kept is one state per user with more clicks than a window holds, as it was when the window was learnt: the
weights have moved a little since. Where a user's windows are so near in time that the one before is not learnt first,
the state is the zero state.

Source: Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
trajectories".
"""

import numpy as np
import torch
from torch import Tensor

from training.learning.sequences import Ints, Sequences, Windows


class CarriedStates:
    """The states after users' last full windows."""

    def __init__(self, sequences: Sequences, max_clicks: int, state_size: int, device: torch.device) -> None:
        """Start with none.

        Args:
            sequences: that the windows are of.
            max_clicks: of a window; a longer history goes on in another one.
            state_size: of the network.
            device: where the states are.
        """
        self._user_starts, self._max_clicks = sequences.user_starts, max_clicks
        is_long = np.diff(sequences.user_starts) > max_clicks
        self._slot = np.where(is_long, np.cumsum(is_long) - 1, -1)  # (n_users,)
        n_long = int(is_long.sum())
        self._next_row = np.full(n_long, -1, dtype=np.int64)  # the click that comes next in each state
        self._states = torch.zeros(n_long, state_size, device=device)

    def before(self, windows: Windows) -> Tensor:
        """Give the states with which windows begin: float32 (batch, state_size), zeros where none was kept."""
        state = torch.zeros(len(windows), self._states.shape[1], device=self._states.device)
        slot = self._slots(windows)
        goes_on = np.flatnonzero(slot >= 0)
        goes_on = goes_on[self._next_row[slot[goes_on]] == windows.first[goes_on]]
        if len(goes_on):
            state[self._places(goes_on)] = self._states[self._places(slot[goes_on])]
        return state

    def keep(self, windows: Windows, after: Tensor) -> None:
        """Keep states for the windows that come next.

        Args:
            windows: a batch that was padded to its longest window.
            after: float32 (batch, state_size), after the last step of the padded batch: right for full windows, which
                have no padding. Only they are followed by another one.
        """
        slot = self._slots(windows)
        is_followed = np.flatnonzero((slot >= 0) & (windows.end - windows.first == self._max_clicks))
        slot, first = np.unique(slot[is_followed], return_index=True)
        if len(slot):
            kept = is_followed[first]
            self._next_row[slot] = windows.end[kept] - 1
            self._states[self._places(slot)] = after.detach()[self._places(kept)]

    def _slots(self, windows: Windows) -> Ints:
        slots: Ints = self._slot[np.searchsorted(self._user_starts, windows.first, side="right") - 1]
        return slots

    def _places(self, places: Ints) -> Tensor:
        return torch.from_numpy(places).to(self._states.device)
