"""The innermost loop of scoring, in the processor's own vector instructions, for numba.

A score is a product of two vectors. As numbers of 16 bits, a processor multiplies and adds twice as many of them at a
time as of float32 (`vpmaddwd` on x86, since AVX2), and their sums are exact integers, so that a score is the same on
every machine and in every batch. numba cannot say this in Python; LLVM, which numba compiles with, can, and no compiler
has to be installed. Everything that is done with the products while they are still in registers is here, too: they
become scores, the largest of a block is kept, and the powers of all are added up.

Functions of scoring work on a tile: some users and one block of `BLOCK` items. Scores are in units of log 2: the
probability of an item is proportional to 2 to the power of its score. `multiply_rows` does the sums of the recurrent
cell, in float64.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

_FEATURES = llvmlite.binding.get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512bw") else 8 if _FEATURES.get("avx2") else 4  # numbers of 32 bits in a register
VECTORS = 2  # registers of items in a tile: with ROWS, as many as there are registers for
BLOCK = VECTORS * LANES  # items
ROWS = 8 if LANES == 16 else 4  # users: AVX-512 has 32 registers, others 16

# Of the cell's sums in float64: users in a tile, and columns of a block of weights.
CELL_ROWS, _CELL_VECTORS = 4, 4 if LANES == 16 else 2
CELL_BLOCK = _CELL_VECTORS * LANES // 2

_I16, _I32, _I64, _F32, _F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()
_HALF_FLOATS, _DOUBLES = ir.VectorType(_F32, LANES // 2), ir.VectorType(_F64, LANES // 2)
_PAIRS, _INTS, _FLOATS = (
    ir.VectorType(_I16, 2 * LANES),
    ir.VectorType(_I32, LANES),
    ir.VectorType(_F32, LANES),
)
_MADD = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}
# 2 to the power of x, for |x| <= 0.5, within 2e-7: minimax coefficients, the lowest power first.
_POWERS = (1.0, 0.693147182, 0.240226462, 0.0555032, 0.00961812, 0.00133335)
_ROUND = 12582912.0  # 1.5 x 2^23: a float32 plus this has no fraction left, and its lowest bits are the whole part
_LINE_BYTES = 64  # that memory is read by
_LEAST = -126.0  # 2 to the power of less is not a normal float32

_Pointers = types.CPointer(types.int32), types.CPointer(types.float32)


class _Writer:
    """Writes the instructions of a tile."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def at(self, pointer: Any, place: Any) -> Any:
        """Give the address of an element, by a number or a value."""
        place = ir.Constant(_I32, place) if isinstance(place, int) else place
        return self._builder.gep(pointer, [place])

    def load(self, pointer: Any, kind: Any) -> Any:
        return self._builder.load(self._builder.bitcast(pointer, kind.as_pointer()), align=4)

    def store(self, value: Any, pointer: Any) -> None:
        self._builder.store(value, self._builder.bitcast(pointer, value.type.as_pointer()), align=4)

    def everywhere(self, value: Any, kind: Any) -> Any:
        """Give a vector with a value in all lanes."""
        if isinstance(value, int | float):
            return ir.Constant(kind, [value] * kind.count)
        first = self._builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
        return self._builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, kind.count), None))

    def call(self, name: str, kind: Any, *arguments: Any) -> Any:
        signature = ir.FunctionType(kind, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self._builder.module, signature, name)
        return self._builder.call(function, arguments, fastmath=("nnan",) if kind in (_F32, _FLOATS) else ())

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.call(f"llvm.fma.v{LANES}f32", _FLOATS, a, b, c)

    def largest(self, a: Any, b: Any) -> Any:
        return self._builder.select(self._builder.fcmp_ordered(">", a, b), a, b)

    def multiply_pairs(self, a: Any, b: Any) -> Any:
        """Multiply vectors of 16 bits, and add each two products that lie side by side."""
        if LANES in _MADD:
            return self.call(_MADD[LANES], _INTS, a, b)
        wide = ir.VectorType(_I32, 2 * LANES)
        products = self._builder.mul(self._builder.sext(a, wide), self._builder.sext(b, wide))
        even, odd = (ir.Constant(_INTS, list(range(first, 2 * LANES, 2))) for first in (0, 1))
        return self._builder.add(
            self._builder.shuffle_vector(products, products, even),
            self._builder.shuffle_vector(products, products, odd),
        )

    def products(self, rows: int, queries: Any, items: Any, n_pairs: Any) -> list[list[Any]]:
        """Multiply the vectors of `rows` users with those of a block of items: whole numbers, by user and register."""
        builder = self._builder
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(_INTS, None)) for _ in range(VECTORS)] for _ in range(rows)
        ]
        with cgutils.for_range(builder, n_pairs) as loop:
            first = self.at(items, builder.mul(loop.index, ir.Constant(loop.index.type, BLOCK)))
            of_items = [self.load(self.at(first, number * LANES), _PAIRS) for number in range(VECTORS)]
            for row in range(rows):
                place = builder.add(builder.mul(n_pairs, ir.Constant(n_pairs.type, row)), loop.index)
                pair = self.everywhere(builder.load(self.at(queries, place)), _INTS)
                of_user = builder.bitcast(pair, _PAIRS)
                for number in range(VECTORS):
                    product = self.multiply_pairs(of_user, of_items[number])
                    builder.store(builder.add(builder.load(sums[row][number]), product), sums[row][number])
        return [[builder.load(each) for each in of_row] for of_row in sums]

    def fold(  # noqa: PLR0913
        self,
        n_rows: int,
        queries: Any,
        items: Any,
        n_pairs: Any,
        scales: Any,
        biases: Any,
        of_users: Any,
        shifts: Any,
        sums: Any,
        largest: Any,
    ) -> None:
        """See `fold_tile`."""
        builder = self._builder
        products = self.products(n_rows, queries, items, n_pairs)
        of_items = [
            tuple(self.load(self.at(each, number * LANES), _FLOATS) for each in (scales, biases))
            for number in range(VECTORS)
        ]
        for row in range(n_rows):
            of_user = self.everywhere(builder.load(self.at(of_users, row)), _FLOATS)
            shift = self.everywhere(builder.load(self.at(shifts, row)), _FLOATS)
            scores = [self.scores(products[row][number], of_user, *of_items[number]) for number in range(VECTORS)]
            total = self.load(self.at(sums, row * LANES), _FLOATS)
            most = scores[0]
            for number, each in enumerate(scores):
                most = self.largest(most, each) if number else most
                total = builder.fadd(total, self.powers(builder.fsub(each, shift)))
            self.store(total, self.at(sums, row * LANES))
            builder.store(self.call(f"llvm.vector.reduce.fmax.v{LANES}f32", _F32, most), self.at(largest, row))

    def sums_of_rows(  # noqa: PLR0913
        self, n_rows: int, vectors: Any, size: Any, weights: Any, biases: Any, sums: Any, n_columns: Any
    ) -> None:
        """See `multiply_rows`."""
        builder, width = self._builder, LANES // 2
        of_rows = [
            [
                cgutils.alloca_once_value(builder, self.load(self.at(biases, number * width), _DOUBLES))
                for number in range(_CELL_VECTORS)
            ]
            for _ in range(n_rows)
        ]
        with cgutils.for_range(builder, size) as loop:
            first = self.at(weights, builder.mul(loop.index, ir.Constant(loop.index.type, CELL_BLOCK)))
            of_columns = [
                builder.fpext(self.load(self.at(first, number * width), _HALF_FLOATS), _DOUBLES)
                for number in range(_CELL_VECTORS)
            ]
            for row in range(n_rows):
                place = builder.add(builder.mul(size, ir.Constant(size.type, row)), loop.index)
                number = self.everywhere(builder.load(self.at(vectors, place)), _DOUBLES)
                for of_row, of_column in zip(of_rows[row], of_columns, strict=True):
                    product = builder.fmul(number, of_column, flags=("contract",))
                    builder.store(builder.fadd(builder.load(of_row), product, flags=("contract",)), of_row)
        for row, of_row in enumerate(of_rows):
            first = self.at(sums, builder.mul(n_columns, ir.Constant(n_columns.type, row)))
            for number, each in enumerate(of_row):
                self.store(builder.load(each), self.at(first, number * width))

    def scores(self, products: Any, of_user: Any, scales: Any, biases: Any) -> Any:
        """Make scores of products: each times its user's and its item's scale, plus its item's bias."""
        scaled = self._builder.fmul(self._builder.sitofp(products, _FLOATS), of_user)
        return self.fma(scaled, scales, biases)

    def powers(self, exponents: Any) -> Any:
        """Give 2 to the power of numbers below 127; of those below -126 something very small."""
        builder = self._builder
        exponents = self.largest(exponents, self.everywhere(_LEAST, _FLOATS))
        shifted = builder.fadd(exponents, self.everywhere(_ROUND, _FLOATS))
        rest = builder.fsub(exponents, builder.fsub(shifted, self.everywhere(_ROUND, _FLOATS)))
        power = self.everywhere(_POWERS[-1], _FLOATS)
        for coefficient in reversed(_POWERS[:-1]):
            power = self.fma(power, rest, self.everywhere(coefficient, _FLOATS))
        # The whole part goes where a float32 has its exponent.
        whole = builder.shl(builder.bitcast(shifted, _INTS), self.everywhere(23, _INTS))
        return builder.bitcast(builder.add(builder.bitcast(power, _INTS), whole), _FLOATS)


@intrinsic
def address(typing_context: Any, array: Any, place: Any) -> Any:
    """Give the address of an element of a contiguous array of one dimension, of int32 or float32."""
    signature = types.CPointer(array.dtype)(array, types.intp)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        data = arrayobj.make_array(array)(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return signature, write


@intrinsic
def fetch_soon(typing_context: Any, pointer: Any, n_bytes: Any) -> Any:
    """Begin to bring memory into the cache that will be read in a moment; gives nothing, and waits for nothing."""
    signature = types.void(pointer, types.intp)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        begin = builder.bitcast(arguments[0], ir.IntType(8).as_pointer())
        how = [ir.Constant(_I32, number) for number in (0, 3, 1)]  # to read, to keep, data
        kind = ir.FunctionType(ir.VoidType(), [begin.type, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        n_lines = builder.sdiv(arguments[1], ir.Constant(arguments[1].type, _LINE_BYTES))
        with cgutils.for_range(builder, n_lines) as loop:
            place = builder.mul(loop.index, ir.Constant(loop.index.type, _LINE_BYTES))
            builder.call(function, [builder.gep(begin, [place]), *how])
        return context.get_dummy_value()

    return signature, write


def _fold_tile(n_rows: int) -> Any:
    @intrinsic
    def fold_tile(  # noqa: PLR0913 - a tile is what it is
        typing_context: Any,
        queries: Any,
        items: Any,
        n_pairs: Any,
        scales: Any,
        biases: Any,
        of_users: Any,
        shifts: Any,
        sums: Any,
        largest: Any,
    ) -> Any:
        ints, floats = _Pointers
        signature = types.void(ints, ints, types.intp, floats, floats, floats, floats, floats, floats)

        def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            _Writer(builder).fold(n_rows, *arguments)
            return context.get_dummy_value()

        return signature, write

    return fold_tile


# Score a tile, keep each user's largest score of the block, and add up powers of the scores. There are tiles of ROWS
# users and of fewer, for those that are left: a lone user costs a third of ROWS. A user's numbers have the same bits in
# all of them. Arguments:
#   queries: int32 (rows, n_pairs), pairs of int16.
#   items: int32 (n_pairs, BLOCK), pairs of int16.
#   n_pairs: half of the vectors' length.
#   scales, biases: float32 (BLOCK,), of the items.
#   of_users: float32 (rows,), the users' scales.
#   shifts: float32 (rows,), taken from scores before their powers are added up.
#   sums: float32 (rows, LANES), of the powers: added to.
#   largest: float32 (rows,): overwritten.
HALF = ROWS // 2
fold_tile, fold_half, fold_one = _fold_tile(ROWS), _fold_tile(HALF), _fold_tile(1)


@intrinsic
def score_block(  # noqa: PLR0913
    typing_context: Any, query: Any, items: Any, n_pairs: Any, scales: Any, biases: Any, of_user: Any, scores: Any
) -> Any:
    """Score a block of items for one user, bit by bit as `fold_tile` does.

    Args:
        query: int32 (n_pairs,), pairs of int16.
        items, n_pairs, scales, biases: as in `fold_tile`.
        of_user: float32 (1,), the user's scale.
        scores: float32 (BLOCK,): overwritten.
    """
    ints, floats = _Pointers
    signature = types.void(ints, ints, types.intp, floats, floats, floats, floats)

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        query, items, n_pairs, scales, biases, of_user, scores = arguments
        writer = _Writer(builder)
        (products,) = writer.products(1, query, items, n_pairs)
        factor = writer.everywhere(builder.load(of_user), _FLOATS)
        for number in range(VECTORS):
            scale, bias = (writer.load(writer.at(each, number * LANES), _FLOATS) for each in (scales, biases))
            writer.store(writer.scores(products[number], factor, scale, bias), writer.at(scores, number * LANES))
        return context.get_dummy_value()

    return signature, write


@intrinsic
def bits_of(typing_context: Any, number: Any) -> Any:
    """Give the bits of a float64 as an int64."""
    return types.int64(types.float64), lambda context, builder, _, arguments: builder.bitcast(arguments[0], _I64)


@intrinsic
def number_of(typing_context: Any, bits: Any) -> Any:
    """Give the float64 that has these bits."""
    return types.float64(types.int64), lambda context, builder, _, arguments: builder.bitcast(arguments[0], _F64)


def _multiply_rows(n_rows: int) -> Any:
    @intrinsic
    def multiply_rows(  # noqa: PLR0913
        typing_context: Any, vectors: Any, size: Any, weights: Any, biases: Any, sums: Any, n_columns: Any
    ) -> Any:
        doubles = types.CPointer(types.float64)
        signature = types.void(doubles, types.intp, types.CPointer(types.float32), doubles, doubles, types.intp)

        def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            _Writer(builder).sums_of_rows(n_rows, *arguments)
            return context.get_dummy_value()

        return signature, write

    return multiply_rows


# Multiply the vectors of CELL_ROWS users, or of one, with a block of weights. A sum is added up in the order of the
# vector's numbers: it has the same bits in both. Arguments:
#   vectors: float64 (users, size).
#   size: of a vector.
#   weights: float32 (size, CELL_BLOCK): as float64 they are the same numbers, and twice as much memory to read.
#   biases: float64 (CELL_BLOCK,), what each sum begins with.
#   sums: float64, of each user CELL_BLOCK numbers: overwritten.
#   n_columns: how far the sums of two users lie from each other.
multiply_rows, multiply_row = _multiply_rows(CELL_ROWS), _multiply_rows(1)
