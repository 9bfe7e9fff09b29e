"""The recurrent cell as the stream runs it: click after click, one compiled function, no gradient.

The state is rounded to float16 after every click, here and nowhere else, so that what is stored is what was computed.
Everything before that is computed in float64, and every sum is added up in one order whoever else clicks, so that the
bytes of a state do not depend on the batch (docs/decisions/0017-hot-user.md). Weights stay float32, which are the same
numbers: a lone user's step takes as long as it takes to read them.
"""

from collections.abc import Sequence
from math import factorial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit, jit_fused, jit_inner
from nextclick.scoring.halves import read_halves, round_to_halves
from nextclick.scoring.inputs import InputVectors, input_vector
from nextclick.scoring.kernel import CELL_BLOCK, CELL_ROWS, address, bits_of, multiply_row, multiply_rows, number_of

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
HalfBits = npt.NDArray[np.uint16]
Longs = npt.NDArray[np.int64]

_LOG2_E = 1.4426950408889634
_LN_2, _LN_2_REST = 0.693147180369123816490, 1.90821492927058770002e-10  # together to 85 bits (fdlibm)
_TO_WHOLE = 1.5 * 2.0**52  # a float64 plus this has no fraction left, and its lowest bits are the whole part
_ONE = 40.0  # above this, tanh(x / 2) is 1 in float64
_SIGN_BIT, _OTHER_BITS, _ONE_BITS = -(1 << 63), (1 << 63) - 1, 1023 << 52  # of a float64
# 1 / 2!, ..., 1 / 13!, of the series of e^x
_T2, _T3, _T4, _T5, _T6, _T7, _T8, _T9, _T10, _T11, _T12, _T13 = (1.0 / factorial(n) for n in range(2, 14))


class Weights(NamedTuple):
    """Those of the cell.

    Attributes:
        of_input, of_state: float32 (n_blocks * size * CELL_BLOCK,), what input and state are multiplied with, block by
            block of columns.
        input_bias, state_bias: float64 (n_blocks * CELL_BLOCK,).
    """

    of_input: Floats
    of_state: Floats
    input_bias: Doubles
    state_bias: Doubles


class Recurrence:
    """One layer of a GRU, an LSTM or a tanh cell; weights are named and ordered as in `nextclick.network.Network`."""

    def __init__(self, cell: str, hidden_size: int, weights: Sequence[Floats], inputs: InputVectors) -> None:
        """Make a cell.

        Args:
            cell: `gru`, `lstm` or `rnn`.
            hidden_size: width of inputs and outputs.
            weights: of the input and of the state, float32 (gates * hidden_size, hidden_size), and the biases of both.
            inputs: the vectors that the input is made of.
        """
        of_input, of_state, input_bias, state_bias = weights
        self._weights = Weights(_blocks(of_input), _blocks(of_state), _padded(input_bias), _padded(state_bias))
        self._hidden_size, self._inputs = hidden_size, inputs
        # What is None is not compiled: there is one cell in a bundle.
        self._is_gru, self._is_lstm = (True if cell == kind else None for kind in ("gru", "lstm"))

    def run(self, states: HalfBits, clicks: Longs, n_clicks: Longs) -> HalfBits | None:
        """Advance users' states by a sequence of clicks each.

        Args:
            states: the bits of float16 (users, state_size), those with the most clicks first; not changed.
            clicks: (clicks, 3), item_index, gap_s and event_type: all of the first user, of the second one, ...
            n_clicks: how many each user has, one at least; falling.

        Returns:
            (users, state_size), after the last click of each; None if a state holds what is no number.
        """
        after = states.copy()  # of who has no click
        kind, weights, inputs = (self._is_gru, self._is_lstm), self._weights, self._inputs
        is_sound = _run(*kind, self._hidden_size, weights, inputs, clicks, n_clicks, states, after)
        return after if is_sound else None


def _blocks(weights: Floats) -> Floats:
    """Lay (columns, size) out as (n_blocks, size, CELL_BLOCK), with zeros behind the last column."""
    columns, size = weights.shape
    padded = np.zeros((-(-columns // CELL_BLOCK) * CELL_BLOCK, size), np.float32)
    padded[:columns] = weights
    return np.ascontiguousarray(padded.reshape(-1, CELL_BLOCK, size).transpose(0, 2, 1)).reshape(-1)


def _padded(biases: Floats) -> Doubles:
    padded = np.zeros(-(-len(biases) // CELL_BLOCK) * CELL_BLOCK)
    padded[: len(biases)] = biases
    return padded


@jit
def _run(  # noqa: PLR0913 - numba knows arrays
    is_gru: Any, is_lstm: Any, size: Any, weights: Any, inputs: Any, clicks: Any, n_clicks: Any, before: Any, after: Any
) -> Any:
    """Take as many users at a time as share the reading of weights, and one by one those that are left."""
    n_users, n_columns = len(n_clicks), len(weights.input_bias)
    vectors, outputs = np.zeros(CELL_ROWS * size), np.zeros(CELL_ROWS * size)
    of_inputs, of_states = np.zeros((CELL_ROWS, n_columns)), np.zeros((CELL_ROWS, n_columns))
    states, firsts = np.zeros((CELL_ROWS, before.shape[1])), np.zeros(CELL_ROWS, np.int64)
    first_user, next_click, is_sound = 0, 0, True
    while first_user < n_users:
        n_rows = CELL_ROWS if n_users - first_user >= CELL_ROWS else 1
        for row in range(n_rows):
            user = first_user + row
            is_sound &= read_halves(before[user], states[row])
            _copy(states[row], outputs[row * size : (row + 1) * size])
            firsts[row] = next_click
            next_click += n_clicks[user]
        for depth in range(n_clicks[first_user]):
            if n_clicks[first_user + n_rows - 1] <= depth:  # the others go on alone: the sums are the same
                n_rows, n_left = 1, n_rows
                while n_rows < n_left and n_clicks[first_user + n_rows] > depth:
                    n_rows += 1
            for row in range(n_rows):
                click, vector = clicks[firsts[row] + depth], vectors[row * size : (row + 1) * size]
                input_vector(inputs, click[0], click[1], click[2], vector)
            _multiply(n_rows, vectors, size, weights.of_input, weights.input_bias, of_inputs)
            _multiply(n_rows, outputs, size, weights.of_state, weights.state_bias, of_states)
            for row in range(n_rows):
                if is_gru is not None:
                    _gru(size, states[row], of_inputs[row], of_states[row])
                elif is_lstm is not None:
                    _lstm(size, states[row], of_inputs[row], of_states[row])
                else:
                    _rnn(size, states[row], of_inputs[row], of_states[row])
                round_to_halves(states[row], after[first_user + row])
                _copy(states[row], outputs[row * size : (row + 1) * size])
        first_user = first_user + CELL_ROWS if n_users - first_user >= CELL_ROWS else first_user + 1
    return is_sound


@jit_inner
def _copy(numbers: Any, copies: Any) -> None:
    """Copy as many as there is room for: numba compiles an assignment of slices for half a second."""
    for place in range(len(copies)):
        copies[place] = numbers[place]


@jit_inner
def _multiply(n_rows: Any, vectors: Any, size: Any, weights: Any, biases: Any, sums: Any) -> None:
    """Multiply some users' vectors with all weights."""
    n_columns, flat = sums.shape[1], sums.reshape(-1)
    for column in range(0, n_columns, CELL_BLOCK):
        of_block, bias = address(weights, column * size), address(biases, column)
        if n_rows == CELL_ROWS:
            multiply_rows(address(vectors, 0), size, of_block, bias, address(flat, column), n_columns)
            continue
        for row in range(n_rows):
            place = address(flat, row * n_columns + column)
            multiply_row(address(vectors, row * size), size, of_block, bias, place, n_columns)


# The cells change the state in place, and overwrite what the gates add up from it.


@jit_fused
def _gru(size: Any, state: Any, of_input: Any, of_state: Any) -> None:
    switches, new, of_new = of_state[: 2 * size], of_state[2 * size : 3 * size], of_input[2 * size : 3 * size]
    for place in range(2 * size):
        switches[place] += of_input[place]
    _sigmoid(switches)
    kept = switches[size:]
    for place in range(size):
        new[place] = new[place] * switches[place] + of_new[place]
    _tanh(new, new)
    for place in range(size):
        state[place] = (state[place] - new[place]) * kept[place] + new[place]


@jit_fused
def _lstm(size: Any, state: Any, of_input: Any, of_state: Any) -> None:
    output, cell, new = state[:size], state[size:], of_input[2 * size : 3 * size]
    for place in range(4 * size):
        of_state[place] += of_input[place]
    _tanh(of_state[2 * size : 3 * size], new)
    _sigmoid(of_state)
    let_in, kept, let_out = of_state[:size], of_state[size : 2 * size], of_state[3 * size : 4 * size]
    for place in range(size):
        cell[place] = cell[place] * kept[place] + let_in[place] * new[place]
    _tanh(cell, output)
    for place in range(size):
        output[place] *= let_out[place]


@jit_fused
def _rnn(size: Any, state: Any, of_input: Any, of_state: Any) -> None:
    for place in range(size):
        state[place] = of_state[place] + of_input[place]
    _tanh(state, state)


@jit_fused
def _sigmoid(values: Any) -> None:
    """In place; by tanh, which cannot overflow."""
    for place in range(len(values)):
        values[place] *= 0.5
    _tanh(values, values)
    for place in range(len(values)):
        values[place] = values[place] * 0.5 + 0.5


@jit_fused
def _tanh(values: Any, results: Any) -> None:
    """Compute tanh within a few units of the last place, many at a time.

    By e^x - 1, which is exact near 0: x is a multiple of log 2, and a rest whose series is short.
    """
    for place in range(len(values)):
        bits = bits_of(values[place])
        sign_bit = bits & _SIGN_BIT
        twice = min(2.0 * number_of(bits & _OTHER_BITS), _ONE)
        shifted = twice * _LOG2_E + _TO_WHOLE
        whole = shifted - _TO_WHOLE
        rest = twice - whole * _LN_2 - whole * _LN_2_REST
        series = (((_T13 * rest + _T12) * rest + _T11) * rest + _T10) * rest + _T9
        series = ((((series * rest + _T8) * rest + _T7) * rest + _T6) * rest + _T5) * rest + _T4
        series = (series * rest + _T3) * rest + _T2
        less_one = rest + rest * rest * series
        power = number_of((bits_of(shifted) << 52) + _ONE_BITS)
        above_one = power * less_one + (power - 1.0)
        results[place] = number_of(bits_of(above_one / (above_one + 2.0)) | sign_bit)
