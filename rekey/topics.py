"""Which topics a job copies between, checked at its start."""

from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, Failure, TopicIdentity, answers, describe_topic, failure_of
from tools.missing_topics import did_you_mean


class Route(NamedTuple):
    """From where to where records are copied.

    Attributes:
        source: as it is at the start.
        destination: the topic that gets the copies, as it is at the start.
        rejected: the topic that gets what cannot be used.
        keeps_ms: how long the destination keeps a record; negative: for ever.
        keeps_times: whether copies in the destination have the time of their record.
        may_begin: whether a job that has copied nothing yet may copy to a destination that holds records.
    """

    source: TopicIdentity
    destination: TopicIdentity
    rejected: str
    keeps_ms: int
    keeps_times: bool
    may_begin: bool = False


def checked_route(settings: Settings, source: str, destination: str, *, may_begin: bool = False) -> Route:
    """Look at the topics.

    Args:
        settings: of the job.
        source: the topic to read.
        destination: the topic to write.
        may_begin: as in `Route`.

    Raises:
        PermanentError: one is missing, or does not fit.
        TemporaryError: the broker does not answer.
    """
    rejected = settings.rejected_topic
    if len({source, destination, rejected}) < 3:
        raise PermanentError(
            f"the source, the destination and rejected_topic must be three topics, and are {source}, {destination} and "
            f"{rejected}; name another topic with --to or --set rejected_topic=NAME"
        )
    admin = AdminClient(librdkafka_config(settings))
    try:
        _check_existence(settings, admin, source, destination)
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in (destination, rejected)]
        configs = answers(lambda: admin.describe_configs(resources, request_timeout=ANSWER_S))
        read, written = describe_topic(admin, source), describe_topic(admin, destination)
    except KafkaException as error:
        raise _explained(settings, error) from error
    by_name = {resource.name: config for resource, config in configs.items()}
    for name in (destination, rejected):
        _refuse_compaction(name, by_name[name])
    config = by_name[destination]
    return Route(
        read,
        written,
        rejected,
        int(config["retention.ms"].value) if "delete" in config["cleanup.policy"].value else -1,
        config["message.timestamp.type"].value == "CreateTime",
        may_begin,
    )


def _check_existence(settings: Settings, admin: AdminClient, source: str, destination: str) -> None:
    found = admin.list_topics(timeout=ANSWER_S).topics
    if source not in found:
        meant = did_you_mean(source, found.keys() - {destination, settings.rejected_topic})
        raise PermanentError(
            f"expected the topic {source} at {settings.broker}, found none of that name{meant}; correct SOURCE "
            "or --broker"
        )
    missing = [name for name in (destination, settings.rejected_topic) if name not in found]
    if missing:
        meant = did_you_mean(destination, found.keys() - {source}) if destination in missing else ""
        raise PermanentError(
            f"expected the topics {', '.join(missing)} at {settings.broker}, found none of that name{meant}; correct "
            f"--to or rejected_topic, or run `nextclick topics --set clicks_topic={destination} --set "
            f"partitions={len(found[source].partitions)}`, which creates them, with --set app=NAME, here too, if "
            f"{settings.app} has read another topic"
        )


def _refuse_compaction(name: str, config: Any) -> None:
    policy = config["cleanup.policy"].value
    if "compact" in policy:
        raise PermanentError(
            f"topic {name} expects cleanup.policy=delete, found {policy!r}: compaction takes clicks before they are "
            "read; alter the topic's configuration"
        )


def _explained(settings: Settings, error: KafkaException) -> NextclickError:
    reason = error.args[0].str()
    if failure_of(error.args[0]) is Failure.PASSING:
        return TemporaryError(
            f"expected a Kafka broker at {settings.broker}, found none that answers within {ANSWER_S:.0f} s "
            f"({reason}); start one (`nextclick kafka`), or correct --broker or the security settings"
        )
    return PermanentError(
        f"the broker at {settings.broker} does not say what the topics have: {reason}; the user needs the rights to "
        "describe them and the configurations of the destination and of the rejected clicks"
    )
