"""The loops of a training step that wait for memory, each as one pass, compiled by numba.

As chains of tensor operations, each of which reads and writes everything anew, they took as long as the products of
matrices between them. All functions hold no lock of the interpreter, so that several threads run them, and none starts
a thread. They work on arrays that the caller gives, and allocate nothing.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nextclick.scoring.compiled import jit_sums

_F32, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)
# 2 to the power of x, for |x| <= 0.5, within 2e-7: minimax coefficients, the lowest power first.
_P0, _P1, _P2, _P3, _P4, _P5 = map(np.float32, (1.0, 0.693147182, 0.240226462, 0.0555032, 0.00961812, 0.00133335))
_LOG2_E = np.float32(np.log2(np.e))
_LEAST_EXPONENT = np.float32(-100.0)  # of a share: numbers that are not normal float32s would be slow
_NOTHING, _ONE = np.float32(0.0), np.float32(1.0)


@intrinsic
def _rounded(typing_context: Any, value: Any) -> Any:
    """Round a float32 to the nearest whole number."""

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        rint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_F32, [_F32]), "llvm.rint.f32")
        return builder.call(rint, arguments)

    return types.float32(types.float32), write


@intrinsic
def _power_of_two(typing_context: Any, whole: Any) -> Any:
    """Give 2 to the power of a whole number of -126 to 127, given as float32."""

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        exponent = builder.add(builder.fptosi(arguments[0], _I32), ir.Constant(_I32, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(_I32, 23)), _F32)

    return types.float32(types.float32), write


@intrinsic
def _widened(typing_context: Any, number: Any) -> Any:
    """Give a float32 as it is, and the bits of a bfloat16, an int16, as float32."""

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        if number == types.float32:
            return arguments[0]
        return builder.bitcast(builder.shl(builder.zext(arguments[0], _I32), ir.Constant(_I32, 16)), _F32)

    return types.float32(number), write


@intrinsic
def _narrowed(typing_context: Any, value: Any, like: Any) -> Any:
    """Give a float32 as what `like` is: itself, or the bits of the nearest bfloat16, even where two are as near."""

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        if like == types.float32:
            return arguments[0]
        bits = builder.bitcast(arguments[0], _I32)
        is_odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(_I32, 0x7FFF)), is_odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(_I32, 16)), _I16)

    return like(types.float32, like), write


@jit_sums
def softmax_gradients(scores, bias, target, scale, powers, of_bias):  # type: ignore[no-untyped-def]
    """Turn rows of scores into the gradient of their cross-entropy, softmax minus one at the target, in place.

    Args:
        scores: float32, or int16 that are the bits of bfloat16, (n_rows, n_columns): overwritten. Columns from
            n_candidates on are only there to make the shape a round one, and become 0.
        bias: float32 (n_candidates,), is added to each row first.
        target: int64 (n_targets,), where each row's target stands; rows from n_targets on stay as they are.
        scale: float32, of the gradient: one by the number of targets of the whole batch.
        powers: float32 (n_candidates,): room to compute in.
        of_bias: float32 (n_candidates,), the sum of the gradients' rows: added to.

    Returns:
        The sum of the rows' losses.
    """
    n_candidates = len(bias)
    loss = 0.0
    for row in range(len(target)):
        of_row = scores[row]
        highest = _widened(of_row[0]) + bias[0]
        for place in range(n_candidates):
            score = _widened(of_row[place]) + bias[place]
            powers[place] = score
            highest = max(highest, score)
        of_target = powers[target[row]] - highest
        total = _NOTHING
        for place in range(n_candidates):
            exponent = max((powers[place] - highest) * _LOG2_E, _LEAST_EXPONENT)
            whole = _rounded(exponent)
            rest = exponent - whole
            power = ((((_P5 * rest + _P4) * rest + _P3) * rest + _P2) * rest + _P1) * rest + _P0
            power = power * _power_of_two(whole)
            powers[place] = power
            total += power
        loss += np.log(total) - of_target
        powers[target[row]] -= total
        share = scale / total
        for place in range(n_candidates):
            gradient = powers[place] * share
            of_bias[place] += gradient
            of_row[place] = _narrowed(gradient, of_row[place])
        of_row[n_candidates:] = 0
    return loss


@jit_sums
def adagrad_rows(  # type: ignore[no-untyped-def]  # noqa: PLR0913 - numba knows arrays
    table, squares, rate, rows, gradient, least, normalised
):
    """Move rows against their gradient, each element by a rate that its gradients so far have shrunk.

    Args:
        table: float32 (n_rows, width): rows are moved.
        squares: float32 (n_rows, width), sums of the squares of the gradients so far: added to.
        rate: float32.
        rows: int64 (n,), each once.
        gradient: float32, or int16 that are the bits of bfloat16, (n, width).
        least: float32, added to the squares below the root.
        normalised: bring rows that were moved back to length 1.
    """
    width = table.shape[1]
    for number in range(len(rows)):
        row = rows[number]
        length = _NOTHING
        for place in range(width):
            slope = _widened(gradient[number, place])
            square = squares[row, place] + slope * slope
            squares[row, place] = square
            moved = table[row, place] - rate * slope / np.sqrt(square + least)
            table[row, place] = moved
            length += moved * moved
        if normalised and length > _NOTHING:
            shrunk = _ONE / np.sqrt(length)
            for place in range(width):
                table[row, place] *= shrunk
