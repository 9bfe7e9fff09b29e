"""What a training that begins anew reads: the trainer's window of a log in memory, by the trainer's own function."""

from functools import partial

import numpy as np
import pyarrow as pa

from nextclick.settings import Settings
from training.learning.sequences import ClickColumns
from training.learning.training_data import LogSegment, TrainingData, select_training_data

_SEGMENT_CLICKS = 20_000  # are read together, as a file of the click log is


def training_window(log: ClickColumns, settings: Settings) -> TrainingData:
    """Give the newest clicks and a sample of older users, as in a round of the trainer.

    Args:
        log: all clicks until now, oldest first.
        settings: of the trainer: `recent_window_clicks`, `replay_share`, and the seed of the sample.
    """
    n = len(log.item_index)
    _, user = np.unique(log.user, return_inverse=True)
    # Numbers instead of strings: an Arrow dictionary whose values are the ids.
    users = pa.array([str(number) for number in range(int(user.max()) + 1)])
    items = pa.array(log.item_ids)

    def read(begin: int) -> pa.Table:
        rows = slice(begin, begin + _SEGMENT_CLICKS)
        n_rows = len(user[rows])
        return pa.table(
            {
                "user_id": pa.DictionaryArray.from_arrays(pa.array(user[rows]), users),
                "item_id": pa.DictionaryArray.from_arrays(pa.array(log.item_index[rows]), items),
                "timestamp_ms": log.timestamp_ms[rows],
                "event_type": log.event_type[rows],
                "partition": np.zeros(n_rows, np.int64),
                "offset": np.arange(begin, begin + n_rows),
                "event_hash": np.zeros(n_rows, np.int64),
            }
        )

    segments = [
        LogSegment(0, begin, begin + _SEGMENT_CLICKS - 1, partial(read, begin))
        for begin in range(0, n, _SEGMENT_CLICKS)
    ]
    return select_training_data(
        segments,
        settings.recent_window_clicks,
        settings.replay_share,
        settings.recent_clicks,
        int(log.timestamp_ms.max()),  # what the time is now
        np.random.default_rng([settings.seed, n]),
    )
