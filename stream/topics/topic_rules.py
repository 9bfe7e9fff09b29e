"""What the configuration of the topics must be, and what it should be. Looks at values; asks no broker.

What loses clicks or states, or stops the worker sooner or later, is refused. What only weakens a promise is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nextclick.settings import Settings

HOUR_MS = 3600 * 1000
SAFE_REPLICAS = 3
SAFE_IN_SYNC = 2


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the broker describes it.

    Attributes:
        config: values by Kafka's names.
        replicas: the fewest of its partitions.
        partitions: how many it has.
    """

    config: Mapping[str, str]
    replicas: int
    partitions: int

    @property
    def policies(self) -> set[str]:
        """What is done with old records: `delete`, `compact`, both or nothing."""
        return {policy.strip() for policy in self.config["cleanup.policy"].split(",") if policy.strip()}


class _Rule(NamedTuple):
    topic: str
    compacted: bool
    because: str


def refusals(settings: Settings, topics: Mapping[str, TopicFacts]) -> list[str]:
    """Give a line for every topic of those that are there with which a worker must not start."""
    rules = (
        _Rule(settings.clicks_topic, False, "compaction takes clicks before they are read"),
        _Rule(
            settings.rejected_topic, False, "a compacted topic takes no record without a key, and clicks can lack it"
        ),
        _Rule(settings.models_topic, True, "the announcement of the bundle in use would be deleted"),
        _Rule(settings.items_topic, True, "an item that was withdrawn would be back in the lists after a while"),
        _Rule(settings.changelog_topic, True, "states of users who have not clicked for a while would be deleted"),
    )
    return [
        f"topic {topic} expects cleanup.policy={'compact' if compacted else 'delete'}, "
        f"found {topics[topic].config['cleanup.policy']!r}: {because}; alter the topic's configuration"
        for topic, compacted, because in (rule for rule in rules if rule.topic in topics)
        if (topics[topic].policies != {"compact"} if compacted else "compact" in topics[topic].policies)
    ]


def warnings(settings: Settings, topics: Mapping[str, TopicFacts], n_brokers: int) -> list[str]:
    """Give a line for everything that weakens what is promised, of the topics that are there."""
    found = []
    updates, changelog = topics.get(settings.recommendations_topic), topics.get(settings.changelog_topic)
    if updates is not None and "compact" not in updates.policies:
        found.append(
            f"topic {settings.recommendations_topic} should have cleanup.policy=compact,delete, "
            f"has {updates.config['cleanup.policy']!r}: "
            "it grows with every click, and whoever reads it from the beginning reads outdated lists"
        )
    lag_ms = int(changelog.config["min.compaction.lag.ms"]) if changelog is not None else HOUR_MS
    if lag_ms < HOUR_MS:
        found.append(
            f"topic {settings.changelog_topic} should have min.compaction.lag.ms={HOUR_MS} or more, has {lag_ms}: a "
            "worker that wakes up after a long pause and writes an old state late can win over the newer state"
        )
    if n_brokers >= SAFE_REPLICAS:
        found += _unsafe(topics)
    return found


def _unsafe(topics: Mapping[str, TopicFacts]) -> Sequence[str]:
    found = []
    few = sorted(name for name, topic in topics.items() if topic.replicas < SAFE_REPLICAS)
    if few:
        found.append(
            f"topics {', '.join(few)} should have {SAFE_REPLICAS} replicas, have fewer: "
            "the loss of a broker can stop the stream or lose what was acknowledged"
        )
    alone = sorted(name for name, topic in topics.items() if int(topic.config["min.insync.replicas"]) < SAFE_IN_SYNC)
    if alone:
        found.append(
            f"topics {', '.join(alone)} should have min.insync.replicas={SAFE_IN_SYNC}, have less: "
            "what a single broker has acknowledged is lost with it"
        )
    return found
