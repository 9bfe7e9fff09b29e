"""Loops over counts of pairs, compiled by numba. A pair's code is its row times the number of columns plus its column.

The arrays are long and sorted by code, so each loop runs through them once and needs no other array of their length.
"""

import numpy as np

from nextclick.scoring.compiled import jit


@jit
def add_sorted(codes, counts, more_codes, more_counts, all_codes, all_counts):  # type: ignore[no-untyped-def]
    """Merge two lists of counts; what is in both is added up.

    Args:
        codes: int64 (n,), rising, each once.
        counts: float64 (n,).
        more_codes: int64 (m,), rising, each once.
        more_counts: float64 (m,).
        all_codes: int64 (n + m,): overwritten.
        all_counts: float64 (n + m,): overwritten.

    Returns:
        How many different codes there are.
    """
    one, other, n_all = 0, 0, 0
    while one < len(codes) or other < len(more_codes):
        if other == len(more_codes) or (one < len(codes) and codes[one] < more_codes[other]):
            all_codes[n_all], all_counts[n_all] = codes[one], counts[one]
            one += 1
        elif one == len(codes) or more_codes[other] < codes[one]:
            all_codes[n_all], all_counts[n_all] = more_codes[other], more_counts[other]
            other += 1
        else:
            all_codes[n_all], all_counts[n_all] = codes[one], counts[one] + more_counts[other]
            one += 1
            other += 1
        n_all += 1
    return n_all


@jit
def best_of_rows(codes, counts, n_columns, starts, columns, best):  # type: ignore[no-untyped-def]
    """Find each row's largest counts, the largest first; of equal ones the first column first.

    Args:
        codes: int64 (n,), rising.
        counts: float64 (n,).
        n_columns: that codes were made with.
        starts: int64 (n_rows + 1,), where each row begins.
        columns: int32 (n_rows, k), zeros: overwritten with the columns, where a row has so many.
        best: float64 (n_rows, k), zeros: with their counts.
    """
    n_best = columns.shape[1]
    for row in range(len(starts) - 1):
        first, end = starts[row], starts[row + 1]
        order = np.argsort(-counts[first:end], kind="mergesort")
        for place in range(min(n_best, end - first)):
            chosen = first + order[place]
            columns[row, place] = codes[chosen] % n_columns
            best[row, place] = counts[chosen]


@jit
def rows_times(  # type: ignore[no-untyped-def]  # noqa: PLR0913 - numba knows arrays
    codes, counts, n_columns, starts, weights, matrix, products
):
    """Multiply counts, each times its row's and its column's weight, with a matrix: (rows, columns) @ (columns, width).

    Args:
        codes: int64 (n,), rising.
        counts: float64 (n,).
        n_columns: that codes were made with.
        starts: int64 (n_rows + 1,), where each row begins.
        weights: float32 (n_rows,); there are as many rows as columns.
        matrix: float32 (n_columns, width).
        products: float32 (n_rows, width): overwritten.
    """
    width = matrix.shape[1]
    for row in range(len(starts) - 1):
        products[row] = 0.0
        for place in range(starts[row], starts[row + 1]):
            column = codes[place] % n_columns
            value = np.float32(counts[place]) * weights[row] * weights[column]
            for number in range(width):
                products[row, number] += value * matrix[column, number]
