"""Every metric of the job: name, type, unit, meaning. What is counted is committed: what is read again counts once."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from nextclick.clicks import IgnoreReason, RejectReason
from tools.metrics import start_at_zero


class RekeyMetrics:
    """The metrics of one job."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "nextclick_rekey_records", "Records of the source that were dealt with.", registry=registry
        )
        self.copies = Counter("nextclick_rekey_copies", "Records that the destination got.", registry=registry)
        self.divided = Counter(
            "nextclick_rekey_divided",
            "Records with events of several users: a copy for each of them.",
            registry=registry,
        )
        self.rejected = Counter(
            "nextclick_rekey_rejected",
            "Records, or events of one that was divided, that went to the rejected ones, by reason.",
            ["reason"],
            registry=registry,
        )
        self.ignored = Counter(
            "nextclick_rekey_ignored",
            "Records, or events of one that was divided, that are no clicks and not meant to be.",
            ["reason"],
            registry=registry,
        )
        self.lost = Counter(
            "nextclick_rekey_lost",
            "Offsets of the source that retention removed before they were read.",
            registry=registry,
        )
        self.transactions = Counter(
            "nextclick_rekey_transactions",
            "Transactions by result: committed, aborted (its records are read again).",
            ["result"],
            registry=registry,
        )
        self.lag = Gauge("nextclick_rekey_lag_records", "Records that wait in the held partitions.", registry=registry)
        self.partitions = Gauge(
            "nextclick_rekey_partitions", "Partitions of the source held by this instance.", registry=registry
        )
        # So that the first burst is seen: a rate begins with a value before.
        start_at_zero(self.rejected, RejectReason)
        start_at_zero(self.ignored, IgnoreReason)
        start_at_zero(self.transactions, ("committed", "aborted"))
