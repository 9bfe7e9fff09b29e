"""What serving reads of a bundle, all of it arrays: packed once, and then the same for every process that serves it.

Nothing of it is ever changed, so that it may lie in a file that several processes map (`nextclick.array_file`). What is
packed depends on the kind of processor and on this program's version: `LAYOUT` names both.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from nextclick import hashing
from nextclick.network_config import NEIGHBOURS, NetworkConfig
from nextclick.scoring import kernel
from nextclick.scoring.compiled import read_only
from nextclick.scoring.histories import RowsByHash, rows_by_hash
from nextclick.scoring.item_lists import ItemTexts, id_in, item_texts
from nextclick.scoring.packed_items import ItemVectors, pack_items
from nextclick.scoring.terms import NO_COUNTS, Counts, pack_counts
from nextclick.vocabulary import Vocabulary

Weights = Mapping[str, npt.NDArray[Any]]

INPUTS = "item_embedding.weight"
_PACKED = frozenset({"output_embedding.weight", "item_bias", NEIGHBOURS, "mixture.shares", "mixture.sharpness"})
_PARTS: Mapping[str, Any] = {"items": ItemVectors, "counts": Counts, "texts": ItemTexts, "rows": RowsByHash}


class ServedForm(NamedTuple):
    """A bundle as it is served.

    Attributes:
        weights: of the network, by name, as they are; without those that only the other parts need, and without the
            embedding of the items where it is `items.exact`.
        items: the vectors that scores come from.
        counts: of the items' neighbours.
        texts: how each item begins in a list.
        rows: finds items by their hashes.
        low_hashes: uint32 (n_items,), the low bits of the item hashes.
        popularity: float64 (n_items,), recency-weighted clicks per item when the bundle was made.
    """

    weights: Weights
    items: ItemVectors
    counts: Counts
    texts: ItemTexts
    rows: RowsByHash
    low_hashes: npt.NDArray[np.uint32]
    popularity: npt.NDArray[np.float64]


class ItemIds(Sequence[str]):
    """The ids of all items, in the order of their rows: read where they are needed, instead of kept as objects."""

    def __init__(self, texts: ItemTexts) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts.starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return id_in(self._texts, range(len(self))[index])


def served_form(config: NetworkConfig, weights: Weights, vocabulary: Vocabulary) -> ServedForm:
    """Pack a bundle.

    Args:
        config: of the network.
        weights: by name, with the shapes of `NetworkConfig.weights`.
        vocabulary: of the same bundle.
    """
    sharpness = float(weights["mixture.sharpness"]) if config.n_neighbours else 1.0
    items = pack_items(weights[INPUTS if config.tied else "output_embedding.weight"], weights["item_bias"], sharpness)
    packed = _PACKED | {INPUTS} if config.tied else _PACKED
    form = ServedForm(
        {name: weight for name, weight in weights.items() if name not in packed},
        items,
        pack_counts(weights[NEIGHBOURS], weights["mixture.shares"]) if config.n_neighbours else NO_COUNTS,
        item_texts(vocabulary.item_ids),
        rows_by_hash(vocabulary.hashes),
        vocabulary.hashes.astype(np.uint32),
        vocabulary.popularity,
    )
    return form_of(arrays_of(form))


def arrays_of(form: ServedForm) -> dict[str, npt.NDArray[Any]]:
    """Give all of a form as arrays with names."""
    arrays = {f"weights.{name}": np.asarray(weight) for name, weight in form.weights.items()}
    for part in _PARTS:
        fields = getattr(form, part)._asdict()
        arrays |= {f"{part}.{name}": np.asarray(value) for name, value in fields.items()}
    return arrays | {"low_hashes": form.low_hashes, "popularity": form.popularity}


def form_of(arrays: Mapping[str, npt.NDArray[Any]]) -> ServedForm:
    """Make a form of what `arrays_of` gave; no array can be written through it, wherever it lies.

    Raises:
        KeyError: some are missing.
    """
    prefix = "weights."
    views = {name: read_only(array) for name, array in arrays.items()}
    weights = {name.removeprefix(prefix): array for name, array in views.items() if name.startswith(prefix)}
    parts: dict[str, Any] = {
        part: kind(*(_plain(views[f"{part}.{name}"]) for name in kind._fields)) for part, kind in _PARTS.items()
    }
    return ServedForm(weights, low_hashes=views["low_hashes"], popularity=views["popularity"], **parts)


def fits(config: NetworkConfig, form: ServedForm) -> bool:
    """Tell whether compiled code can read a form without reading beside it: types, shapes, and what is an index.

    Takes 0.02 s of a million items with 20 neighbours each.
    """
    arrays, expected = arrays_of(form), _kinds_and_shapes(config, form)
    if arrays.keys() != expected.keys():
        return False
    for name, (kind, shape) in expected.items():
        array = arrays[name]
        if array.dtype != kind or array.shape != shape or not (array.flags.c_contiguous and array.flags.aligned):
            return False
    starts, neighbours, _, most = form.counts
    n_rows, rows = len(form.rows.rows), form.rows.rows
    return (
        _rise_to(starts, len(neighbours))
        and most == np.diff(starts).max(initial=0)
        and _are_between(neighbours, 0, config.n_items - 1)
        and _rise_to(form.texts.starts, len(form.texts.texts))
        and n_rows & (n_rows - 1) == 0
        and _are_between(rows, -1, config.n_items - 1)
        and bool((rows == -1).any())  # where a search for what is not there ends
    )


def _kinds_and_shapes(config: NetworkConfig, form: ServedForm) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Say what `served_form` gives; how many counts, bytes of text and places of hashes there are, the form says."""
    n_items, size = config.n_items, config.hidden_size
    n_blocks = -(-n_items // kernel.BLOCK)
    n_counts, n_texts, n_rows = (np.size(each) for each in (form.counts.neighbours, form.texts.texts, form.rows.rows))
    packed = _PACKED | {INPUTS} if config.tied else _PACKED
    weights = {name: shape for name, (_, shape) in config.weights().items() if name not in packed}
    return {f"weights.{name}": (np.float32, shape) for name, shape in weights.items()} | {
        "items.packed": (np.int32, (n_blocks, (size + 1) // 2, kernel.BLOCK)),
        "items.scales": (np.float32, (n_blocks * kernel.BLOCK,)),
        "items.biases": (np.float32, (n_blocks * kernel.BLOCK,)),
        "items.exact": (np.float32, (n_items, size)),
        "items.exact_biases": (np.float64, (n_items,)),
        "items.exact_scale": (np.float64, ()),
        "items.longest": (np.float64, ()),
        "items.largest_bias": (np.float64, ()),
        "counts.starts": (np.int64, (n_items + 1 if config.n_neighbours else 1,)),
        "counts.neighbours": (np.int32, (n_counts,)),
        "counts.shares": (np.float32, (n_counts,)),
        "counts.most": (np.int64, ()),
        "texts.texts": (np.uint8, (n_texts,)),
        "texts.starts": (np.int64, (n_items + 1,)),
        "rows.hashes": (np.uint64, (n_rows,)),
        "rows.rows": (np.int32, (n_rows,)),
        "low_hashes": (np.uint32, (n_items,)),
        "popularity": (np.float64, (n_items,)),
    }


def _rise_to(starts: npt.NDArray[np.int64], end: int) -> bool:
    return bool(starts[0] == 0 and starts[-1] == end and (starts[:-1] <= starts[1:]).all())


def _are_between(indices: npt.NDArray[np.int32], least: int, most: int) -> bool:
    return bool(indices.min(initial=least) >= least and indices.max(initial=least) <= most)


def _plain(array: npt.NDArray[Any]) -> Any:
    """Give a number as one of Python's, as compiled code knows it."""
    return array if array.ndim else array.item()


def _layout() -> str:
    """Name what packed arrays depend on: every source that has a say in them, and the processor."""
    sources = [Path(__file__), Path(hashing.__file__), *sorted(Path(kernel.__file__).parent.glob("*.py"))]
    kind = f"{kernel.BLOCK} {sys.byteorder}".encode()
    return hashlib.blake2b(b"".join([kind, *(path.read_bytes() for path in sources)]), digest_size=8).hexdigest()


LAYOUT = _layout()
