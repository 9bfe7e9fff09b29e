"""The network as a recommender: trained for a fixed number of passes on all training sessions."""

from dataclasses import dataclass, field
from threading import Event

import numpy as np
import torch

from nextclick.network import Network, NetworkConfig
from nextclick.settings import Settings
from training.fit import fit
from training.growth import grown_network
from training.offline.recommender import Floats
from training.sequences import Ints, Sequences, padded_rows, training_windows
from training.watch import Watch

_MAX_HISTORY = 200  # clicks of a session before the first of a batch's predictions; older ones are forgotten


@dataclass(slots=True)
class NetworkRecommender:
    """Learns as the trainer does, without a validation part.

    Attributes:
        settings: of the trainer.
        passes: over the training clicks.
    """

    settings: Settings
    passes: int = 0
    _network: Network = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Learn, as `Recommender`."""
        settings = self.settings
        torch.manual_seed(settings.seed)
        config = NetworkConfig(n_items, settings.hidden_size, settings.cell, settings.tied)  # type: ignore[arg-type]
        counts = np.bincount(train.item, minlength=n_items).astype(np.float64)
        self._network = grown_network(None, config, counts)
        windows = training_windows(train, int(train.age_rank.max(initial=-1)) + 1, settings.recent_clicks + 1)
        pass_numbers = iter(range(settings.epochs))
        fitted = fit(
            self._network,
            0,
            train.item,
            train,
            windows,
            settings,
            lambda _: float(next(pass_numbers)),  # the last pass is the one to keep
            Watch(Event()),
        )
        self.passes = fitted.epochs

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Run the network over the sessions, as `Recommender`."""
        session = np.searchsorted(clicks.user_starts, rows, side="right") - 1
        sessions, first_of_session, window = np.unique(session, return_index=True, return_inverse=True)
        first = np.maximum(clicks.user_starts[sessions], rows[first_of_session] - _MAX_HISTORY)
        last = np.maximum.reduceat(rows, first_of_session)
        self._network.eval()
        with torch.inference_mode():
            history, _ = padded_rows(first, last - first)
            inputs = self._network.inputs(
                torch.from_numpy(clicks.item[history]),
                torch.from_numpy(clicks.event_type[history]),
                torch.from_numpy(clicks.gap_s[history]),
            )
            outputs, _ = self._network.run(inputs, torch.zeros(len(first), self._network.config.state_size))
            said = outputs[torch.from_numpy(window), torch.from_numpy(rows - 1 - first[window])]
            scores: Floats = self._network.scores(said).numpy()
        return scores
