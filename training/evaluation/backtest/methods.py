"""The methods that a backtest compares, by name: how each learns what came since the round before."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from nextclick.network import Network
from nextclick.ranking_metrics import Ranks, ranks_of_targets
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.evaluation.backtest.slices import Slice
from training.evaluation.backtest.window import training_window
from training.evaluation.models import MODELS, NETWORK_SETTINGS, Parameters, Value
from training.evaluation.recommender import Recommender
from training.learning.cancellation import NEVER_CANCELLED
from training.learning.checkpoint import Checkpoint
from training.learning.continual import Continued, continue_fit, fit_anew, round_clicks
from training.learning.sequences import ClickColumns, Ints, group_by_user
from training.learning.validation import MISSED, network_ranks, popularity_ranks, popularity_weights

_BATCH_SCORES = 20_000_000  # numbers in a score matrix (float32: 80 MB)

Weights = npt.NDArray[np.float64]


class Method(Protocol):
    """What takes part in a backtest. It is pickled between its rounds."""

    def learn(self, log: ClickColumns) -> None:
        """Learn what came since the last call.

        Args:
            log: all clicks until now, oldest first; the arrays are read from a file where they are touched. Numbers
                of users and items mean the same in every round; `item_ids` has items of later rounds, too.
        """

    def ranks(self, ahead: Slice) -> Ranks:
        """Rank the clicked item of each prediction, from its user's clicks before it and from nothing else.

        Returns:
            int64 (n_predictions,), from 1; `MISSED` where the method does not know the item.
        """


@dataclass(slots=True)
class Served:
    """A network as workers serve it: popular items stand in where it knows none of a user's clicks."""

    network: Network
    vocabulary: Vocabulary
    popularity: Weights  # float64 (n_items of the log,), of the clicks that it was trained on

    def ranks(self, ahead: Slice) -> Ranks:
        """Rank, as `Method`."""
        sequences = ahead.sequences.renumbered(rows_of(self.vocabulary.item_ids, ahead.item_ids))
        fallback = popularity_ranks(self.popularity, ahead.sequences, ahead.predictions)
        return network_ranks(self.network, sequences, ahead.predictions, fallback, NEVER_CANCELLED)


@dataclass(slots=True)
class Anew:
    """Trains a network from nothing on the window of every round."""

    settings: Settings
    served: Served | None = field(default=None, repr=False)

    def learn(self, log: ClickColumns) -> None:
        """Fit, as `Method`: all of the window, with nothing held back to judge it."""
        clicks = training_window(log, self.settings).clicks
        made = fit_anew(clicks, self.settings, NEVER_CANCELLED)
        self.served = served(made, log.item_ids)

    def ranks(self, ahead: Slice) -> Ranks:
        """Rank, as `Method`."""
        assert self.served is not None
        return self.served.ranks(ahead)


@dataclass(slots=True)
class Continual:
    """Learns what is new, from the checkpoint of the round before; in the first round everything."""

    settings: Settings
    checkpoint: Checkpoint | None = field(default=None, repr=False)
    n_seen: int = 0
    served: Served | None = field(default=None, repr=False)

    def learn(self, log: ClickColumns) -> None:
        """Go on, as `Method`; nothing is held back."""
        if self.checkpoint is None:
            made = fit_anew(training_window(log, self.settings).clicks, self.settings, NEVER_CANCELLED)
        else:
            rng = np.random.default_rng([self.settings.seed, len(log.item_index)])
            data = round_clicks(log, self.n_seen, self.settings, rng)
            made = continue_fit(self.checkpoint, data, self.settings, NEVER_CANCELLED)
        self.checkpoint, self.n_seen = made.checkpoint, len(log.item_index)
        self.served = served(made, log.item_ids)

    def ranks(self, ahead: Slice) -> Ranks:
        """Rank, as `Method`."""
        assert self.served is not None
        return self.served.ranks(ahead)


@dataclass(slots=True)
class Frozen:
    """Learns in the first round only."""

    method: Method
    has_learnt: bool = False

    def learn(self, log: ClickColumns) -> None:
        """Learn once, as `Method`."""
        if not self.has_learnt:
            self.method.learn(log)
            self.has_learnt = True

    def ranks(self, ahead: Slice) -> Ranks:
        """Rank, as `Method`."""
        return self.method.ranks(ahead)


@dataclass(slots=True)
class Refitted:
    """A recommender of `nextclick evaluate`, fitted anew on the window of every round."""

    settings: Settings
    recommender: Recommender
    items: Ints = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)  # its item_index -> that of the log
    popularity: Weights = field(default_factory=lambda: np.zeros(0), repr=False)

    def learn(self, log: ClickColumns) -> None:
        """Fit, as `Method`."""
        clicks = training_window(log, self.settings).clicks
        self.items, item_index = np.unique(clicks.item_index, return_inverse=True)
        self.popularity = popularity_weights(clicks, len(clicks.item_index), self.settings.popularity_half_life_s)
        self.recommender.fit(group_by_user(clicks._replace(item_index=item_index)), len(self.items))

    def ranks(self, ahead: Slice) -> Ranks:
        """Rank, as `Method`; popular items stand in where it knows none of a user's clicks, as for networks."""
        new_index = np.full(len(ahead.item_ids), -1, dtype=np.int64)
        new_index[self.items] = np.arange(len(self.items))
        numbered = ahead.sequences.renumbered(new_index)
        is_known = numbered.item_index >= 0
        before = np.append(0, np.cumsum(is_known))  # clicks that are left, before each row
        target = ahead.predictions.target
        has_context = before[target] > before[ahead.sequences.first_row_of_user()[target]]
        ranks = np.where(has_context, MISSED, popularity_ranks(self.popularity, ahead.sequences, ahead.predictions))
        known, asked = numbered.known(), np.flatnonzero(has_context & is_known[target])
        batch = max(1, _BATCH_SCORES // max(len(self.items), 1))
        for begin in range(0, len(asked), batch):
            part = asked[begin : begin + batch]
            rows = before[target[part]]
            ranks[part] = ranks_of_targets(self.recommender.scores(known, rows), known.item_index[rows])
        return ranks


def served(made: Continued, item_ids: list[str]) -> Served:
    """Give what is served of a fit; popularity by the items of the log."""
    row = rows_of(made.vocabulary.item_ids, item_ids)
    popularity = np.where(row >= 0, made.vocabulary.popularity[row], 0.0)
    return Served(made.network, made.vocabulary, popularity)


def rows_of(item_ids: "list[str] | tuple[str, ...]", all_ids: list[str]) -> Ints:
    """Give the place in `item_ids` of each of all ids, int64 (n,); -1 where it is not there."""
    place = {item_id: number for number, item_id in enumerate(item_ids)}
    return np.array([place.get(item_id, -1) for item_id in all_ids], dtype=np.int64)


class Entry(NamedTuple):
    """How to make a method.

    Attributes:
        make: from the settings of one run, with its seed, and from parameters that differ from their defaults.
        parameters: all that can be given, with the values that they have otherwise.
        is_seeded: whether the seed makes a difference.
    """

    make: Callable[[Settings, Parameters], Method]
    parameters: Callable[[Settings], dict[str, Value]]
    is_seeded: bool


def _network(kind: Callable[[Settings], Method]) -> Entry:
    def make(settings: Settings, parameters: Parameters) -> Method:
        changed: dict[str, Any] = dict(parameters)
        return kind(dataclasses.replace(settings, **changed))

    return Entry(make, lambda settings: {name: getattr(settings, name) for name in NETWORK_SETTINGS}, is_seeded=True)


def _baseline(name: str) -> Entry:
    model = MODELS[name]
    return Entry(
        lambda settings, parameters: Refitted(settings, model.make(settings, parameters)), model.parameters, False
    )


METHODS: Mapping[str, Entry] = {
    "frozen": _network(lambda settings: Frozen(Anew(settings))),
    "continual": _network(Continual),
    "anew": _network(Anew),
    **{name: _baseline(name) for name, model in MODELS.items() if not model.is_seeded},
}
USUAL_METHODS = ["frozen", "continual", "anew", "popularity", "association", "session-knn"]
REFERENCE = "anew"  # what the others are compared with
