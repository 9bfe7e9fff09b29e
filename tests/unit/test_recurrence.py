"""The cell computes what its formulas say, and a user's bytes depend on nobody else."""

import numpy as np
import numpy.typing as npt
import pytest

from nextclick.network_config import NetworkConfig
from nextclick.recurrence import _tanh
from nextclick.scoring.compiled import jit
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network, served_model

N_ITEMS = 50
CELLS = ("gru", "lstm", "rnn")
tanh = jit(lambda values, results: _tanh(values, results))
Doubles = npt.NDArray[np.float64]


def test_tanh_is_right_to_the_last_places() -> None:
    """Near 0, where a difference of two powers would lose all digits, and where it is 1."""
    sizes = np.concatenate([np.geomspace(1e-300, 1e3, 20_001), np.linspace(0.0, 25.0, 20_001)])
    values = np.concatenate([sizes, -sizes])
    results = np.empty_like(values)

    tanh(values, results)

    np.testing.assert_allclose(results, np.tanh(values), rtol=1e-15)
    assert (np.signbit(results) == np.signbit(values)).all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", [3, 32, 50])
def test_a_state_has_the_same_bytes_in_any_batch(cell: str, size: int) -> None:
    """Users with no click, one and many, in tiles of several and alone."""
    network = random_network(NetworkConfig(N_ITEMS, size, cell=cell), 1)
    model = served_model("00000000000000ff", network, Vocabulary([f"i{n}" for n in range(N_ITEMS)], np.ones(N_ITEMS)))
    rng = np.random.default_rng(5)
    clicks = [
        [(int(rng.integers(N_ITEMS)), int(rng.integers(10**6)), int(rng.integers(256))) for _ in range(length)]
        for length in [3, 0, 1, 1, 7, 2, 1, 30, 1, 1, 1, 4, 0]
    ]
    first = [[(number % N_ITEMS, 0, 0)] for number in range(len(clicks))]
    before = model.run([b""] * len(clicks), first)

    together = model.run(before, clicks)

    for row, state in enumerate(together):
        alone = before[row]
        for click in clicks[row]:
            (alone,) = model.run([alone], [[click]])
        assert alone == state
    assert together[1] == before[1]
