"""Every metric of the worker: name, type, unit, meaning. Labels have few values; no label ever names a user or an item.

The registry is handed in, so that two workers in one process (tests) do not share numbers.
"""

from prometheus_client import CollectorRegistry

from nextclick.clicks import IgnoreReason, RejectReason
from nextclick.experiment import CANARY_VARIANT, CHAMPION_VARIANT, EXPERIMENT, SHADOW_VARIANT
from nextclick.manifest import CHAMPION
from nextclick.rules import Rules
from nextclick.updates import POPULAR, RNN
from tools.bulk_histogram import coarse_bounds, fine_bounds
from tools.metrics import Declaring

_LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_RECOVERY_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
PHASES = ("starting", "joining", "restoring", "seeking", "serving", "draining")
_PART_BUCKETS_S = coarse_bounds(0.0001, 630)
_SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_STRATEGIES = (RNN, POPULAR)
HIT_PLACES = (1, 5, 20)
_VARIANTS = (CHAMPION_VARIANT, CANARY_VARIANT, SHADOW_VARIANT)


class WorkerMetrics:
    """The metrics of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        declare = Declaring(registry)
        self.declared = declare.declared
        self._declare_clicks(declare)
        self._declare_times(declare)
        self._declare_partitions(declare)
        self._declare_quality(declare)
        self._declare_clicked(declare)
        self._declare_trial(declare)
        self._declare_bundle(declare)
        self._declare_items(declare)

    def _declare_clicks(self, declare: Declaring) -> None:
        self.clicks = declare.counter(
            "nextclick_clicks",
            "Clicks by what became of them: applied, skipped (read again), repeated (of an event that was applied).",
            outcome=("applied", "skipped", "repeated"),
        )
        self.rejected = declare.counter(
            "nextclick_clicks_rejected", "Records that could not be used, by reason.", reason=RejectReason
        )
        self.ignored = declare.counter(
            "nextclick_records_ignored",
            "Records that are no clicks and not meant to be: of an event type that is not listed, or a delete.",
            reason=IgnoreReason,
        )
        self.lost = declare.counter(
            "nextclick_clicks_lost", "Offsets of the clicks topic that retention removed before they were read."
        )
        self.updates = declare.counter(
            "nextclick_updates", "Recommendation updates that the broker has, by strategy.", strategy=_STRATEGIES
        )
        self.chunk = declare.histogram(
            "nextclick_chunk_clicks", "Clicks that were applied as one batch.", _SIZE_BUCKETS
        )
        self.advance = declare.histogram(
            "nextclick_advance_seconds", "Time to advance and rank one chunk.", _LATENCY_BUCKETS_S
        )

    def _declare_times(self, declare: Declaring) -> None:
        self.latency = declare.bulk_histogram(
            "nextclick_click_to_update_seconds",
            "From a click record's timestamp until the broker has its update; of every click.",
            fine_bounds(0.002, 630),
        )
        self.wait = declare.bulk_histogram(
            "nextclick_click_wait_seconds", "Of that, until its list begins to be computed.", _PART_BUCKETS_S
        )
        self.compute = declare.bulk_histogram(
            "nextclick_click_compute_seconds", "Of that, until its update is ready for the broker.", _PART_BUCKETS_S
        )
        self.publish = declare.bulk_histogram(
            "nextclick_click_publish_seconds",
            "Of that, until the broker has it, with the wait for room where the broker is behind.",
            _PART_BUCKETS_S,
        )

    def _declare_partitions(self, declare: Declaring) -> None:
        self.phase = declare.gauge(
            "nextclick_phase", "1 for what the worker does now: to answer clicks is `serving`.", phase=PHASES
        )
        self.partitions = declare.gauge("nextclick_partitions", "Partitions of the clicks topic that are served now.")
        self.topic_partitions = declare.gauge(
            "nextclick_topic_partitions", "Partitions that the clicks topic has: each is to be served by some worker."
        )
        self.lag = declare.read_gauge(
            "nextclick_lag_records",
            "Records of a served partition that are not answered yet; where it ends is known to five seconds.",
            "partition",
        )
        self.oldest = declare.read_gauge(
            "nextclick_oldest_click_age_seconds",
            "Age of a served partition's oldest click that is not answered, by its record; 0: all are answered.",
            "partition",
        )
        self.standby_lag = declare.read_gauge(
            "nextclick_standby_lag_records",
            "Records that the copy of another worker's states does not have yet.",
            "partition",
        )
        self.rebalances = declare.read_counter(
            "nextclick_rebalances", "How often the consumer group has given the worker its partitions, or none."
        )
        self.leases_lost = declare.read_counter(
            "nextclick_lease_lost",
            "How often no heartbeat was answered for so long that the partitions may be another worker's.",
        )
        self.recovery_left = declare.gauge(
            "nextclick_recovery_left_records", "Changelog records that the running recovery still has to read."
        )
        self.recovery = declare.histogram(
            "nextclick_recovery_seconds", "Time to restore the user states after an assignment.", _RECOVERY_BUCKETS_S
        )
        self.users = declare.gauge("nextclick_state_users", "Users with a state in the local store, estimated.")

    def _declare_quality(self, declare: Declaring) -> None:
        self.judged = declare.counter(
            "nextclick_live_judged",
            "Clicks of users who had been shown a list before their batch, by the strategy of that list.",
            strategy=_STRATEGIES,
        )
        self.hits = declare.counter(
            "nextclick_live_hits",
            "Of these, clicks on an item of that list: hits / judged is the live hit rate.",
            strategy=_STRATEGIES,
        )
        self.reciprocal = declare.counter(
            "nextclick_live_reciprocal_ranks",
            "Sum of 1/place of these items: divided by judged it is the live MRR.",
            strategy=_STRATEGIES,
        )
        self.hits_at = declare.counter(
            "nextclick_live_hits_at",
            "Hits at one of the first k places.",
            strategy=_STRATEGIES,
            k=tuple(map(str, HIT_PLACES)),
        )
        self.popularity_hits = declare.counter(
            "nextclick_live_popularity_hits",
            "Of these, clicks on an item that popularity alone would have shown; under `exclude` by a sample.",
            strategy=_STRATEGIES,
        )
        self.popularity_reciprocal = declare.counter(
            "nextclick_live_popularity_reciprocal_ranks",
            "Sum of 1/place of the clicked items in the popular list.",
            strategy=_STRATEGIES,
        )
        self.association_hits = declare.counter(
            "nextclick_live_association_hits",
            "As many judged clicks the neighbour counts of the user's last item alone would have hit, by a sample.",
            strategy=_STRATEGIES,
        )
        self.association_reciprocal = declare.counter(
            "nextclick_live_association_reciprocal_ranks",
            "Sum of 1/place of these items among the neighbours.",
            strategy=_STRATEGIES,
        )
        self.explored_places = declare.counter(
            "nextclick_live_explored_places",
            "Places of judged lists that went to items which were shown little: their clicks are no live hits.",
        )
        self.explored_hits = declare.counter("nextclick_live_explored_hits", "Of these, places whose item was clicked.")
        self.new_items_judged = declare.counter(
            "nextclick_live_new_items_judged",
            "Judged clicks on items that the served bundle does not know: they are younger than it.",
        )
        self.new_items_hits = declare.counter(
            "nextclick_live_new_items_hits", "Of these, clicks on an item of the list that the user had been shown."
        )

    def _declare_clicked(self, declare: Declaring) -> None:
        self.on_unknown_items = declare.counter(
            "nextclick_clicks_on_unknown_items", "Applied clicks on items that the served bundle does not know."
        )
        self.of_new_users = declare.counter(
            "nextclick_clicks_of_new_users", "Applied clicks that are the first of their user."
        )
        self.calibration_judged = declare.counter(
            "nextclick_calibration_judged",
            "Judged clicks of a sample of users whose list's scores are remembered, of lists of the network.",
        )
        self.calibration_expected = declare.counter(
            "nextclick_calibration_expected", "Sum of the scores of these lists: the hits that they promise."
        )
        self.calibration_hits = declare.counter("nextclick_calibration_hits", "Hits of these clicks.")
        self.shown_items = declare.gauge(
            "nextclick_shown_items", "Different items in a sample of the lists of the last minutes."
        )
        # A ratio of 0 says something: before there is one there is no series.
        self.shown_coverage = declare.read_value(
            "nextclick_shown_coverage_ratio",
            "These, as a share of the items of the bundle. Not there without lists, or without a bundle.",
        )
        self.shown_concentration = declare.read_value(
            "nextclick_shown_concentration_ratio",
            "Share of these lists' places that the ten most shown items take. Not there without lists.",
        )

    def _declare_trial(self, declare: Declaring) -> None:
        self.trial = declare.info(
            "nextclick_bundle_on_trial",
            "The bundle that is tried on some users; empty: none.",
            "bundle",
            "kind",
            "share",
        )
        self.variant_judged = declare.counter(
            "nextclick_live_variant_judged",
            "While a bundle is tried on some users: judged clicks by whose list it was: champion, canary, shadow.",
            variant=_VARIANTS,
        )
        self.variant_hits = declare.counter(
            "nextclick_live_variant_hits", "Of these, clicks on an item of that list.", variant=_VARIANTS
        )
        self.variant_reciprocal = declare.counter(
            "nextclick_live_variant_reciprocal_ranks",
            "Sum of 1/place of the clicked items in these lists: divided by judged it is the MRR.",
            variant=_VARIANTS,
        )

    def _declare_bundle(self, declare: Declaring) -> None:
        self.bundle = declare.info(
            "nextclick_bundle", "The bundle that is served; empty while there is none.", "bundle", "cell"
        )
        self.bundle_created = declare.gauge(
            "nextclick_bundle_created_timestamp_seconds", "When the served bundle was made; 0: none."
        )
        self.bundle_items = declare.gauge("nextclick_bundle_items", "Items of the served bundle; 0: none.")
        self.swaps = declare.counter(
            "nextclick_bundle_swaps", "Announced bundles by result: swapped, refused.", result=("swapped", "refused")
        )
        self.refused = declare.gauge(
            "nextclick_bundle_refused",
            "1: what was announced last, or was served before the start, cannot be used, and is tried again; else 0.",
            announced=(CHAMPION, EXPERIMENT),
        )
        self.rules = declare.info(
            "nextclick_rules",
            "The shop's rules that lists are made under, and that live hits count under.",
            *Rules._fields,
        )

    def _declare_items(self, declare: Declaring) -> None:
        self.items = declare.gauge("nextclick_items", "Items of which the shop says something, about.")
        self.live_items = declare.gauge(
            "nextclick_live_items", "Items that the served bundle does not know, and lists can have."
        )
        self.items_age = declare.read_value(
            "nextclick_items_age_seconds",
            "How old what is known of items can be; lists wait when it is more than 0.8. 0: there is no such topic. "
            "Not there before the topic is followed.",
        )
        self.items_waited = declare.counter(
            "nextclick_items_waited_seconds",
            "For how long lists have waited because it was not known whether an item was withdrawn.",
        )
        self.items_unreadable = declare.counter(
            "nextclick_items_unreadable", "Records of items that cannot be used, and were passed over."
        )
