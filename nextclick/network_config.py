"""What makes a network: its sizes and kinds, the names and shapes of its weights, and what its terms look back on.

Serving and training share it; nothing here computes anything, so that a worker needs no torch to know it.
"""

from typing import Annotated, Literal

import msgspec

from nextclick.clicks import EVENT_TYPES
from nextclick.settings import MAX_HIDDEN_SIZE, MAX_NEIGHBOURS

N_GAP_BINS = 24  # powers of two of a second: the last bin is gaps of 97 days and more
N_EVENT_ROWS = len(EVENT_TYPES) + 1  # the last row is every other event type

NEIGHBOURS = "mixture.neighbours"  # the one weight that is whole numbers: rows of the item embedding
INPUT_SCALE = 4.0  # of item vectors of length 1 as inputs: numbers of about 1/3 at width 128, as the gates like them

N_AGES = 8  # clicks that the mixture's terms look back on: more gains nothing (docs/model.md)
N_TERMS = 1 + 2 * N_AGES  # the network, neighbours by age, re-clicks by age
MAX_SESSION_CLICKS = 20  # a session's length is told apart up to here
SESSION_GAP_S = 1_800  # a longer pause ends a session; the usual half hour of web analytics

# How a pair of clicks of a session counts; measured on diginetica's validation part.
MAX_DISTANCE = 10  # clicks; those that are further apart do not count
PAIR_BACKWARD = 0.7  # weight of an earlier click as neighbour of a later one
PAIR_SHRINKAGE = 5.0  # added to the sum of an item's counts: what was seen once is not yet known

_GATES = {"gru": 3, "lstm": 4, "rnn": 1}


class NetworkConfig(msgspec.Struct, frozen=True):
    """What makes two networks' weights interchangeable.

    Attributes:
        n_items: rows of the item embedding.
        hidden_size: width of embeddings and hidden state.
        cell: `gru`, `lstm` or `rnn` (tanh).
        tied: items are scored with the input embedding, not with one of their own.
        skip: the last click's input vector is added to what the cell says, element by element weighted.
        normalised: item vectors and what they are compared with have length 1, so that popular items do not win by
            the length of their vectors; a score is their cosine times `scale`.
        n_neighbours: length of the neighbour lists that are mixed in (see `nextclick.mixture`); 0: the network alone.
    """

    n_items: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    hidden_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_HIDDEN_SIZE)] = 128
    cell: Literal["gru", "lstm", "rnn"] = "gru"
    tied: bool = True
    # What bundles of older versions do not name, they do not have.
    skip: bool = False
    normalised: bool = False
    n_neighbours: Annotated[int, msgspec.Meta(ge=0, le=MAX_NEIGHBOURS)] = 0

    @property
    def state_size(self) -> int:
        """Numbers that the cell carries from click to click: h, or h and c for the LSTM."""
        return self.hidden_size * (2 if self.cell == "lstm" else 1)

    def weights(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Give type and shape of every weight that a bundle holds, by its name in `Network`; allocates nothing."""
        size, gates, neighbours = self.hidden_size, _GATES[self.cell], (self.n_items, self.n_neighbours)
        shapes: dict[str, tuple[int, ...]] = {
            "item_embedding.weight": (self.n_items, size),
            "item_bias": (self.n_items,),
            "event_embedding.weight": (N_EVENT_ROWS, size),
            "gap_embedding.weight": (N_GAP_BINS, size),
            "cell.weight_ih_l0": (gates * size, size),
            "cell.weight_hh_l0": (gates * size, size),
            "cell.bias_ih_l0": (gates * size,),
            "cell.bias_hh_l0": (gates * size,),
        }
        if not self.tied:  # else the output embedding is the input embedding and is saved once
            shapes["output_embedding.weight"] = (self.n_items, size)
        if self.skip:
            shapes["skip"] = (size,)
        if self.normalised:
            shapes["scale"] = ()
        if self.n_neighbours:
            shapes |= {
                "mixture.of_term": (N_TERMS,),
                "mixture.of_length": (N_TERMS,),
                "mixture.of_support": (N_TERMS,),
                "mixture.of_newest_support": (N_TERMS,),
                "mixture.of_age": (N_TERMS,),
                NEIGHBOURS: neighbours,
                "mixture.shares": neighbours,
                "mixture.support": (self.n_items,),
                "mixture.sharpness": (),
            }
        return {name: ("I32" if name == NEIGHBOURS else "F32", shape) for name, shape in shapes.items()}
