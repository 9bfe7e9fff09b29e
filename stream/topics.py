"""The topics that a worker needs: `nextclick topics` creates what is missing; a starting worker only checks.

Broker auto-creation is never relied on: it would make topics with the wrong partitions and the wrong retention.
"""

import time
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from nextclick.client_config import librdkafka_config
from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings

TIMEOUT_S = 6.0
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be."""

    name: str
    partitions: int
    config: dict[str, str]


class Topics:
    """Looks at and creates topics."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last_error = ""
        config = librdkafka_config(settings) | {"error_cb": self._remember_error}
        self._admin = AdminClient(config)

    def check(self) -> int:
        """Check that all topics are there and fit together.

        Returns:
            The number of partitions of the clicks topic.

        Raises:
            PermanentError: a topic is missing or does not fit.
            TemporaryError: the broker does not answer.
        """
        metadata = self._metadata()
        plans = self._plans(metadata)
        missing = [plan.name for plan in plans if plan.name not in metadata.topics]
        if missing:
            raise PermanentError(
                f"expected the topics {', '.join(missing)} at {self._settings.broker}, found none of that name; "
                "run `nextclick topics`"
            )
        for plan in plans:
            found = len(metadata.topics[plan.name].partitions)
            if found != plan.partitions:
                raise PermanentError(
                    f"topic {plan.name} expects {plan.partitions} partitions (as many as "
                    f"{self._settings.clicks_topic}, but for models: 1), found {found}; "
                    "use another topic name, or create it anew"
                )
        self._check_compaction()
        return len(metadata.topics[self._settings.clicks_topic].partitions)

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
        created: dict[str, Future[None]] = self._admin.create_topics(wanted) if wanted else {}
        for name, future in created.items():
            try:
                future.result(TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise PermanentError(f"topic {name} could not be created: {error.args[0].str()}") from error
        self._wait_until_known(created)
        self.check()
        return list(created)

    def _wait_until_known(self, names: Collection[str]) -> None:
        """A topic is created before every broker tells of it, and of the leaders of its partitions."""
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            topics = self._metadata().topics
            if all(
                name in topics
                and topics[name].partitions
                and all(p.leader >= 0 for p in topics[name].partitions.values())
                for name in names
            ):
                return
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
                {"cleanup.policy": "compact", "min.compaction.lag.ms": str(3600 * 1000)},
            ),
        ]

    def _metadata(self) -> Any:
        try:
            return self._admin.list_topics(timeout=TIMEOUT_S)
        except KafkaException as error:
            self._admin.poll(0)  # lets the library say what it knows: a failed login, for example
            reason = self._last_error or error.args[0].str()
            raise TemporaryError(
                f"expected a Kafka broker at {self._settings.broker}, found none that answers within {TIMEOUT_S:.0f} s "
                f"({reason}); start one (`nextclick kafka`), or correct --broker or the security settings"
            ) from error

    def _check_compaction(self) -> None:
        name = self._settings.changelog_topic
        resource = ConfigResource(ResourceType.TOPIC, name)
        config = self._admin.describe_configs([resource])[resource].result(TIMEOUT_S)
        policy = config["cleanup.policy"].value
        if policy != "compact":
            raise PermanentError(
                f"topic {name} expects cleanup.policy=compact, found {policy}: states would be lost; alter the topic"
            )

    def _remember_error(self, error: KafkaError) -> None:
        # A failed login shows first as such and then as "all brokers down": the first says more.
        if not self._last_error or error.code() == KafkaError._AUTHENTICATION:
            self._last_error = error.str()
