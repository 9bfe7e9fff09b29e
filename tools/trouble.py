"""Says what goes wrong, and the same kind of trouble not again for a minute."""

import logging
import time

_SAY_EVERY_S = 60.0  # of a kind
_log = logging.getLogger(__name__)


class Trouble:
    """What was said, and how much was not."""

    def __init__(self) -> None:
        self._say_again_s: dict[str, float] = {}
        self._n_unsaid: dict[str, int] = {}

    def say(self, kind: str, text: str) -> None:
        """Say it, or count it.

        Args:
            kind: one of a few names; what differs each time would be said each time.
            text: what is wrong, and what to do.
        """
        now_s = time.monotonic()
        if now_s < self._say_again_s.get(kind, now_s):
            self._n_unsaid[kind] = self._n_unsaid.get(kind, 0) + 1
            return
        self._say_again_s[kind] = now_s + _SAY_EVERY_S
        n_unsaid = self._n_unsaid.pop(kind, 0)
        _log.warning("%s%s", text, f" ({n_unsaid} more like it were not said)" if n_unsaid else "")
