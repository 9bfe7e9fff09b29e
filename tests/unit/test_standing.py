"""What the metrics of a worker say of its partitions, and when they say nothing."""

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from stream.faust_adapter.clock import now_s
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignments, Partition, Phase
from stream.standing import measure_standing

SESSION_S = 1_000.0


def test_a_partition_counts_while_the_lease_is_held_and_no_longer() -> None:
    """Afterwards it may be another worker's, which has clicks of its own to tell of."""
    registry, assignments = CollectorRegistry(), Assignments(SESSION_S, now_s())
    _measure(registry, assignments)
    assignment = assignments.current
    assignment.active, assignment.partitions = frozenset({3}), {3: Partition(0)}
    assignment.partitions[3].backlog.note_end(7, position=0, now_s=now_s())
    assignment.lease.renew(now_s())
    assignment.enter(Phase.RESTORING, now_s())
    restoring = _values(registry)
    assignment.enter(Phase.SERVING, now_s())
    serving = _values(registry)
    assignment.lease.void(now_s())

    assert restoring == (0, None, None)
    assert serving[:2] == (1, 7)
    assert serving[2] is not None
    assert _values(registry) == (0, None, None)


def _measure(registry: CollectorRegistry, assignments: Assignments) -> None:
    port, store = SimpleNamespace(standby_lag=dict), SimpleNamespace(n_users=lambda: 0)
    parts = SimpleNamespace(assignments=assignments, watchdog=SimpleNamespace(n_leases_lost=0), port=port, store=store)
    measure_standing(WorkerMetrics(registry), cast(Any, parts))


def _values(registry: CollectorRegistry) -> tuple[float | None, float | None, float | None]:
    of_partition = {"partition": "3"}
    return (
        registry.get_sample_value("nextclick_partitions"),
        registry.get_sample_value("nextclick_lag_records", of_partition),
        registry.get_sample_value("nextclick_oldest_click_age_seconds", of_partition),
    )
