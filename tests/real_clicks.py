"""Real clicks for tests. They cannot be distributed: where they are not, such a test skips and says so."""

import functools
from pathlib import Path

import numpy as np
import pytest

from tools.click_files.choices import AUTO, Choices
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise
from tools.click_files.recorded import RecordedClicks
from training.learning.sequences import ClickColumns
from training.learning.training_data import TrainingData

REAL_CLICKS = Path(__file__).parents[1] / "../shared/data/yoochoose_100k.csv.gz"


def real_clicks(count: int) -> TrainingData:
    """Give the oldest clicks of the file as a training reads them; 5,000 are about half a day."""
    if not REAL_CLICKS.exists():
        pytest.skip(f"{REAL_CLICKS} is not there: it cannot be distributed")
    read = _read().first(count)
    assert read.timestamp_ms is not None
    nothing = np.zeros(count, dtype=np.int64)
    user, item = read.user_index.astype(np.int64), read.item_index.astype(np.int64)
    clicks = ClickColumns(user, item, read.timestamp_ms, nothing, read.items.to_pylist())
    return TrainingData(clicks, count, nothing, np.arange(count))


@functools.cache
def _read() -> RecordedClicks:
    return read_clicks(recognise(REAL_CLICKS, AUTO, Choices()))
