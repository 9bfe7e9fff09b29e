"""Judges a new network, the champion, popularity and counts by the same predictions: clicks that none has learnt.

Decides nothing: see `training.service.publication`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.bundle import MAX_WEIGHT
from nextclick.network import Network
from nextclick.ranking_metrics import Ranks
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.learning.cancellation import Cancellation
from training.learning.compared import Compared
from training.learning.judgement import Judgement, Lists
from training.learning.lead import Leads, leads_after
from training.learning.sequences import ClickColumns, Ints, Sequences
from training.learning.served_lists import lists_as_served, most_popular, users_before
from training.learning.validation import (
    Predictions,
    choose_predictions,
    network_ranks,
    popularity_ranks,
    quality_of,
)
from training.learning.yardstick import counts_ranks

MAX_PREDICTIONS = 20_000  # of a validation: standard error of a recall of .3 is .003
_MIN_PREDICTIONS = 5_000  # with very many items so few suffice
_MAX_SCORES = 2_000_000_000  # of items are computed for each network: seconds
_MAX_LISTS = 2_000  # that are made as served; standard error of a share of .3 is .01
_MAX_LIST_SCORES = 2_000_000_000


class Contender(NamedTuple):
    """A network that is judged, and its items."""

    network: Network
    vocabulary: Vocabulary

    @property
    def is_finite(self) -> bool:
        """Whether all weights are numbers that serving takes."""
        weights = self.network.state_dict().values()
        return all(bool((weight.abs() <= MAX_WEIGHT).all()) for weight in weights if weight.is_floating_point())


class Judging:
    """The predictions by which networks are compared."""

    def __init__(
        self,
        clicks: ClickColumns,
        sequences: Sequences,
        n_train: int,
        popularity: npt.NDArray[np.float64],
        settings: Settings,
    ) -> None:
        """Choose the predictions.

        Args:
            clicks: all of a round, oldest first.
            sequences: the same, grouped by user.
            n_train: the oldest so many are not predicted.
            popularity: float64 (len(clicks.item_ids),), before the first click that is predicted.
            settings: of the trainer.
        """
        n_items = max(len(clicks.item_ids), 1)
        n_predictions = min(MAX_PREDICTIONS, max(_MIN_PREDICTIONS, _MAX_SCORES // n_items))
        self._clicks, self._sequences, self._seed = clicks, sequences, settings.seed
        self._predictions = choose_predictions(
            sequences, n_train, len(sequences), n_predictions, settings.recent_clicks
        )
        self._popularity = popularity_ranks(popularity, sequences, self._predictions)
        self._popular = most_popular(popularity, clicks.item_ids)
        sampled = self._sample(min(_MAX_LISTS, _MAX_LIST_SCORES // n_items))
        self._users = users_before(sequences, sampled, clicks.item_ids, settings.recent_clicks)

    def judgement(
        self, new: Contender, champion: Contender | None, before: Leads | None, cancellation: Cancellation
    ) -> Judgement:
        """Judge by all predictions. Takes seconds.

        Args:
            new: the new network.
            champion: the network in use; None if there is none.
            before: leads of the new network's parent; None if it has none.
            cancellation: asked between batches.

        Raises:
            TrainingCancelled: the end was requested.
        """
        ranks = {"new": self._ranks(new, cancellation)}
        if champion is not None:
            ranks["champion"] = self._ranks(champion, cancellation)
        counts = self._counts_ranks(new)
        if counts is not None:
            ranks["counts"] = counts
        compared = self._compared(ranks)
        return Judgement(
            new=quality_of(ranks["new"]),
            champion=quality_of(ranks["champion"]) if "champion" in ranks else None,
            popularity=quality_of(self._popularity),
            counts=quality_of(counts) if counts is not None else None,
            over_champion=compared.over("champion"),
            lists=self._lists(new, cancellation) if new.is_finite else None,
            champion_lists=self._lists(champion, cancellation) if champion is not None else None,
            leads=_leads(compared, before),
        )

    def recall(self, contender: Contender, cancellation: Cancellation) -> float:
        """Give a network's recall alone, by the same predictions."""
        return quality_of(self._ranks(contender, cancellation)).recall

    def _sample(self, n: int) -> Predictions:
        """Draw predictions evenly: the newest alone would be those of an hour."""
        n_predictions = len(self._predictions.target)
        if n_predictions <= n:
            return self._predictions
        chosen = np.random.default_rng(self._seed).choice(n_predictions, n, replace=False)
        return self._predictions.take(np.sort(chosen))

    def _known_to(self, contender: Contender) -> Sequences:
        return self._sequences.renumbered(item_index_in(contender.vocabulary, self._clicks))

    def _ranks(self, contender: Contender, cancellation: Cancellation) -> Ranks:
        sequences = self._known_to(contender)
        return network_ranks(contender.network, sequences, self._predictions, self._popularity, cancellation)

    def _counts_ranks(self, contender: Contender) -> Ranks | None:
        """Rank by the counts of a network; None where it has none."""
        mixture = contender.network.mixture
        if mixture is None:
            return None
        return counts_ranks(mixture, self._known_to(contender), self._predictions, self._popularity)

    def _lists(self, contender: Contender, cancellation: Cancellation) -> Lists:
        # The items of the sample are those of the clicks: for each network they are numbered anew.
        item_index = item_index_in(contender.vocabulary, self._clicks)
        users = self._users._replace(target=item_index[self._users.target])
        sequences = self._sequences.renumbered(item_index)
        return lists_as_served(*contender, sequences, users, self._popular, cancellation)

    def _compared(self, ranks: Mapping[str, Ranks]) -> Compared:
        user = np.searchsorted(self._sequences.user_starts, self._predictions.target, side="right") - 1
        return Compared(ranks, user, self._seed)


def _leads(compared: Compared, before: Leads | None) -> Leads | None:
    own = compared.lead()
    return leads_after(own, before) if own is not None else None


def item_index_in(vocabulary: Vocabulary, clicks: ClickColumns) -> Ints:
    """Give the row of every item of the clicks in a vocabulary, int64 (n_items,); -1 where it is unknown."""
    return np.array([vocabulary.index_of.get(item_id, -1) for item_id in clicks.item_ids], dtype=np.int64)
