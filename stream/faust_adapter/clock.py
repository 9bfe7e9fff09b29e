"""The clock of leases and deadlines."""

import time


def now_s() -> float:
    """Give a time in seconds that goes on while the machine sleeps, as the broker's does. From any thread."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
