"""Clicks of the simulator for tests of running programs."""

from demo.simulator import Law, Simulator

NOW_MS = 1_700_000_000_000  # event time is in the value: any will do, and a fixed one repeats


def simulated(count: int, seed: int = 0) -> list[tuple[str, str, int]]:
    """Give clicks as (user, item, event time in ms)."""
    return [(c.user_id, c.item_id, c.timestamp_ms) for c in Simulator(Law(), seed).next_clicks(NOW_MS, count)]
