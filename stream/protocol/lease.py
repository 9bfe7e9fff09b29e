"""How long a worker may still believe that its partitions are its own. The time is handed in.

The broker gives a worker's partitions to another when it has not heard of it for the session timeout. A worker that
was paused for so long finds out with its next heartbeat, but would by then have written. So it counts for itself:
from the moment it sent a heartbeat that was answered, and it sends nothing when that is too long ago.
"""

import time

# Of the session timeout: time for what was sent just before the end to reach the broker.
MARGIN = 0.1


def now_s() -> float:
    """Give the time that leases count in: it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Held from an answered heartbeat until the broker could have given the partitions away."""

    def __init__(self, session_timeout_s: float) -> None:
        self._duration_s = session_timeout_s * (1 - MARGIN)
        self._renewed_s = float("-inf")

    def renew(self, sent_s: float) -> None:
        """Hold it from the time at which a heartbeat was sent that the broker answered (as `now_s` counts)."""
        self._renewed_s = max(self._renewed_s, sent_s)

    def void(self) -> None:
        """Give it up: the broker does not know this worker any more."""
        self._renewed_s = float("-inf")

    def is_held(self, at_s: float) -> bool:
        """Tell whether it is held."""
        return at_s < self._renewed_s + self._duration_s
