"""How long each click of a chunk took, and where: it waits, its list is computed, the broker takes it."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.advance import LoggedClick
from nextclick.trace_context import sampled_trace_id
from stream.metrics import WorkerMetrics


class ClickTimes(NamedTuple):
    """The times of a chunk's clicks, in s since 1970.

    Attributes:
        recorded: float64 (n_clicks,), the clicks' own records'.
        traces: of clicks that belong to one, by their places.
        begun_s: when their lists began to be computed.
        handed_s: when their updates were ready for the broker.
    """

    recorded: npt.NDArray[np.float64]
    traces: Mapping[int, bytes]
    begun_s: float
    handed_s: float

    @classmethod
    def until_now(cls, clicks: Sequence[LoggedClick], traces: Mapping[int, bytes], begun_s: float) -> "ClickTimes":
        """Note that the updates of a chunk's clicks are ready now."""
        recorded_ms = np.array([logged.record_timestamp_ms for logged in clicks], np.float64)
        return cls(recorded_ms / 1000.0, traces, begun_s, time.time())

    def note_durable(self, metrics: WorkerMetrics) -> None:
        """Note that the broker has the updates now; what a clock that is ahead has recorded took no time."""
        n_clicks = len(self.recorded)
        if not n_clicks:
            return
        now_s = time.time()
        metrics.latency.observe(np.maximum(now_s - self.recorded, 0.0))
        metrics.wait.observe(np.maximum(self.begun_s - self.recorded, 0.0))
        metrics.compute.observe_same(max(self.handed_s - self.begun_s, 0.0), n_clicks)
        metrics.publish.observe_same(max(now_s - self.handed_s, 0.0), n_clicks)
        self._name_slowest(metrics, now_s)

    def _name_slowest(self, metrics: WorkerMetrics, now_s: float) -> None:
        """Name the trace of the click that took longest, among those whose trace is kept."""
        kept = {place: trace_id for place, trace in self.traces.items() if (trace_id := sampled_trace_id(trace))}
        if kept:
            slowest = min(kept, key=self.recorded.__getitem__)
            metrics.latency.exemplify(max(now_s - float(self.recorded[slowest]), 0.0), kept[slowest], now_s)
