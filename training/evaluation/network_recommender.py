"""The network as a recommender: trained as the stream's trainer does, on all training sessions."""

from dataclasses import dataclass, field

import numpy as np
import torch

from nextclick.network import Network
from nextclick.settings import Settings
from training.evaluation.recommender import Floats
from training.learning.cancellation import NEVER_CANCELLED
from training.learning.fit import fit, network_config
from training.learning.sequences import Ints, Sequences, TrainingSet
from training.learning.validation import Contexts, Predictions, features_before

_MAX_CONTEXT = 200  # clicks of a session before the first of a batch's predictions; older ones are forgotten


@dataclass(slots=True)
class NetworkRecommender:
    """Learns as the trainer does.

    Attributes:
        settings: of the trainer.
        passes: over the training clicks.
        network: as it would be served.
    """

    settings: Settings
    passes: int = 0
    network: Network = field(init=False, repr=False)
    _contexts: Contexts | None = field(init=False, repr=False, default=None)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Learn, as `Recommender`."""
        torch.manual_seed(self.settings.seed)
        self.network = Network(network_config(self.settings, n_items))
        training_set = TrainingSet(train, len(train))
        self.passes = fit(self.network, training_set, self.settings, NEVER_CANCELLED).epochs

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Give probabilities, as `Recommender`."""
        session = np.searchsorted(clicks.user_starts, rows, side="right") - 1
        first_of_session = np.unique(session, return_index=True, return_inverse=True)
        first_rows = rows[first_of_session[1]][first_of_session[2]]
        predictions = Predictions(rows, np.maximum(clicks.user_starts[session], first_rows - _MAX_CONTEXT))
        contexts = self._contexts_of(clicks)
        scores = np.empty((len(rows), self.network.config.n_items), dtype=np.float32)
        for chosen, features in features_before(self.network, contexts, predictions, NEVER_CANCELLED):
            with torch.inference_mode():
                context = contexts.of(rows[chosen])
                scores[chosen] = self.network.probabilities(features, context).numpy()
        return scores

    def _contexts_of(self, clicks: Sequences) -> Contexts:
        """Prepare them once: all of a test part is asked for in many batches."""
        if self._contexts is None or self._contexts.sequences is not clicks:
            self._contexts = Contexts(clicks)
        return self._contexts
