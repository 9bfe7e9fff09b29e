"""Whether requests should come to a feed."""

from feed.parts import FeedParts
from tools.kafka import Failure

_AWAY = "answering, Kafka is away"
_STATUS = {
    None: "answering",
    Failure.GONE: "answering, the topic is not there",
    Failure.PASSING: _AWAY,
    Failure.REFUSED: _AWAY,
}


def readiness_of(feed: FeedParts) -> tuple[bool, str]:
    """Tell whether it is ready, and what it does. Not until the lists are up to date once, and not at the end.

    Lists of before are enough while the topic cannot be read: another instance would not have newer ones.
    """
    failure = feed.follower.failure
    if feed.is_ending:
        return False, "ending"
    if not feed.follower.caught_up.is_set() and (failure is None or not feed.lists.has_lists):
        return False, "reading the lists"
    if not feed.shop.caught_up.is_set() and failure is None:
        return False, "reading what the shop says of its items"
    return True, _STATUS[failure]


def hears_broker(feed: FeedParts) -> bool:
    """Tell whether Kafka answers, as far as the follower of the lists has noticed."""
    return feed.follower.failure not in (Failure.PASSING, Failure.REFUSED)
