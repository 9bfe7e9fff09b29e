"""The network as a recommender: trained as the stream's trainer does, on all training sessions."""

from dataclasses import dataclass, field
from threading import Event

import numpy as np
import torch

from nextclick.network import Network
from nextclick.settings import Settings
from training.evaluation.recommender import Floats
from training.learning.evaluate import Predictions, features_before
from training.learning.fit import Lesson, fit
from training.learning.growth import grown_network
from training.learning.histories import Histories
from training.learning.sequences import Ints, Sequences
from training.learning.training_round import network_config
from training.learning.watch import Watch

_MAX_HISTORY = 200  # clicks of a session before the first of a batch's predictions; older ones are forgotten


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
    _asked: tuple[Sequences, Histories] | None = field(init=False, repr=False, default=None)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Learn, as `Recommender`."""
        torch.manual_seed(self.settings.seed)
        counts = np.bincount(train.item, minlength=n_items).astype(np.float64)
        self.network = grown_network(None, network_config(self.settings, n_items), counts)
        lesson = Lesson(train.item, train, len(train), n_known=0)
        self.passes = fit(self.network, lesson, self.settings, Watch(Event())).epochs

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Give probabilities, as `Recommender`."""
        session = np.searchsorted(clicks.user_starts, rows, side="right") - 1
        first_of_session = np.unique(session, return_index=True, return_inverse=True)
        first_rows = rows[first_of_session[1]][first_of_session[2]]
        predictions = Predictions(rows, np.maximum(clicks.user_starts[session], first_rows - _MAX_HISTORY))
        histories = self._histories(clicks)
        scores = np.empty((len(rows), self.network.config.n_items), dtype=np.float32)
        watch = Watch(Event())
        for chosen, features in features_before(self.network, clicks.item, clicks, histories, predictions, watch):
            with torch.inference_mode():
                history = histories.before(rows[chosen])
                scores[chosen] = self.network.probabilities(features, history).numpy()
        return scores

    def _histories(self, clicks: Sequences) -> Histories:
        """Prepare them once: all of a test part is asked for in many batches."""
        if self._asked is None or self._asked[0] is not clicks:
            self._asked = clicks, Histories(clicks.item, clicks)
        return self._asked[1]
