"""The best items are those of a full sort, whatever the items, and on every kind of processor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nextclick.hashing import item_hash
from nextclick.scoring.histories import Lookback, read_histories, rows_by_hash
from nextclick.scoring.item_lists import item_texts, write_lists
from nextclick.scoring.kernel import ROWS
from nextclick.scoring.mixing import best_items
from nextclick.scoring.packed_items import LOG2_E, pack_items, quantised
from nextclick.scoring.sweep import all_want, sweep
from nextclick.scoring.terms import NO_COUNTS, Best, Counts, Terms, pack_counts
from nextclick.user_state import iter_recent, with_recent

ROOT = Path(__file__).parents[2]
N_AGES, K = 4, 20
Doubles = npt.NDArray[np.float64]
RNG = np.random.default_rng(7)


def unit_vectors(n: int, size: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
    """Directions as a trained network has them: a few of them are close to each other."""
    centres = RNG.standard_normal((max(1, n // 20), size))
    vectors = centres[RNG.integers(len(centres), size=n)] + 0.7 * RNG.standard_normal((n, size))
    found: npt.NDArray[np.float32] = (scale * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f4")
    return found


def some_counts(n_items: int, n_neighbours: int) -> Counts:
    shares = np.sort(RNG.random((n_items, n_neighbours)) ** 4, axis=1)[:, ::-1] / n_neighbours
    shares[::3] = 0.0
    neighbours = RNG.integers(n_items, size=(n_items, n_neighbours)).astype(np.int32)
    return pack_counts(neighbours, shares.astype(np.float32))


def some_terms(n_users: int, n_items: int) -> Terms:
    clicked = RNG.integers(-1, n_items, size=(n_users, N_AGES))
    weights = RNG.random((n_users, 1 + 2 * N_AGES)) ** 2
    weights[:, 1:] *= np.tile(clicked >= 0, 2)
    return Terms(clicked, weights / weights.sum(axis=1, keepdims=True))


def by_full_sort(scores: Doubles, counts: Counts, terms: Terms) -> Doubles:
    """Give every item's probability, from its score in units of log 2."""
    powers = np.exp2(scores - scores.max(axis=1, keepdims=True))
    mixed: Doubles = terms.weights[:, :1] * powers / powers.sum(axis=1, keepdims=True)
    n_ages = terms.clicked.shape[1]
    for user, clicked in enumerate(terms.clicked):
        for age, item in enumerate(clicked):
            if item >= 0:
                of_item = slice(*counts.starts[item : item + 2])
                shares = terms.weights[user, 1 + age] * counts.shares[of_item]
                np.add.at(mixed[user], counts.neighbours[of_item], shares)
                mixed[user, item] += terms.weights[user, 1 + n_ages + age]
    return mixed


def check(best: Best, expected: Doubles) -> None:
    """The same items as of a full sort; where another one stands, it is as probable to float32's last digit."""
    k = best.items.shape[1]
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    of_found, of_best = (np.take_along_axis(expected, items, axis=1) for items in (best.items.astype(int), order))
    assert all(len(set(row)) == k for row in best.items.tolist())
    np.testing.assert_allclose(of_found, of_best, rtol=2e-7, atol=1e-300)
    np.testing.assert_allclose(best.probabilities, of_best, rtol=1e-4, atol=1e-300)


@pytest.mark.parametrize(("n_items", "size"), [(1, 4), (19, 8), (33, 7), (500, 16), (3_000, 128)])
@pytest.mark.parametrize("scale", [0.1, 14.0, 300.0], ids=["flat", "as trained", "sharp"])
def test_the_best_items_are_those_of_a_full_sort(n_items: int, size: int, scale: float) -> None:
    """Few items and many, odd lengths of vectors, more wanted than there are."""
    vectors, biases = unit_vectors(n_items, size), RNG.standard_normal(n_items).astype("f4")
    queries, counts, terms = unit_vectors(50, size, scale), some_counts(n_items, 6), some_terms(50, n_items)
    items = pack_items(vectors, biases, 0.8)

    best = best_items(items, queries, counts, terms, min(K, n_items))

    scores = (queries.astype("f8") @ vectors.T.astype("f8") + biases) * (0.8 * LOG2_E)
    check(best, by_full_sort(scores, counts, terms))


def test_ten_thousand_lists_are_exact() -> None:
    """As in a trained network: vectors of length 1, a gate that weighs counts and the network alike."""
    n_items, size = 2_000, 64
    vectors, biases = unit_vectors(n_items, size), RNG.standard_normal(n_items).astype("f4")
    items, counts = pack_items(vectors, biases, 1.3), some_counts(n_items, 30)
    for _ in range(40):
        queries, terms = unit_vectors(250, size, 14.0), some_terms(250, n_items)
        scores = (queries.astype("f8") @ vectors.T.astype("f8") + biases) * (1.3 * LOG2_E)

        check(best_items(items, queries, counts, terms, K), by_full_sort(scores, counts, terms))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_short_lists_are_as_exact_as_long_ones(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The powers of the best items are most of the sum of all: they are exact though few of the items are listed."""
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(7))
    n_items, size = 2_000, 64
    vectors, biases = unit_vectors(n_items, size), RNG.standard_normal(n_items).astype("f4")
    items, counts = pack_items(vectors, biases, 1.3), some_counts(n_items, 30)
    worst = 0.0
    for _ in range(8):
        queries, terms = unit_vectors(250, size, 14.0), some_terms(250, n_items)
        scores = (queries.astype("f8") @ vectors.T.astype("f8") + biases) * (1.3 * LOG2_E)
        expected = by_full_sort(scores, counts, terms)

        best = best_items(items, queries, counts, terms, k)

        assert best.items.shape == (250, k)
        of_found = np.take_along_axis(expected, best.items.astype(int), axis=1)
        worst = max(worst, float(np.abs(best.probabilities / of_found - 1.0).max()))
    assert worst < 6e-5  # where only those k are exact 7e-5, 1.0e-4 and 9e-5


def test_equal_items_are_listed_in_the_order_of_their_rows() -> None:
    """Nobody can tell which is the better one: all are scored exactly, and the lower rows are taken."""
    vectors = np.repeat(unit_vectors(1, 8), 5_000, axis=0)
    items, queries = pack_items(vectors, np.zeros(5_000, "f4"), 1.0), unit_vectors(3, 8, 14.0)
    terms = Terms(np.zeros((3, 0), np.int64), np.ones((3, 1)))

    best = best_items(items, queries, NO_COUNTS, terms, K)

    assert best.items.tolist() == [list(range(K))] * 3
    np.testing.assert_allclose(best.probabilities, 1 / 5_000, rtol=1e-6)


def test_where_the_sum_of_all_powers_decides_it_is_exact() -> None:
    """Two items, one for its score and one for its counts, as probable to the seventh digit."""
    n_items, size = 2_000, 16
    vectors, query = unit_vectors(n_items, size), unit_vectors(1, size, 6.0)
    no_counts = pack_counts(np.zeros((n_items, 1), "i4"), np.zeros((n_items, 1), "f4"))
    scores = (query.astype("f8") @ vectors.T.astype("f8")) * LOG2_E
    powers = np.exp2(scores[0] - scores.max())
    best, other = int(powers.argmax()), int(powers.argmin())
    for factor in (1 - 1e-6, 1 + 1e-6):
        share = 0.5 * (powers[best] - powers[other]) / powers.sum() * factor
        terms = Terms(np.array([[other]]), np.array([[0.5, 0.0, share]]))
        items = pack_items(vectors, np.zeros(n_items, "f4"), 1.0)

        found = best_items(items, query, no_counts, terms, 2)

        assert found.items[0].tolist() == ([other, best] if factor > 1 else [best, other])


def test_an_item_that_is_left_out_is_compared_with_the_last_one_of_the_list() -> None:
    """Two items of the network that are nearly the same, and a third for its counts, as probable to the fifth digit.

    The third one has no place beside them, and the sum of all powers decides whether it should.
    """
    n_items, size = 500, 16
    for _ in range(40):
        vectors, query = unit_vectors(n_items, size), unit_vectors(1, size, 6.0)
        best = int((vectors @ query[0]).argmax())
        twin = (best + 1) % n_items
        vectors[twin] = vectors[best]
        vectors[twin, 0] = np.nextafter(vectors[best, 0], np.float32(0))
        scores = (query.astype("f8") @ vectors.T.astype("f8")) * LOG2_E
        other = int(scores.argmin())
        powers = np.exp2(scores[0] - scores.max()) / np.exp2(scores[0] - scores.max()).sum()
        items, counts = pack_items(vectors, np.zeros(n_items, "f4"), 1.0), some_counts(n_items, 1)
        for factor in (1 - 1e-5, 1 - 3e-6, 1 + 3e-6, 1 + 1e-5):
            share = 0.5 * (powers.max() * factor - powers[other])
            terms = Terms(np.array([[other]]), np.array([[0.5, 0.0, share]]))

            found = best_items(items, query, counts, terms, 1)

            assert (found.items[0, 0] == other) == (factor > 1)


@pytest.mark.parametrize("scale", [1e-30, 1e6, 1e9])
def test_scores_of_any_size_are_ranked(scale: float) -> None:
    """All equal, or one of them alone: nothing overflows and nothing is no number."""
    vectors, queries = unit_vectors(1_000, 8, scale), unit_vectors(20, 8, scale)
    items = pack_items(vectors, np.zeros(1_000, "f4"), 1.0)
    terms = Terms(np.zeros((20, 0), np.int64), np.ones((20, 1)))

    best = best_items(items, queries, NO_COUNTS, terms, 5)

    scores = (queries.astype("f8") @ vectors.T.astype("f8")) * LOG2_E
    check(best, by_full_sort(scores, NO_COUNTS, terms))
    assert np.isfinite(best.probabilities).all()


def test_the_pass_sums_all_powers() -> None:
    """Within a thousandth as it must be, and far better."""
    vectors, queries = unit_vectors(20_000, 32), unit_vectors(9, 32, 14.0)
    biases = RNG.standard_normal(20_000).astype("f4")
    items = pack_items(vectors, biases, 1.0)

    swept = sweep(items, queries, all_want(9, K))

    scores = (queries.astype("f8") @ vectors.T.astype("f8") + biases) * LOG2_E
    totals = np.exp2(scores - swept.shifts[:9, None].astype("f8")).sum(axis=1)
    np.testing.assert_allclose(swept.totals[:9], totals, rtol=2e-4)
    np.testing.assert_allclose(swept.largest[:9, 0], scores.max(axis=1), atol=5e-3)


@pytest.mark.release
@pytest.mark.parametrize(
    "features", [{}, {"avx2": True}, {"avx2": True, "avx512bw": True}], ids=["any", "avx2", "avx512"]
)
def test_other_processors_find_the_same(features: dict[str, bool], tmp_path: Path) -> None:
    """The instructions differ, products of whole numbers do not."""
    import llvmlite.binding

    host = llvmlite.binding.get_host_cpu_features()
    if not all(host.get(name) for name in features):
        pytest.skip(f"this processor has not all of {', '.join(features)}")
    program = f"""
import llvmlite.binding
features = {features!r}
llvmlite.binding.get_host_cpu_features, real = lambda: features, llvmlite.binding.get_host_cpu_features
import nextclick.scoring.kernel as kernel
llvmlite.binding.get_host_cpu_features = real
from tests.unit import test_scoring
test_scoring.test_the_best_items_are_those_of_a_full_sort(500, 16, 14.0)
print(kernel.LANES)
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == {0: 4, 1: 8, 2: 16}[len(features)]


def test_lists_are_json_of_any_id() -> None:
    """Quotes, letters of all languages, and probabilities from 1 to next to nothing, each to seven digits."""
    ids = ['a "lamp"', "Küche\\", "灯", "\n", "x"]
    probabilities = [1.0, 0.99999999, 0.5, 0.1, 0.012345678, 9.9999999e-5, 1.5e-5, 1.2345678e-9, 3e-120, 0.0]
    best = Best(np.arange(10, dtype=np.int32).reshape(2, 5) % 5, np.array(probabilities).reshape(2, 5))

    lists = [json.loads(text) for text in write_lists(item_texts(ids), best)]

    assert [item["item_id"] for part in lists for item in part] == ids * 2
    found = [item["score"] for part in lists for item in part]
    np.testing.assert_allclose(found, probabilities, rtol=1e-6)
    assert all(isinstance(score, float) for score in found)


@pytest.mark.release
def test_machine_code_that_cannot_be_kept_is_made_again(tmp_path: Path) -> None:
    """A damaged folder, one that cannot be written, and a user without a home cost time, not the start."""
    program = """
import numpy as np
from nextclick.scoring.item_lists import item_texts, write_lists
from nextclick.scoring.kernel import ROWS
from nextclick.scoring.terms import Best
print(write_lists(item_texts(["lamp"]), Best(np.zeros((1, 1), np.int32), np.ones((1, 1)))))
"""
    kept = {"XDG_CACHE_HOME": str(tmp_path)}
    environments = [kept, kept, {"XDG_CACHE_HOME": "/proc/nothing"}, {"NUMBA_CACHE_DIR": "/proc/nothing"}]
    for number, environment in enumerate(environments):
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        if number == 1:
            assert files
            for path in files:
                path.write_bytes(b"")
        command, whole = [sys.executable, "-c", program], os.environ | {"PYTHONPATH": str(ROOT)} | environment

        done = subprocess.run(command, env=whole, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stderr
        assert done.stdout == str([b'[{"item_id":"lamp","score":1.0}]']) + "\n"


def test_histories_are_read_as_they_were_packed() -> None:
    """The newest known clicks with their ages, and the length of the session that runs."""
    ids = [f"i{number}" for number in range(50)]
    table = rows_by_hash(np.array([item_hash(each) for each in ids], np.uint64))
    packed = []
    for length in [0, 1, 2, 5, 40]:
        recent = b""
        for _ in range(length):
            recent = with_recent(recent, item_hash(f"i{RNG.integers(80)}"), int(RNG.integers(3_000)), 3, 255)
        packed.append(recent)

    found = read_histories(packed, table, Lookback(N_AGES, 1_800, 6))

    for user, recent in enumerate(packed):
        known, since_s, n_session, runs = [], 0, 0, True
        for hashed, gap_s, event_type in reversed(list(iter_recent(recent))):
            rows = [row for row, each in enumerate(ids) if item_hash(each) == hashed]
            if rows:
                known.append((rows[0], since_s, gap_s, event_type))
                n_session += runs
            since_s += gap_s
            runs = runs and gap_s <= 1_800
        first = known[:N_AGES]
        assert found.item_index[user].tolist() == [row for row, *_ in first] + [-1] * (N_AGES - len(first))
        assert found.age_s[user, : len(first)].tolist() == [age for _, age, _, _ in first]
        assert found.n_session[user] == min(n_session, 6)
        newest = [known[0][0], known[0][2], known[0][3]] if known else [-1, -1, -1]
        assert found.newest[user].tolist() == newest


def test_a_list_has_the_same_bits_whoever_else_is_ranked() -> None:
    """Users are scored in tiles of several sizes, by how many are left: none of them adds up in another way."""
    n_items, size = 3_000, 40
    items, counts = pack_items(unit_vectors(n_items, size), np.zeros(n_items, "f4"), 1.0), some_counts(n_items, 6)
    queries, terms = unit_vectors(2 * ROWS + 3, size, 14.0), some_terms(2 * ROWS + 3, n_items)

    together = best_items(items, queries, counts, terms, K)

    for n_users in range(1, ROWS + 3):
        for first in range(0, len(queries) - n_users + 1, n_users):
            rows = slice(first, first + n_users)
            part = best_items(items, queries[rows], counts, Terms(terms.clicked[rows], terms.weights[rows]), K)
            assert part.items.tolist() == together.items[rows].tolist()
            assert part.probabilities.tolist() == together.probabilities[rows].tolist()


@pytest.mark.parametrize("size", [1, 7, 64, 128])
def test_users_vectors_become_the_whole_numbers_of_items_vectors(size: int) -> None:
    """What is compiled and what packs items round alike; a vector of zeros stays one."""
    queries = unit_vectors(20, size, 14.0)
    queries[3] = 0.0
    items = pack_items(queries, np.zeros(20, "f4"), 1.0)

    swept = sweep(items, queries, all_want(len(queries), 1))

    pairs, scales = quantised(queries)
    assert swept.queries.tolist() == pairs.tolist()
    assert swept.of_users.tolist() == scales.tolist()


def test_no_score_is_wrong_by_more_than_is_said() -> None:
    """A block is passed over when its best score is too low by twice the bound."""
    vectors, queries = unit_vectors(2_000, 32), unit_vectors(50, 32, 14.0)
    items = pack_items(vectors, np.zeros(2_000, "f4"), 1.0)

    swept = sweep(items, queries, all_want(50, K))

    scores = (queries.astype("f8") @ vectors.T.astype("f8")) * LOG2_E
    errors = np.abs(swept.largest[:, 0] - scores.max(axis=1))
    assert (errors <= swept.errors).all()
    assert (swept.errors < 0.05).all()
