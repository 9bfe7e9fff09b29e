"""Every metric of the job: name, type, unit, meaning. What is counted is committed: what is read again counts once."""

from prometheus_client import CollectorRegistry

from nextclick.clicks import IgnoreReason, RejectReason
from tools.metrics import Declaring


class RekeyMetrics:
    """The metrics of one job."""

    def __init__(self, registry: CollectorRegistry) -> None:
        declare = Declaring(registry)
        self.declared = declare.declared
        self.records = declare.counter("nextclick_rekey_records", "Records of the source that were dealt with.")
        self.copies = declare.counter("nextclick_rekey_copies", "Records that the destination got.")
        self.divided = declare.counter(
            "nextclick_rekey_divided", "Records with events of several users: a copy for each of them."
        )
        self.rejected = declare.counter(
            "nextclick_rekey_rejected",
            "Records, or events of one that was divided, that went to the rejected ones, by reason.",
            reason=RejectReason,
        )
        self.ignored = declare.counter(
            "nextclick_rekey_ignored",
            "Records, or events of one that was divided, that are no clicks and not meant to be.",
            reason=IgnoreReason,
        )
        self.lost = declare.counter(
            "nextclick_rekey_lost", "Offsets of the source that retention removed before they were read."
        )
        self.transactions = declare.counter(
            "nextclick_rekey_transactions",
            "Transactions by result: committed, aborted (its records are read again).",
            result=("committed", "aborted"),
        )
        self.lag = declare.gauge("nextclick_rekey_lag_records", "Records that wait in the held partitions.")
        self.partitions = declare.gauge("nextclick_rekey_partitions", "Partitions of the source held by this instance.")
