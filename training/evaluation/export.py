"""Writes what an evaluation was made with in the forms that the stream takes: a bundle to serve, clicks to replay."""

import csv
import time
from pathlib import Path

from nextclick.bundle import save_bundle
from nextclick.clicks import EVENT_TYPES, OTHER_EVENT
from nextclick.errors import PermanentError
from nextclick.ranking_metrics import mrr_at, ndcg_at, recall_at
from nextclick.vocabulary import Vocabulary
from training.evaluation.network_recommender import NetworkRecommender
from training.evaluation.offline_data import OfflineData, in_log_order
from training.evaluation.runs import LIST_LENGTH, Outcome
from training.learning.validation import popularity_weights

_OTHER_EVENT_NAME = "other"  # any word that is none of EVENT_TYPES


def save_network(store: Path, trained: NetworkRecommender, data: OfflineData, outcome: Outcome) -> Path:
    """Write a trained network as a bundle, with the popularity of the training part.

    Returns:
        The bundle's folder, below `store`.

    Raises:
        PermanentError: it cannot be written.
        BundleError: it is larger than a bundle may be.
    """
    clicks = in_log_order(data.train, data.train_ms, data.item_ids)
    weights = popularity_weights(clicks, len(clicks.item_index), trained.settings.popularity_half_life_s)
    metrics: dict[str, float] = {
        "clicks": len(data.train),
        "epochs": outcome.passes,
        "predictions": len(outcome.rank),
        "recall@20": recall_at(outcome.rank, LIST_LENGTH),
        "mrr@20": mrr_at(outcome.rank, LIST_LENGTH),
        "ndcg@20": ndcg_at(outcome.rank, LIST_LENGTH),
    }
    vocabulary = Vocabulary(data.item_ids, weights)
    created_ms = time.time_ns() // 1_000_000
    try:
        manifest = save_bundle(store, trained.network, vocabulary, created_ms=created_ms, metrics=metrics)
    except OSError as error:
        raise PermanentError(f"--save-bundle: the bundle cannot be written to {store}: {error}") from None
    return store / manifest.bundle_id


def save_test_clicks(path: Path, data: OfflineData) -> None:
    """Write the clicks of the test part as a CSV file that `nextclick replay` sends: each session as a user.

    Raises:
        PermanentError: it cannot be written.
    """
    clicks = in_log_order(data.test, data.test_ms, data.item_ids)
    events = dict(enumerate(EVENT_TYPES)) | {OTHER_EVENT: _OTHER_EVENT_NAME}
    columns = (column.tolist() for column in (clicks.user, clicks.item_index, clicks.timestamp_ms, clicks.event_type))
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "item_id", "timestamp", "event_type"])
            for session, item, timestamp_ms, event_type in zip(*columns, strict=True):
                # In seconds: a number is milliseconds only if it is large enough.
                row = (f"session-{session}", clicks.item_ids[item], timestamp_ms / 1000, events[event_type])
                writer.writerow(row)
    except OSError as error:
        raise PermanentError(f"--save-test: {path} cannot be written: {error}") from None
