"""Every metric of the trainer: name, type, unit, meaning. Labels have few values; no label ever names a user or item.

The registry is handed in, so that two trainers in one process (tests) do not share numbers.
"""

from prometheus_client import CollectorRegistry

from nextclick.clicks import IgnoreReason, RejectReason
from tools.metrics import Declaring

_ROUND_BUCKETS_S = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
# What a bundle is refused for (see `training.service.publication`).
REFUSALS = (
    "nothing_to_judge",
    "not_finite",
    "not_better_than_popularity",
    "worse_than_champion",
    "worse_than_counts",
    "badly_calibrated",
    "covers_little",
    "mostly_popular",
    "slow",
)


class TrainerMetrics:
    """The metrics of one trainer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        declare = Declaring(registry)
        self.declared = declare.declared
        self._declare_log(declare)
        self._declare_rounds(declare)
        self._declare_decisions(declare)
        self._declare_cost(declare)
        self._declare_models(declare)

    def _declare_log(self, declare: Declaring) -> None:
        self.logged = declare.counter(
            "nextclick_trainer_clicks_logged", "Clicks that this process wrote to the click log."
        )
        self.rejected = declare.counter(
            "nextclick_trainer_clicks_rejected", "Records that could not be used, by reason.", reason=RejectReason
        )
        self.ignored = declare.counter(
            "nextclick_trainer_records_ignored",
            "Records that are no clicks and not meant to be: of an event type that is not listed, or a delete.",
            reason=IgnoreReason,
        )
        self.log_clicks = declare.gauge("nextclick_trainer_log_clicks", "Clicks in the click log; 0 without the role.")
        self.lost = declare.counter(
            "nextclick_trainer_clicks_lost",
            "Offsets of the clicks topic that were gone before they were read, and were passed over.",
        )
        self.has_role = declare.gauge(
            "nextclick_trainer_has_role", "1: this process is the application's trainer, and logs clicks; 0: it waits."
        )
        self.lag = declare.gauge(
            "nextclick_trainer_lag_records",
            "Records of the clicks topic that are not in the click log yet; where it ends is known to ten seconds. 0 "
            "without the role.",
        )
        self.log_age = declare.gauge(
            "nextclick_trainer_log_age_seconds",
            "How long ago all clicks that had been read were in the click log; 0 without the role.",
        )
        self.store_reachable = declare.gauge(
            "nextclick_trainer_store_reachable",
            "1: the object store of the click log answers, or there is none; 0: clicks wait for it.",
        )
        self.store_reachable.set(1)

    def _declare_rounds(self, declare: Declaring) -> None:
        self.rounds = declare.counter(
            "nextclick_trainer_rounds",
            "Trainings by result: published, refused, held (by a pin or a canary), failed, stopped.",
            result=("published", "refused", "held", "failed", "stopped"),
        )
        self.round = declare.histogram(
            "nextclick_trainer_round_seconds",
            "Time of one training, from reading the log to the announcement.",
            _ROUND_BUCKETS_S,
        )
        self.clicks_learnt = declare.counter(
            "nextclick_trainer_round_clicks",
            "Clicks that trainings learnt from: by their seconds, how fast they learn.",
        )
        # A ratio of 0 says something: before there is one there is no series.
        self.recall = declare.read_gauge(
            "nextclick_trainer_recall_at_20_ratio",
            "Recall@20 on the newest clicks in the last training: of new, current, popularity, counts. From 0 to 1.",
            "model",
        )
        self.mrr = declare.read_gauge(
            "nextclick_trainer_mrr_at_20_ratio",
            "MRR@20 on the same clicks: of new, current, popularity, counts. From 0 to 1.",
            "model",
        )
        self.lead = declare.read_value(
            "nextclick_trainer_lead_over_counts_ratio",
            "How far new bundles are ahead of neighbour counts, averaged over trainings: 0.1 is 10% in recall + MRR.",
        )

    def _declare_decisions(self, declare: Declaring) -> None:
        self.decision = declare.info(
            "nextclick_trainer_decision",
            "What was decided of the last trained bundle, and why; empty: not yet.",
            "decision",
            "reason",
            "bundle",
        )
        self.decided = declare.gauge(
            "nextclick_trainer_decision_timestamp_seconds", "When that was decided; 0: not yet."
        )
        self.refusals = declare.counter(
            "nextclick_trainer_refusals",
            "Bundles that were refused, by what for; one can be refused for several things.",
            reason=REFUSALS,
        )
        self.in_a_row = declare.gauge(
            "nextclick_trainer_refused_in_a_row",
            "Trainings that were refused, or failed, since one ended otherwise, or since the start.",
        )

    def _declare_cost(self, declare: Declaring) -> None:
        self.runs = declare.gauge("nextclick_trainer_round_running", "1: a training goes on, else 0.")
        self.last_s = declare.gauge("nextclick_trainer_last_round_seconds", "What the last training took; 0: none yet.")
        self.last_clicks = declare.gauge("nextclick_trainer_last_round_clicks", "Clicks that it learnt from.")
        self.device = declare.info(
            "nextclick_trainer_device", "Where the last training computed; empty: none yet.", "device", "name"
        )
        self.cpu = declare.read_counter(
            "nextclick_trainer_rounds_cpu_seconds", "Processor time of the processes of trainings that have ended."
        )
        self.memory = declare.gauge(
            "nextclick_trainer_rounds_peak_memory_bytes", "The most memory that the process of a training has taken."
        )

    def _declare_models(self, declare: Declaring) -> None:
        self.canaries = declare.counter(
            "nextclick_trainer_canaries",
            "Canaries that the trainer ended by itself, by what became of them: roll back, promote, end.",
            decision=("roll back", "promote", "end"),
        )
        self.undecodable = declare.counter(
            "nextclick_trainer_announcements_undecodable",
            "Records on the topic models that are no announcement; the champion stays the one before.",
        )
        self.bundle = declare.info("nextclick_trainer_bundle", "The bundle that was published last.", "bundle", "cell")
        self.bundle_items = declare.gauge("nextclick_trainer_bundle_items", "Items of that bundle.")
        self.bundle_created = declare.gauge(
            "nextclick_trainer_bundle_created_timestamp_seconds", "When that bundle was made; 0: none yet."
        )
