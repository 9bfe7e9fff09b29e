"""What is said of a cluster of several brokers; one broker cannot show it."""

from nextclick.settings import Settings
from stream.topics.topic_rules import HOUR_MS, TopicFacts, warnings

SETTINGS = Settings()


def topics(replicas: int, in_sync: int) -> dict[str, TopicFacts]:
    """The changelog as given, the others as they should be."""
    config = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(HOUR_MS),
        "min.insync.replicas": "2",
    }
    names = (SETTINGS.clicks_topic, SETTINGS.recommendations_topic, SETTINGS.rejected_topic, SETTINGS.models_topic)
    changelog = TopicFacts(config | {"min.insync.replicas": str(in_sync)}, replicas, 4)
    return {name: TopicFacts(config, 3, 4) for name in names} | {SETTINGS.changelog_topic: changelog}


def test_three_brokers_that_share_everything_raise_no_warning() -> None:
    """Three replicas, of which two acknowledge."""
    assert warnings(SETTINGS, topics(replicas=3, in_sync=2), n_brokers=3) == []


def test_too_few_replicas_are_said_where_there_are_brokers_for_more() -> None:
    """One line that names the topics it is about."""
    [warning] = warnings(SETTINGS, topics(replicas=1, in_sync=2), n_brokers=3)

    assert warning.startswith("topics nextclick-user-state-changelog should have 3 replicas")


def test_an_acknowledgement_by_one_broker_alone_is_said() -> None:
    """`acks=all` means as many as min.insync.replicas says, when the others are away."""
    [warning] = warnings(SETTINGS, topics(replicas=3, in_sync=1), n_brokers=4)

    assert warning.startswith("topics nextclick-user-state-changelog should have min.insync.replicas=2")


def test_a_single_broker_cannot_do_better() -> None:
    """A try on one machine is not nagged."""
    assert warnings(SETTINGS, topics(replicas=1, in_sync=1), n_brokers=1) == []
