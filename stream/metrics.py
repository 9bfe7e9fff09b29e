"""Every metric of the worker: name, type, unit, meaning. Labels have few values; no label ever names a user or an item.

The registry is handed in, so that two workers in one process (tests) do not share numbers.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from nextclick.clicks import IgnoreReason, RejectReason
from nextclick.updates import POPULAR, RNN
from tools.metrics import start_at_zero

_LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class WorkerMetrics:
    """The metrics of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clicks = Counter(
            "nextclick_clicks",
            "Clicks by what became of them: applied, skipped (read again), repeated (of an event that was applied).",
            ["outcome"],
            registry=registry,
        )
        self.rejected = Counter(
            "nextclick_clicks_rejected", "Records that could not be used, by reason.", ["reason"], registry=registry
        )
        self.ignored = Counter(
            "nextclick_records_ignored",
            "Records that are no clicks and not meant to be: of an event type that is not listed, or a delete.",
            ["reason"],
            registry=registry,
        )
        self.lost = Counter(
            "nextclick_clicks_lost",
            "Offsets of the clicks topic that retention removed before they were read.",
            registry=registry,
        )
        self.updates = Counter(
            "nextclick_updates",
            "Recommendation updates that the broker has, by strategy.",
            ["strategy"],
            registry=registry,
        )
        self.latency = Histogram(
            "nextclick_click_to_update_seconds",
            "From a click record's timestamp until the broker has its update; the oldest click of every run.",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.chunk = Histogram(
            "nextclick_chunk_clicks", "Clicks that were applied as one batch.", buckets=_SIZE_BUCKETS, registry=registry
        )
        self.advance = Histogram(
            "nextclick_advance_seconds",
            "Time to advance and rank one chunk.",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.judged = Counter(
            "nextclick_live_judged",
            "Clicks of users who had been shown a list before their batch, by the strategy of that list.",
            ["strategy"],
            registry=registry,
        )
        self.hits = Counter(
            "nextclick_live_hits",
            "Of these, clicks on an item of that list: hits / judged is the live hit rate.",
            ["strategy"],
            registry=registry,
        )
        self.popularity_hits = Counter(
            "nextclick_live_popularity_hits",
            "Of these, clicks on an item that popularity alone would have shown.",
            ["strategy"],
            registry=registry,
        )
        self.partitions = Gauge("nextclick_partitions", "Partitions of the clicks topic held now.", registry=registry)
        self.recovery_left = Gauge(
            "nextclick_recovery_left_records",
            "Changelog records that the running recovery still has to read.",
            registry=registry,
        )
        self.recovery = Histogram(
            "nextclick_recovery_seconds",
            "Time to restore the user states after an assignment.",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.bundle = Info(
            "nextclick_bundle", "The bundle that is served; empty while there is none.", registry=registry
        )
        self.bundle_created = Gauge(
            "nextclick_bundle_created_timestamp_seconds", "When the served bundle was made; 0: none.", registry=registry
        )
        self.swaps = Counter(
            "nextclick_bundle_swaps", "Announced bundles by result: swapped, refused.", ["result"], registry=registry
        )
        # So that the first burst is seen: a rate begins with a value before.
        start_at_zero(self.clicks, ("applied", "skipped", "repeated"))
        start_at_zero(self.rejected, RejectReason)
        start_at_zero(self.ignored, IgnoreReason)
        for counter in (self.updates, self.judged, self.hits, self.popularity_hits):
            start_at_zero(counter, (RNN, POPULAR))
        start_at_zero(self.swaps, ("swapped", "refused"))
