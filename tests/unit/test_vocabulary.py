"""The items that a bundle knows, and the file that holds them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextclick.errors import BundleError
from nextclick.hashing import item_hash
from nextclick.vocabulary import Vocabulary
from nextclick.vocabulary_file import load_vocabulary, save_vocabulary

ITEMS = ("b", "a", "é 名\n", "x" * 256)


def test_ids_rows_and_hashes_belong_together() -> None:
    """A row is found by id, and leads back to the id and to its hash."""
    vocabulary = Vocabulary(ITEMS, np.arange(4.0))

    assert len(vocabulary) == 4
    for row, item_id in enumerate(ITEMS):
        assert vocabulary.index_of[item_id] == row
        assert vocabulary.item_ids[row] == item_id
        assert vocabulary.hashes[row] == item_hash(item_id)


def test_a_saved_vocabulary_is_read_back(tmp_path: Path) -> None:
    """The order of the rows is the order of the weights."""
    path = tmp_path / "vocabulary.parquet"
    save_vocabulary(Vocabulary(ITEMS, np.array([0.0, 1e-300, 0.1, 1e300])), path)

    loaded = load_vocabulary(path)

    assert loaded.item_ids == ITEMS
    assert loaded.popularity.tolist() == [0.0, 1e-300, 0.1, 1e300]
    assert loaded.popularity.dtype == np.float64


@pytest.mark.parametrize(("item_ids", "n_popularities"), [(("a", "b", "a"), 3), (("a", "b"), 1), (("a",), 2), ((), 1)])
def test_each_item_is_there_once_with_its_popularity(item_ids: tuple[str, ...], n_popularities: int) -> None:
    """Two rows for one item would make a user's history ambiguous."""
    with pytest.raises(BundleError, match="each item once"):
        Vocabulary(item_ids, np.zeros(n_popularities))


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"item_id": ["a"]}),
        pa.table({"id": ["a"], "popularity": [1.0]}),
        pa.table({"item_id": ["a", None], "popularity": [1.0, 2.0]}),
        pa.table({"item_id": [1, 2], "popularity": [1.0, 2.0]}),
        pa.table({"item_id": ["a"], "popularity": ["often"]}),
    ],
    ids=["no popularity", "no item_id", "null id", "ids are numbers", "popularity is text"],
)
def test_a_parquet_file_of_something_else_is_refused(tmp_path: Path, table: pa.Table) -> None:
    """Whatever is wrong with the file, a worker gets the one error that makes it keep its bundle."""
    path = tmp_path / "vocabulary.parquet"
    pq.write_table(table, path)

    with pytest.raises(BundleError):
        load_vocabulary(path)


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    """As above."""
    path = tmp_path / "vocabulary.parquet"
    path.write_bytes(content)

    with pytest.raises(BundleError, match=r"vocabulary\.parquet expects columns"):
        load_vocabulary(path)


@pytest.mark.parametrize("popularity", [-1.0, np.nan, np.inf, 1.7e308])
def test_a_popularity_that_is_no_weight_is_refused(popularity: float) -> None:
    """It would be served as a share of all clicks."""
    with pytest.raises(BundleError, match="popularities that are not from 0 to"):
        Vocabulary(("a", "b"), np.array([1.0, popularity]))


@pytest.mark.parametrize("item_id", [b"", b"x" * 257, b"\xff", b"\xed\xa0\x80"], ids=repr)
def test_an_id_that_no_click_can_have_is_refused(tmp_path: Path, item_id: bytes) -> None:
    """Of the wrong length, or not UTF-8: Parquet checks neither."""
    path = tmp_path / "vocabulary.parquet"
    ids = pa.array([b"a", item_id], pa.binary())
    pq.write_table(
        pa.table({"item_id": pa.Array.from_buffers(pa.string(), 2, ids.buffers()), "popularity": [1.0, 2.0]}), path
    )

    with pytest.raises(BundleError, match=r"vocabulary\.parquet expects columns"):
        load_vocabulary(path)


def test_a_small_file_of_a_huge_vocabulary_is_refused_at_small_cost(tmp_path: Path) -> None:
    """An id of 100 KB, named three million times, takes a few kilobytes in Parquet and 300 GB as a list."""
    path = tmp_path / "vocabulary.parquet"
    n_rows = 3_000_000
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows), pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"item_id": ids, "popularity": pa.array(np.zeros(n_rows))}), path)
    before_bytes = pa.default_memory_pool().max_memory()

    with pytest.raises(BundleError, match="an item twice"):
        load_vocabulary(path)

    assert path.stat().st_size < 100_000
    assert pa.default_memory_pool().max_memory() - before_bytes < 200e6


def test_more_items_than_can_be_ranked_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are read, and by the trainer before they are published."""
    path = tmp_path / "vocabulary.parquet"
    vocabulary = Vocabulary(ITEMS, np.ones(4))
    save_vocabulary(vocabulary, path)
    for module in ("vocabulary", "vocabulary_file"):
        monkeypatch.setattr(f"nextclick.{module}.MAX_ITEMS", 3)

    with pytest.raises(BundleError, match="4 rows"):
        load_vocabulary(path)
    with pytest.raises(BundleError, match="at most 3 items, and this one 4"):
        Vocabulary(ITEMS, np.ones(4))


@pytest.mark.parametrize("compression", ["gzip", "zstd", "brotli"])
def test_a_compression_without_a_bound_is_refused(tmp_path: Path, compression: str) -> None:
    """Snappy packs at most 21 times, so the size of the file says how much memory it can take."""
    path = tmp_path / "vocabulary.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "popularity": [1.0]}), path, compression=compression)

    with pytest.raises(BundleError, match=f"compression {compression.upper()}"):
        load_vocabulary(path)
