"""What a round of training leaves behind for the next one, beside the bundle."""

from typing import NamedTuple

from torch import Tensor

from nextclick.network import Network
from nextclick.vocabulary import Vocabulary
from training.learning.associations import AssociationCounts
from training.learning.item_statistics import ItemStatistics


class Checkpoint(NamedTuple):
    """All that a round goes on from. Nobody changes it: a round that is killed leaves it as it was.

    Attributes:
        network: as it is served.
        vocabulary: its items.
        squares: the optimizer's state, by the names of the network's weights.
        counts: of all clicks so far.
        items: what else is known of the items.
    """

    network: Network
    vocabulary: Vocabulary
    squares: dict[str, Tensor]
    counts: AssociationCounts
    items: ItemStatistics
