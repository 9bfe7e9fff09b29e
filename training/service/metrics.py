"""Every metric of the trainer: name, type, unit, meaning. Labels have few values; no label ever names a user or item.

The registry is handed in, so that two trainers in one process (tests) do not share numbers.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from nextclick.clicks import IgnoreReason, RejectReason
from tools.metrics import start_at_zero

_ROUND_BUCKETS_S = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class TrainerMetrics:
    """The metrics of one trainer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.logged = Counter(
            "nextclick_trainer_clicks_logged", "Clicks that this process wrote to the click log.", registry=registry
        )
        self.rejected = Counter(
            "nextclick_trainer_clicks_rejected",
            "Records that could not be used, by reason.",
            ["reason"],
            registry=registry,
        )
        self.ignored = Counter(
            "nextclick_trainer_records_ignored",
            "Records that are no clicks and not meant to be: of an event type that is not listed, or a delete.",
            ["reason"],
            registry=registry,
        )
        self.log_clicks = Gauge("nextclick_trainer_log_clicks", "Clicks in the click log.", registry=registry)
        self.lag = Gauge(
            "nextclick_trainer_lag_records", "Records of the clicks topic that were not read yet.", registry=registry
        )
        self.rounds = Counter(
            "nextclick_trainer_rounds",
            "Trainings by result: published, refused, failed.",
            ["result"],
            registry=registry,
        )
        self.undecodable = Counter(
            "nextclick_trainer_announcements_undecodable",
            "Records on the topic models that are no announcement; the champion stays the one before.",
            registry=registry,
        )
        self.round = Histogram(
            "nextclick_trainer_round_seconds",
            "Time of one training, from reading the log to the announcement.",
            buckets=_ROUND_BUCKETS_S,
            registry=registry,
        )
        self.speed = Gauge(
            "nextclick_trainer_clicks_per_second", "Clicks learnt per second in the last training.", registry=registry
        )
        self.recall = Gauge(
            "nextclick_trainer_recall_at_20",
            "Recall@20 on the newest clicks in the last training: of new, current, popularity. From 0 to 1.",
            ["model"],
            registry=registry,
        )
        self.bundle = Info("nextclick_trainer_bundle", "The bundle that was published last.", registry=registry)
        self.bundle_created = Gauge(
            "nextclick_trainer_bundle_created_timestamp_seconds",
            "When that bundle was made; 0: none yet.",
            registry=registry,
        )
        # So that the first burst is seen: a rate begins with a value before.
        start_at_zero(self.rejected, RejectReason)
        start_at_zero(self.ignored, IgnoreReason)
        start_at_zero(self.rounds, ("published", "refused", "failed", "stopped"))
