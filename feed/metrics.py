"""Every metric of the feed: name, type, unit, meaning."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry

from tools.metrics import Declaring

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_USUAL = ("200", "400", "401", "404", "500", "503")  # others are there from their first answer on
_UPDATE_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)


class FeedMetrics:
    """The metrics of one feed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        declare = Declaring(registry)
        self.declared = declare.declared
        self._declare_requests(declare)
        self._declare_lists(declare)
        self._declare_items(declare)

    def _declare_requests(self, declare: Declaring) -> None:
        self.request = declare.histogram(
            "nextclick_feed_request_seconds",
            "From a request to the end of its response; event streams are not in it.",
            _REQUEST_S,
            route=(),
            method=(),
        )
        self.requests = declare.counter(
            "nextclick_feed_requests", "Requests by the status of their answer.", route=(), method=(), status=()
        )
        self.streams = declare.gauge("nextclick_feed_streams", "Event streams that are open.")
        self.events = declare.counter("nextclick_feed_events", "Lists that were sent to event streams.")
        self.clicks = declare.counter(
            "nextclick_feed_clicks", "Clicks by what became of them.", result=("taken", "refused", "failed")
        )

    def begin_route(self, route: str, methods: Collection[str]) -> None:
        """Let the series of a route be there before its first request."""
        for method in methods:
            self.request.labels(route, method)
            for status in _USUAL:
                self.requests.labels(route, method, status)

    def note_request(self, route: str, method: str, status: int, took_s: float) -> None:
        """Count a request that was answered; 0 s for an event stream, whose length says nothing."""
        self.requests.labels(route, method, str(status)).inc()
        if took_s:
            self.request.labels(route, method).observe(took_s)

    def _declare_lists(self, declare: Declaring) -> None:
        self.updates = declare.counter("nextclick_feed_updates", "Updates that were stored.")
        self.unreadable = declare.counter("nextclick_feed_unreadable", "Records of the topic of updates that are none.")
        self.latency = declare.histogram(
            "nextclick_feed_click_to_stored_seconds",
            "From the click's record to its list in the store, after the store has caught up.",
            _UPDATE_S,
        )
        self.behind = declare.gauge("nextclick_feed_behind_records", "Updates of the topic that are not stored yet.")
        self.users = declare.gauge("nextclick_feed_users", "Users with a list, estimated.")
        self.store_bytes = declare.gauge("nextclick_feed_store_bytes", "Bytes of the files of the lists.")
        self.bundle = declare.info("nextclick_feed_bundle", "The bundle that is at work; empty: none.", "bundle")
        self.swaps = declare.counter(
            "nextclick_feed_bundle_swaps",
            "Bundles that were announced, by result.",
            result=("swapped", "refused"),
        )

        self.refused = declare.gauge(
            "nextclick_feed_bundle_refused",
            "1: the bundle that was announced last cannot be used, or the one of before the start, and is tried again; "
            "else 0.",
        )

    def _declare_items(self, declare: Declaring) -> None:
        self.items = declare.gauge("nextclick_feed_items", "Items of which the shop says something, about.")
        self.items_age = declare.gauge(
            "nextclick_feed_items_age_seconds",
            "How old what is known of items can be. 0: there is no such topic.",
        )
        self.items_unreadable = declare.counter(
            "nextclick_feed_items_unreadable", "Records of items that cannot be used."
        )
