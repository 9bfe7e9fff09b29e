"""What shops do to a stream: a crawler among people, and a catalogue that turns over. Sizes and shares, no times."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import msgspec
import numpy as np

from nextclick.bundle import load_network, save_bundle
from nextclick.popularity import Popularity
from nextclick.settings import Settings
from nextclick.updates import Recommendation
from training.learning.cancellation import Cancellation
from training.learning.sequences import ClickColumns
from training.learning.training_data import TrainingData
from training.learning.training_round import Champion, train_round

N_PEOPLES_CLICKS, N_CRAWLED = 2_000, 5_000
LIST_LENGTH = 20
DAY_MS = 86_400_000
_DAY_START_MS = 1_700_000_000_000

N_ITEMS, N_NEW, N_CLICKS = 400, 80, 4_000  # of a catalogue, new in each round, of a round


def crawled_places(n_items: int) -> int:
    """Count the places of a list for new users that a crawler's items get.

    Args:
        n_items: that the crawler clicks in turn, in N_CRAWLED of a day's clicks.
    """
    draw = random.Random(0)
    clicks = [(f"user-{draw.randrange(500)}", f"item-{draw.randrange(100)}") for _ in range(N_PEOPLES_CLICKS)]
    clicks += [("crawler", f"crawled-{number % n_items}") for number in range(N_CRAWLED)]
    draw.shuffle(clicks)
    popularity = Popularity(Settings().popularity_half_life_s)
    for number, (user, item) in enumerate(clicks):
        popularity.add(user, item, _DAY_START_MS + number * DAY_MS // len(clicks))
    shown = msgspec.json.decode(popularity.ranked(LIST_LENGTH).items, type=list[Recommendation])
    return sum(item.item_id.startswith("crawled") for item in shown)


def bundle_bytes(n_rounds: int) -> Iterator[int]:
    """Give the size of the bundle after each of several trainings, between which a fifth of the items is replaced."""
    settings = Settings(hidden_size=16, epochs=1, min_clicks=100)
    champion = None
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        for number in range(n_rounds):
            outcome = train_round(_clicks(number * N_NEW, number), champion, settings, Cancellation(Event()))
            manifest = save_bundle(
                Path(folder),
                outcome.made.network,
                outcome.made.vocabulary,
                created_ms=number,
                metrics=outcome.metrics(),
            )
            path = Path(folder) / manifest.bundle_id
            champion = Champion(*load_network(path))
            yield sum(file.stat().st_size for file in path.iterdir())


def _clicks(first_item: int, seed: int) -> TrainingData:
    """Draw clicks of a catalogue that begins with an item."""
    rng = np.random.default_rng(seed)
    item, user = rng.integers(N_ITEMS, size=N_CLICKS), rng.integers(N_CLICKS // 10, size=N_CLICKS)
    item_ids = [f"item-{first_item + number:05}" for number in range(N_ITEMS)]
    clicks = ClickColumns(user, item, np.arange(N_CLICKS) * 500, item * 0, item_ids)
    return TrainingData(clicks, N_CLICKS, item * 0, np.arange(N_CLICKS))
