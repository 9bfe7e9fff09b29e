"""How a worker stands: what its metrics read when somebody asks, from the threads of whoever scrapes."""

import time
from collections.abc import Mapping
from functools import partial

from stream.faust_adapter.app import WorkerParts
from stream.faust_adapter.clock import now_s
from stream.metrics import PHASES, WorkerMetrics
from stream.protocol.assignment import Assignments, Partition


def measure_standing(metrics: WorkerMetrics, parts: WorkerParts) -> None:
    """Let metrics show from now on how a worker stands."""
    assignments, watchdog = parts.assignments, parts.watchdog
    for phase in PHASES:
        metrics.phase.labels(phase).set_function(partial(_is_in, assignments, phase))
    metrics.partitions.set_function(lambda: len(_served(assignments)))
    metrics.lag.set_function(lambda: _lags(assignments))
    metrics.oldest.set_function(lambda: _ages_s(assignments))
    metrics.standby_lag.set_function(lambda: _by_name(parts.port.standby_lag()))
    metrics.rebalances.set_function(lambda: assignments.n_given)
    metrics.leases_lost.set_function(lambda: watchdog.n_leases_lost)
    metrics.recovery_left.set_function(lambda: assignments.current.restore_left)
    metrics.users.set_function(parts.store.n_users)


def _is_in(assignments: Assignments, phase: str) -> bool:
    return assignments.current.phase.name.lower() == phase


def _served(assignments: Assignments) -> Mapping[int, Partition]:
    """Give the partitions that are served. Those of a worker without a lease may be another one's by now."""
    assignment = assignments.current
    return assignment.partitions if assignment.serves and assignment.lease.is_held(now_s()) else {}


def _lags(assignments: Assignments) -> Mapping[str, float]:
    return {str(n): each.backlog.lag(each.position, each.acknowledged) for n, each in _served(assignments).items()}


def _ages_s(assignments: Assignments) -> Mapping[str, float]:
    wall_ms = int(time.time() * 1000)
    return {
        str(number): partition.backlog.oldest_age_s(partition.position, now_s(), wall_ms)
        for number, partition in _served(assignments).items()
    }


def _by_name(values: Mapping[int, int]) -> Mapping[str, float]:
    return {str(number): float(value) for number, value in values.items()}
