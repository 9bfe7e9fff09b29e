"""What serving reads of a bundle: packed without loss, found again by name, and never written."""

from typing import Any

import msgspec
import numpy as np
import pytest

from nextclick.hashing import item_hash
from nextclick.network_config import NetworkConfig
from nextclick.scoring.histories import row_finder, rows_by_hash
from nextclick.scoring.terms import pack_counts
from nextclick.served_form import ItemIds, ServedForm, arrays_of, fits, form_of, served_form
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network

IDS = ["b", "a", 'é "名"\n', "x" * 256, "\\"]


def some_form(*, tied: bool = True, n_neighbours: int = 3) -> ServedForm:
    config = NetworkConfig(len(IDS), 8, tied=tied, skip=True, normalised=True, n_neighbours=n_neighbours)
    return served_form(config, random_network(config, 1).arrays(), Vocabulary(IDS, np.arange(5.0)))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize(
    "changed",
    [{}, {"tied": False}, {"skip": True, "normalised": True}, {"n_neighbours": 3}, {"hidden_size": 7}],
    ids=str,
)
@pytest.mark.parametrize("n_items", [1, 33])
def test_what_is_packed_fits_its_configuration_and_no_other(n_items: int, changed: dict[str, Any], cell: Any) -> None:
    """Every kind of network, also where nothing divides evenly; from a file it comes as it went there."""
    config = NetworkConfig(**{"n_items": n_items, "hidden_size": 8, "cell": cell} | changed)
    vocabulary = Vocabulary([str(number) for number in range(n_items)], np.ones(n_items))
    form = served_form(config, random_network(config, 1).arrays(), vocabulary)

    assert fits(config, form)
    assert fits(config, form_of({name: np.array(array) for name, array in arrays_of(form).items()}))
    assert not fits(msgspec.structs.replace(config, n_items=n_items + 1), form)


def test_ids_are_read_from_the_texts_of_lists() -> None:
    """Any id, from either end, and many at once."""
    ids = ItemIds(some_form().texts)

    assert list(ids) == IDS
    assert (len(ids), ids[-1], ids[1:4:2]) == (5, IDS[-1], IDS[1:4:2])
    with pytest.raises(IndexError):
        ids[5]


@pytest.mark.parametrize("n_items", [1, 2, 3, 1_000])
def test_every_item_is_found_by_its_hash_and_nothing_else_is(n_items: int) -> None:
    """From Python as from compiled code: one table, with no room to spare and with items in each other's places."""
    hashes = np.random.default_rng(n_items).integers(0, 2**64, n_items, dtype=np.uint64)
    hashes[n_items // 2 :] &= np.uint64(0xFFFFFFFFFFFFFF07)  # these want few places
    find = row_finder(rows_by_hash(hashes))

    assert [find(int(each)) for each in hashes] == list(range(n_items))
    assert [find(item_hash(f"unknown {number}")) for number in range(1_000)] == [None] * 1_000


def test_neighbours_without_a_share_are_left_out() -> None:
    """Wherever they stand; what is left keeps its order, and the item its place."""
    shares = np.array([[0.5, 0.0, 0.2], [0.0, 0.0, 0.0], [0.0, 0.1, 0.0]], "f4")

    counts = pack_counts(np.arange(9, dtype="i4").reshape(3, 3), shares)

    assert counts.starts.tolist() == [0, 2, 2, 3]
    assert counts.neighbours.tolist() == [0, 2, 7]
    assert counts.shares.tolist() == np.array([0.5, 0.2, 0.1], "f4").tolist()
    assert counts.most == 2


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n_neighbours", [0, 3])
def test_a_form_is_the_same_after_its_arrays_were_apart(tied: bool, n_neighbours: int) -> None:
    """Numbers too, to the last bit; what the items share with the inputs is there once."""
    form = some_form(tied=tied, n_neighbours=n_neighbours)
    arrays = arrays_of(form)

    again = arrays_of(form_of(arrays))

    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (again[name].dtype, again[name].tobytes()) == (array.dtype, array.tobytes())
        assert not again[name].flags.writeable or again[name].ndim == 0
    assert ("weights.item_embedding.weight" in arrays) == (not tied)
