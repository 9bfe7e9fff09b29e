"""Free ports for a local broker."""

import random
import socket

_HOST = "127.0.0.1"
# Below the range that Linux gives to outgoing connections: nothing takes a stopped broker's port before it is back.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen there now; nothing reserves it."""
    with socket.socket() as probe:
        # As Java's servers do: connections that are only winding down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Pick one at random, so that two programs that pick at the same time hardly ever pick the same."""
    return next(port for port in iter(lambda: random.choice(_RANGE), None) if is_free(port))
