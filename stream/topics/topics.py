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

from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from stream.topics.identity import read_identity, refuse_other_topic, write_identity
from stream.topics.topic_rules import HOUR_MS, TopicFacts, refusals, warnings
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, Failure, TopicIdentity, answer_of, answers, failure_of

_log = logging.getLogger(__name__)

KNOWN_S = 30.0  # a cluster of several brokers that has much to do tells late of what it has created
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be."""

    name: str
    partitions: int
    config: dict[str, str]


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
            PermanentError: a topic is missing or does not fit.
            TemporaryError: the broker does not answer.
        """
        return self._check(self._metadata())

    def _check(self, metadata: Any) -> CheckedTopics:
        plans = self._plans(metadata)
        missing = [plan.name for plan in plans if plan.name not in metadata.topics]
        if missing:
            raise PermanentError(
                f"expected the topics {', '.join(missing)} at {self._settings.broker}, found none of that name; "
                "run `nextclick topics`"
            )
        clicks = self._settings.clicks_topic
        described = self._describe([plan.name for plan in plans])
        identity = TopicIdentity(clicks, str(described[clicks].topic_id), len(described[clicks].partitions))
        self._check_config(described, len(metadata.brokers))
        self._check_identity(identity, {plan.name: plan.partitions for plan in plans}, described)
        return CheckedTopics(identity, str(described[self._settings.changelog_topic].topic_id))

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
        self._check(self._metadata_with(created))
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
        settings = self._settings
        clicks = metadata.topics.get(settings.clicks_topic)
        partitions = len(clicks.partitions) if clicks is not None else settings.partitions
        week = {"retention.ms": str(7 * DAY_MS)}
        return [
            TopicPlan(settings.clicks_topic, partitions, {"cleanup.policy": "delete"} | week),
            TopicPlan(settings.recommendations_topic, partitions, {"cleanup.policy": "compact,delete"} | week),
            TopicPlan(settings.rejected_topic, partitions, {"cleanup.policy": "delete"} | week),
            TopicPlan(settings.models_topic, 1, {"cleanup.policy": "compact"}),
            # The lag keeps every write for an hour, so that a recovery can tell an old worker's late write.
            TopicPlan(
                settings.changelog_topic,
                partitions,
                {"cleanup.policy": "compact", "min.compaction.lag.ms": str(HOUR_MS)},
            ),
        ]

    def _metadata(self) -> Any:
        try:
            return self._admin.list_topics(timeout=ANSWER_S)
        except KafkaException as error:
            raise self._no_answer(error) from error

    def _answers(self, ask: Callable[[], Mapping[Any, Future[Any]]]) -> dict[Any, Any]:
        try:
            return answers(ask)
        except KafkaException as error:
            raise self._no_answer(error) from error

    def _no_answer(self, error: KafkaException) -> TemporaryError:
        self._admin.poll(0)  # lets the library say what it knows: a failed login, for example
        reason = self._last_error or error.args[0].str()
        return TemporaryError(
            f"expected a Kafka broker at {self._settings.broker}, found none that answers within {ANSWER_S:.0f} s "
            f"({reason}); start one (`nextclick kafka`), or correct --broker or the security settings"
        )

    def _describe(self, names: list[str]) -> dict[str, Any]:
        topics = TopicCollection(names)
        return self._answers(lambda: self._admin.describe_topics(topics, request_timeout=ANSWER_S))

    def _check_identity(
        self, identity: TopicIdentity, partitions: Mapping[str, int], described: Mapping[str, Any]
    ) -> None:
        changelog = self._settings.changelog_topic
        noted, n_before = read_identity(self._settings)
        if noted is not None:
            refuse_other_topic(self._settings, noted, identity)
        for name, needed in partitions.items():
            found = len(described[name].partitions)
            if found != needed:
                raise PermanentError(
                    f"topic {name} has {found} partitions and needs {needed}: as many as {identity.topic}, but for "
                    "models, which has 1; use another topic name, or create it anew"
                )
        if noted is None:
            write_identity(self._settings, identity)
            if n_before:
                taken = "topic %s does not say which clicks its states were made from: taken for topic %s as it is now"
                _log.warning(taken, changelog, identity.topic)

    def _check_config(self, described: dict[str, Any], n_brokers: int) -> None:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in described]
        configs = self._answers(lambda: self._admin.describe_configs(resources, request_timeout=ANSWER_S))
        facts = {
            resource.name: TopicFacts(
                {name: entry.value for name, entry in config.items()},
                min(len(partition.replicas) for partition in described[resource.name].partitions),
            )
            for resource, config in configs.items()
        }
        for refusal in refusals(self._settings, facts):
            raise PermanentError(refusal)
        for warning in warnings(self._settings, facts, n_brokers):
            _log.warning(warning)

    def _remember_error(self, error: KafkaError) -> None:
        # A failed login shows first as such and then as "all brokers down": the first says more.
        if not self._last_error or error.code() == KafkaError._AUTHENTICATION:
            self._last_error = error.str()
