"""Every cell with every loss, on real clicks."""

from threading import Event

import pytest
import torch

from nextclick.settings import Settings
from tests.real_clicks import real_clicks
from training.learning.cancellation import Cancellation
from training.learning.fit import _Schedule
from training.learning.losses import LOSSES
from training.learning.training_data import TrainingData
from training.learning.training_round import train_round

N_CLICKS = 5_000


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """About half a day."""
    return real_clicks(N_CLICKS)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_every_cell_with_every_loss_learns_from_nothing(
    data: TrainingData, cell: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without counts, and without the vectors that they give to begin with: these alone find a lot.

    Before anything is learnt, the last click's own vector finds 1.8 to 1.95 times what popularity does.
    """
    torch.set_num_threads(1)
    monkeypatch.setattr(_Schedule, "start_warm", lambda course: None)
    settings = Settings(cell=cell, loss=loss, hidden_size=64, epochs=2, dropout=0.1, neighbours=0, normalised=False)

    outcome = train_round(data, None, settings, Cancellation(Event()))

    assert outcome.judgement.new.recall > 2.3 * outcome.judgement.popularity.recall
