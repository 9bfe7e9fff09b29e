"""The topics that a worker needs: `nextclick topics` creates what is missing; a starting worker only checks.

Broker auto-creation is never relied on: it would make topics with the wrong partitions and the wrong retention.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.settings import Settings
from stream.topics.identity import read_identity, refuse_other_topic, write_identity
from stream.topics.topic_rules import HOUR_MS, TopicFacts, refusals, warnings
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, Failure, TopicIdentity, answer_of, answers, failure_of, is_forbidden
from tools.missing_topics import missing_topics

_log = logging.getLogger(__name__)

KNOWN_S = 30.0  # a cluster of several brokers that has much to do tells late of what it has created
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be; one that is optional need not be there."""

    name: str
    partitions: int
    config: dict[str, str]
    is_optional: bool = False


class ExaminedTopics(NamedTuple):
    """The topics as they are, and what a start would say of them.

    Attributes:
        refusals: a line for everything with which a worker must not start.
        warnings: a line for everything that weakens a promise.
        facts: of the topics that are there.
        ids: Kafka's ids of them, other ones whenever a topic is created.
        clicks: the clicks topic; None when it is missing.
        is_noted: whether the changelog says what its states are made from.
        n_before: records of the changelog that stand before that note, or without one.
        brokers: how many there are.
        cluster_id: Kafka's id of the cluster.
    """

    refusals: list[str]
    warnings: list[str]
    facts: Mapping[str, TopicFacts]
    ids: Mapping[str, str]
    clicks: TopicIdentity | None
    is_noted: bool
    n_before: int
    brokers: int
    cluster_id: str


class CheckedTopics(NamedTuple):
    """What a worker has to know of its topics.

    Attributes:
        clicks: the clicks topic, as the states were made from it.
        changelog_id: Kafka's id of the changelog, another one whenever the topic is created.
    """

    clicks: TopicIdentity
    changelog_id: str


class Topics:
    """Looks at and creates topics."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last_error = ""
        config = librdkafka_config(settings) | {"error_cb": self._remember_error}
        self._admin = AdminClient(config)

    def check(self) -> CheckedTopics:
        """Check that all topics are there, fit together, and are those that the states were made with.

        What only weakens a promise is logged as a warning.

        Raises:
            PermanentError: a topic is missing or does not fit, or the broker refuses to describe the topics.
            TemporaryError: the broker does not answer.
        """
        return self._accept(self._examine(self._metadata()))

    def examine(self) -> ExaminedTopics:
        """Say what `check` would refuse and warn of; changes nothing.

        Raises:
            PermanentError: the broker refuses to describe the topics.
            TemporaryError: the broker does not answer.
        """
        return self._examine(self._metadata(), remember=False)

    def _accept(self, examined: ExaminedTopics) -> CheckedTopics:
        for refusal in examined.refusals:
            raise PermanentError(refusal)
        for warning in examined.warnings:
            _log.warning(warning)
        clicks, changelog = examined.clicks, self._settings.changelog_topic
        assert clicks is not None  # or it would have been refused
        if not examined.is_noted:
            write_identity(self._settings, clicks)
            if examined.n_before:
                taken = "topic %s does not say which clicks its states were made from: taken for topic %s as it is now"
                _log.warning(taken, changelog, clicks.topic)
        return CheckedTopics(clicks, examined.ids[changelog])

    def _examine(self, metadata: Any, *, remember: bool = True) -> ExaminedTopics:
        plans, clicks_topic = self._plans(metadata), self._settings.clicks_topic
        missing = [plan.name for plan in plans if plan.name not in metadata.topics and not plan.is_optional]
        described = self._describe([plan.name for plan in plans if plan.name in metadata.topics])
        ids = {name: str(topic.topic_id) for name, topic in described.items()}
        facts = self._facts(described)
        clicks = None
        if clicks_topic in facts:
            clicks = TopicIdentity(clicks_topic, ids[clicks_topic], facts[clicks_topic].partitions)
        lines, noted, n_before = [], None, 0
        if missing:
            lines.append(missing_topics(missing, metadata.topics, self._settings))
        lines += refusals(self._settings, facts)
        if clicks is not None and self._settings.changelog_topic in facts:
            noted, n_before = read_identity(self._settings, remember=remember)
            lines += _refusal_of_note(self._settings, noted, clicks)
        if clicks is not None:
            lines += _wrong_counts(facts, {plan.name: plan.partitions for plan in plans}, clicks.topic)
        n_brokers = len(metadata.brokers)
        weak = warnings(self._settings, facts, n_brokers)
        cluster_id = str(metadata.cluster_id or "")
        return ExaminedTopics(lines, weak, facts, ids, clicks, noted is not None, n_before, n_brokers, cluster_id)

    def create(self) -> list[str]:
        """Create what is missing; topics that exist are checked and left as they are.

        Returns:
            The names of the topics that were created.

        Raises:
            PermanentError: a topic does not fit, or the broker refuses to create it.
            TemporaryError: the broker does not answer.
        """
        metadata = self._metadata()
        replication = min(3, len(metadata.brokers))
        safety = {"min.insync.replicas": "2"} if replication == 3 else {}
        wanted = [
            NewTopic(plan.name, plan.partitions, replication, config=plan.config | safety)
            for plan in self._plans(metadata)
            if plan.name not in metadata.topics
        ]
        created: dict[str, Future[None]] = {}
        if wanted:
            created = self._admin.create_topics(wanted)
        for name, future in created.items():
            try:
                answer_of(future, KNOWN_S)
            except KafkaException as error:
                if failure_of(error.args[0]) is Failure.PASSING:
                    raise self._no_answer(error) from error
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise PermanentError(f"topic {name} could not be created: {error.args[0].str()}") from error
        self._accept(self._examine(self._metadata_with(created)))
        return list(created)

    def _metadata_with(self, names: Collection[str]) -> Any:
        """Wait for metadata that has new topics: they are created before every broker tells of them, and of leaders."""
        end_s = time.monotonic() + KNOWN_S
        while True:
            metadata = self._metadata()
            topics = metadata.topics
            if time.monotonic() > end_s or all(
                name in topics
                and topics[name].partitions
                and all(p.leader >= 0 for p in topics[name].partitions.values())
                for name in names
            ):
                return metadata
            time.sleep(0.05)

    def _plans(self, metadata: Any) -> list[TopicPlan]:
        clicks = metadata.topics.get(self._settings.clicks_topic)
        return topic_plans(self._settings, len(clicks.partitions) if clicks is not None else self._settings.partitions)

    def _metadata(self) -> Any:
        try:
            return self._admin.list_topics(timeout=ANSWER_S)
        except KafkaException as error:
            raise self._no_answer(error) from error

    def _answers(self, ask: Callable[[], Mapping[Any, Future[Any]]]) -> dict[Any, Any]:
        try:
            return answers(ask)
        except KafkaException as error:
            raise self._failed(error) from error

    def _failed(self, error: KafkaException) -> NextclickError:
        if is_forbidden(error.args[0]):
            return PermanentError(
                f"the broker at {self._settings.broker} does not let this user look at the topics: "
                f"{error.args[0].str()}; give it the rights Describe and DescribeConfigs on {', '.join(self._names())}"
            )
        return self._no_answer(error)

    def _names(self) -> list[str]:
        return [plan.name for plan in topic_plans(self._settings, self._settings.partitions)]

    def _no_answer(self, error: KafkaException) -> TemporaryError:
        self._admin.poll(0)  # lets the library say what it knows: a failed login, for example
        reason = self._last_error or error.args[0].str()
        return TemporaryError(
            f"expected a Kafka broker at {self._settings.broker}, found none that answers within {ANSWER_S:.0f} s "
            f"({reason}); start one (`nextclick kafka`), or correct --broker or the security settings"
        )

    def _describe(self, names: list[str]) -> dict[str, Any]:
        if not names:
            return {}
        topics = TopicCollection(names)
        return self._answers(lambda: self._admin.describe_topics(topics, request_timeout=ANSWER_S))

    def _facts(self, described: Mapping[str, Any]) -> dict[str, TopicFacts]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in described]
        if not resources:
            return {}
        configs = self._answers(lambda: self._admin.describe_configs(resources, request_timeout=ANSWER_S))
        return {
            resource.name: TopicFacts(
                {name: entry.value for name, entry in config.items()},
                min(len(partition.replicas) for partition in described[resource.name].partitions),
                len(described[resource.name].partitions),
            )
            for resource, config in configs.items()
        }

    def _remember_error(self, error: KafkaError) -> None:
        # A failed login shows first as such and then as "all brokers down": the first says more.
        if not self._last_error or error.code() == KafkaError._AUTHENTICATION:
            self._last_error = error.str()


def topic_plans(settings: Settings, partitions: int) -> list[TopicPlan]:
    """Give all topics as they should be, where the clicks topic has so many partitions."""
    week = {"retention.ms": str(7 * DAY_MS)}
    plans = [
        TopicPlan(settings.clicks_topic, partitions, {"cleanup.policy": "delete"} | week),
        TopicPlan(settings.recommendations_topic, partitions, {"cleanup.policy": "compact,delete"} | week),
        TopicPlan(settings.rejected_topic, partitions, {"cleanup.policy": "delete"} | week),
        TopicPlan(settings.models_topic, 1, {"cleanup.policy": "compact"}),
        TopicPlan(
            settings.tallies_topic,
            1,
            {
                "cleanup.policy": "compact,delete",
                "retention.ms": str(30 * DAY_MS),
                "segment.ms": str(HOUR_MS),  # only what is not written to any more is compacted
            },
            is_optional=True,
        ),
        # One partition: should a topic grow, a key's older record would stay in another one than its newer one, and an
        # item that was withdrawn could be back after a restart.
        TopicPlan(settings.items_topic, 1, {"cleanup.policy": "compact"}, is_optional=True),
        # The lag keeps every write for an hour, so that a recovery can tell an old worker's late write.
        TopicPlan(
            settings.changelog_topic,
            partitions,
            {"cleanup.policy": "compact", "min.compaction.lag.ms": str(HOUR_MS)},
        ),
    ]
    return [plan for plan in plans if plan.name]  # an empty name: there shall be no such topic


def _refusal_of_note(settings: Settings, noted: TopicIdentity | None, clicks: TopicIdentity) -> list[str]:
    if noted is None:
        return []
    try:
        refuse_other_topic(settings, noted, clicks)
    except PermanentError as refusal:
        return [str(refusal)]
    return []


def _wrong_counts(facts: Mapping[str, TopicFacts], needed: Mapping[str, int], clicks: str) -> list[str]:
    return [
        f"topic {name} has {facts[name].partitions} partitions and needs {needed[name]}: as many as {clicks}, but for "
        "models, items and tallies, which have 1; use another topic name, or create it anew"
        for name in needed
        if name in facts and facts[name].partitions != needed[name]
    ]
