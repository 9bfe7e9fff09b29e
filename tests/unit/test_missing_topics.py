"""What is said of topics that are not there."""

from nextclick.settings import Settings
from tools.missing_topics import did_you_mean, missing_topics

FOUND = ["shop.events", "shop.orders", "clicks-rejected", "__consumer_offsets"]


def test_a_misspelt_topic_is_not_to_be_created() -> None:
    """The one that was meant is named first."""
    text = missing_topics(["shop.evnts"], FOUND, Settings(clicks_topic="shop.evnts"))

    assert "found none of that name (did you mean 'shop.events'?); correct the setting clicks_topic, or run" in text


def test_the_command_names_the_same_topics() -> None:
    """Pasted as it is, it creates what is missing and nothing else."""
    settings = Settings(broker="kafka:9092", clicks_topic="web")

    assert missing_topics(["web", "models"], FOUND, settings) == (
        "expected the topics web, models at kafka:9092, found none of that name; "
        "run `nextclick topics --broker kafka:9092 --set clicks_topic=web`"
    )
    assert missing_topics(["clicks"], FOUND, Settings()).endswith("run `nextclick topics`")


def test_a_topic_can_be_hidden_from_who_may_not_describe_it() -> None:
    """To Kafka's client it is not there."""
    text = missing_topics(["clicks"], FOUND, Settings(security_protocol="SSL"))

    assert "found none of that name that this user may describe; run" in text


def test_only_a_close_name_is_meant() -> None:
    """Another word in it is another topic."""
    assert did_you_mean("Shop.Events", FOUND) == " (did you mean 'shop.events'?)"
    assert did_you_mean("clicks", FOUND) == ""
