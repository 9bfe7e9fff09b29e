"""The recurrent cell as the stream runs it: click after click, numpy in, numpy out, no gradient.

The state is rounded to float16 after every click, here and nowhere else, so that what is stored is what was computed.
Everything before that is computed in float64: sums then differ by the batch or by the processor in a bit that the
rounding takes away, and the bytes of a state do not depend on who else clicks (docs/decisions/0017-hot-user.md).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]


class Recurrence:
    """One layer of a GRU, an LSTM or a tanh cell; weights are named and ordered as in `nextclick.network.Network`."""

    def __init__(self, cell: str, hidden_size: int, weights: Sequence[Floats]) -> None:
        """Make a cell.

        Args:
            cell: `gru`, `lstm` or `rnn`.
            hidden_size: width of inputs and outputs.
            weights: of the input and of the state, float32 (gates * hidden_size, hidden_size), and the biases of both.
        """
        of_input, of_state, self._input_bias, self._state_bias = (weight.astype(np.float64) for weight in weights)
        self._of_input, self._of_state = np.ascontiguousarray(of_input.T), np.ascontiguousarray(of_state.T)
        self._hidden_size = hidden_size
        self._advance: Callable[[Doubles, Doubles, Doubles], None] = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}[cell]

    def run(self, states: Floats, inputs: Floats, n_active: Sequence[int]) -> Halves:
        """Advance users' states by a sequence of clicks each.

        Args:
            states: (users, state_size), those with the most clicks first; not changed.
            inputs: (clicks, hidden_size), the input vectors: of each user's first click, then of each second one, ...
            n_active: how many users have a first click, a second one, ...; falling, their sum is the clicks.

        Returns:
            (users, state_size), after the last click of each.
        """
        gates = inputs.astype(np.float64) @ self._of_input
        gates += self._input_bias
        after = states.astype(np.float64)
        first = 0
        for n_users in n_active:
            state = after[:n_users]
            of_state = state[:, : self._hidden_size] @ self._of_state
            of_state += self._state_bias
            self._advance(state, gates[first : first + n_users], of_state)
            state[:] = state.astype(np.float16)
            first += n_users
        return after.astype(np.float16)


# The cells change the state, (users, state_size), in place, and overwrite what the gates add up from it. Both parts of
# the gates are (users, gates * hidden_size).


def _gru(state: Doubles, of_input: Doubles, of_state: Doubles) -> None:
    size = state.shape[1]
    switches, new = of_state[:, : 2 * size], of_state[:, 2 * size :]
    switches += of_input[:, : 2 * size]
    _sigmoid(switches)
    new *= switches[:, :size]
    new += of_input[:, 2 * size :]
    np.tanh(new, out=new)
    state -= new
    state *= switches[:, size:]
    state += new


def _lstm(state: Doubles, of_input: Doubles, of_state: Doubles) -> None:
    size = state.shape[1] // 2
    output, cell = state[:, :size], state[:, size:]
    of_state += of_input
    new = np.tanh(of_state[:, 2 * size : 3 * size])
    _sigmoid(of_state)
    cell *= of_state[:, size : 2 * size]
    cell += of_state[:, :size] * new
    np.multiply(of_state[:, 3 * size :], np.tanh(cell), out=output)


def _rnn(state: Doubles, of_input: Doubles, of_state: Doubles) -> None:
    of_state += of_input
    np.tanh(of_state, out=state)


def _sigmoid(values: Doubles) -> None:
    """In place; by tanh, which cannot overflow."""
    values *= 0.5
    np.tanh(values, out=values)
    values *= 0.5
    values += 0.5
