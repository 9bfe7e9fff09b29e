"""Every metric of the feed: name, type, unit, meaning."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tools.metrics import start_at_zero

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_UPDATE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)


class FeedMetrics:
    """The metrics of one feed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Histogram(
            "nextclick_feed_request_seconds",
            "From a request to the end of its response, by route, method and status; event streams are not in it.",
            ["route", "method", "status"],
            buckets=_REQUEST_S,
            registry=registry,
        )
        self.streams = Gauge("nextclick_feed_streams", "Event streams that are open.", registry=registry)
        self.events = Counter("nextclick_feed_events", "Lists that were sent to event streams.", registry=registry)
        self.updates = Counter("nextclick_feed_updates", "Updates that were stored.", registry=registry)
        self.unreadable = Counter(
            "nextclick_feed_unreadable", "Records of the topic of updates that are none.", registry=registry
        )
        self.latency = Histogram(
            "nextclick_feed_click_to_stored_seconds",
            "From the click's record to its list in the store, after the store has caught up.",
            buckets=_UPDATE_S,
            registry=registry,
        )
        self.behind = Gauge(
            "nextclick_feed_behind_records", "Updates of the topic that are not stored yet.", registry=registry
        )
        self.clicks = Counter("nextclick_feed_clicks", "Clicks by what became of them.", ["result"], registry=registry)
        self.swaps = Counter(
            "nextclick_feed_bundle_swaps", "Bundles that were announced, by result.", ["result"], registry=registry
        )
        self.users = Gauge("nextclick_feed_users", "Users with a list, estimated.", registry=registry)
        self.store_bytes = Gauge("nextclick_feed_store_bytes", "Bytes of the files of the lists.", registry=registry)
        start_at_zero(self.clicks, ("taken", "refused", "failed"))
        start_at_zero(self.swaps, ("swapped", "refused"))
