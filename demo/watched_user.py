"""One user at a time, to watch: the last clicks, and the list that follows each of them. Pure."""

from collections import deque
from typing import NamedTuple

from nextclick.updates import RecommendationUpdate

HOLD_S = 20.0  # then the user of the newest update is watched: this one's session may be over
_SHOWN_CLICKS = 8
_SHOWN_ITEMS = 8
_TEXT_CLICKS = 4  # what fits into a line of a terminal
_TEXT_ITEMS = 4
_MAX_USERS = 10_000  # whose clicks are kept: those who clicked last, several times those in a session


class WatchedUser(NamedTuple):
    """What there is to see of a user.

    Attributes:
        user_id: who it is.
        clicks: the last ones, the newest last, and whether each was on the list that was shown before it.
        items: the first ones of the list now.
    """

    user_id: str
    clicks: tuple[tuple[str, bool], ...]
    items: tuple[str, ...]

    @property
    def clicks_text(self) -> str:
        """The newest clicks in their order; a hit has a star."""
        return " > ".join(
            f"{item_id}{'*' if was_listed else ''}" for item_id, was_listed in self.clicks[-_TEXT_CLICKS:]
        )

    @property
    def items_text(self) -> str:
        """The beginning of the list."""
        return ", ".join(self.items[:_TEXT_ITEMS]) + ", ..." if self.items else "an empty list"


class _Trail:
    def __init__(self) -> None:
        self.clicks: deque[tuple[str, bool]] = deque(maxlen=_SHOWN_CLICKS)
        self.items: list[str] = []
        self.sequence = 0


class UserWatch:
    """Follows clicks and updates, and says what becomes of one user."""

    def __init__(self) -> None:
        self._trails: dict[str, _Trail] = {}
        self._user_id = ""
        self._since_s = 0.0

    def click(self, user_id: str, item_id: str) -> None:
        """Take a click of the topic."""
        trail = self._trails.pop(user_id, None) or _Trail()
        trail.clicks.append((item_id, item_id in trail.items))
        self._trails[user_id] = trail  # the last ones stay
        if len(self._trails) > _MAX_USERS:
            del self._trails[next(iter(self._trails))]

    def update(self, update: RecommendationUpdate, now_s: float) -> None:
        """Take an update of the topic.

        Args:
            update: what was read.
            now_s: of any clock that only goes forward.
        """
        trail = self._trails.get(update.user_id)
        if trail is None or update.sequence <= trail.sequence:
            return  # a repeated update, or one whose click has not been read yet
        trail.items, trail.sequence = [item.item_id for item in update.items], update.sequence
        is_over = self._user_id not in self._trails or now_s - self._since_s >= HOLD_S
        if is_over and len(trail.clicks) > 1:
            self._user_id, self._since_s = update.user_id, now_s

    @property
    def watched(self) -> WatchedUser | None:
        """The user who is watched now; None before the first one who clicked twice."""
        trail = self._trails.get(self._user_id)
        if trail is None:
            return None
        return WatchedUser(self._user_id, tuple(trail.clicks), tuple(trail.items[:_SHOWN_ITEMS]))
