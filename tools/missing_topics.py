"""What to say of topics that are not there: a misspelt name must not be created because a message said so."""

import difflib
from collections.abc import Iterable, Sequence

from nextclick.settings import Settings

_CLOSE = 0.75  # of 1: `shop.evnts` and `shop.events`, not `clicks` and `clicks-rejected`


def did_you_mean(name: str, found: Iterable[str]) -> str:
    """Give a question with the topic whose name is close to one that is not there; empty when none is.

    Args:
        name: that is not there.
        found: the topics that are.
    """
    by_folded = {each.casefold(): each for each in found}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=_CLOSE)
    return f" (did you mean {by_folded[close[0]]!r}?)" if close else ""


def missing_topics(missing: Sequence[str], found: Iterable[str], settings: Settings) -> str:
    """Say that topics are not there, and what to do.

    Args:
        missing: their names.
        found: the topics that are there.
        settings: name the topics.
    """
    clicks = settings.clicks_topic
    ours = (settings.recommendations_topic, settings.rejected_topic, settings.models_topic, settings.items_topic)
    others = set(found) - set(ours)
    meant = did_you_mean(clicks, others) if clicks in missing else ""
    correct = "correct the setting clicks_topic, or " if meant else ""
    hidden = "" if settings.security_protocol == "PLAINTEXT" else " that this user may describe"
    nouns = "topics" if len(missing) > 1 else "topic"
    return (
        f"expected the {nouns} {', '.join(missing)} at {settings.broker}, found none of that name{hidden}{meant}; "
        f"{correct}run `nextclick topics{_options(settings)}`"
    )


def _options(settings: Settings) -> str:
    """Give the options that name the same broker and the same clicks."""
    default = Settings()
    broker = f" --broker {settings.broker}" if settings.broker != default.broker else ""
    is_named = settings.clicks_topic != default.clicks_topic
    return f"{broker} --set clicks_topic={settings.clicks_topic}" if is_named else broker
