"""Item-to-item association as it learns from the stream: a baseline for the list that was really sent. Pure.

Counts as `training.evaluation.baselines.association` does: in one session, within so many clicks, either way round.
"""

import heapq
from collections import deque

_MAX_DISTANCE = 20  # clicks
_SESSION_GAP_MS = 1_800_000  # a longer pause ends a session
_MAX_PAIRS = 1_000_000  # about 100 MB; beyond it counts are halved, and what was seen once is forgotten


class LiveAssociation:
    """Guesses each click from the user's last one and from all clicks before it, then counts it."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._n_pairs = 0
        self._counts: dict[str, dict[str, int]] = {}
        self._sessions: dict[str, tuple[int, deque[str]]] = {}  # newest click's time; clicks, the newest first

    def click(self, user_id: str, item_id: str, timestamp_ms: int) -> bool:
        """Take the next click of the log.

        Returns:
            Whether it is among the k items that are most often near the user's last item; False if there is none.
        """
        last_ms, near = self._sessions.get(user_id, (timestamp_ms, deque[str](maxlen=_MAX_DISTANCE)))
        hit = bool(near) and item_id in self._best(near[0])
        if timestamp_ms - last_ms > _SESSION_GAP_MS:
            near.clear()
        for other in near:
            self._count(item_id, other)
            self._count(other, item_id)
        near.appendleft(item_id)
        self._sessions[user_id] = max(last_ms, timestamp_ms), near
        if self._n_pairs > _MAX_PAIRS:
            self._forget_rare_pairs()
        return hit

    def _best(self, item_id: str) -> list[str]:
        counts = self._counts.get(item_id, {})
        return heapq.nlargest(self._k, counts, key=counts.__getitem__)

    def _count(self, item_id: str, other: str) -> None:
        counts = self._counts.setdefault(item_id, {})
        self._n_pairs += other not in counts
        counts[other] = counts.get(other, 0) + 1

    def _forget_rare_pairs(self) -> None:
        halved = {
            item_id: {other: count // 2 for other, count in counts.items() if count > 1}
            for item_id, counts in self._counts.items()
        }
        self._counts = {item_id: counts for item_id, counts in halved.items() if counts}
        self._n_pairs = sum(map(len, self._counts.values()))
