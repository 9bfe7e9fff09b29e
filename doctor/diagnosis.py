"""Everything that doctor looks at, in order. What cannot be looked at is a finding itself, and the rest goes on."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from prometheus_client import CollectorRegistry

from doctor.clocks import check_clocks
from doctor.findings import Finding, Level, plural, refusal
from doctor.places import check_bundles, check_data_dir, check_disks
from doctor.progress import check_progress
from doctor.records import check_records
from doctor.sampling import read_sample
from doctor.search.propose import Proposal, changed, propose
from doctor.search.sample import Sample
from doctor.topic_traps import check_broker, check_topics
from nextclick.errors import NextclickError
from nextclick.schema.wire_format import SchemaId
from nextclick.settings import Settings
from stream.topics.topics import ExaminedTopics, Topics
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, TopicIdentity, answer_of
from tools.schema_registry.open_registry import open_registry
from training.learning.cancellation import NEVER_CANCELLED
from training.service.metrics import TrainerMetrics
from training.service.models_topic import ModelsTopic

if TYPE_CHECKING:
    from tools.schema_registry.decoder import RegistryDecoder

MAX_SCHEMAS = 50  # a topic has a few; keys that are numbers can look as if each named another


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        findings: in the order in which they were looked for.
        proposal: the settings that suit the records; None when none could be read.
    """

    findings: list[Finding] = field(default_factory=list)
    proposal: Proposal | None = None


def diagnose(settings: Settings, n_records: int, given: Sequence[str] = ()) -> Diagnosis:
    """Look at everything.

    Args:
        settings: of the application.
        n_records: of the clicks topic that are looked at.
        given: options of the command line, to be repeated in what is to be pasted.
    """
    diagnosis = Diagnosis()
    findings = diagnosis.findings
    findings += check_disks(settings)
    try:
        topics = Topics(settings).examine()
    except NextclickError as error:
        findings.insert(0, refusal("broker", str(error)))
        findings += check_data_dir(settings, "")
        return diagnosis
    findings[:0] = [*_broker(settings, topics), *_topics(settings, topics)]
    findings += check_data_dir(settings, topics.ids.get(settings.changelog_topic, ""))
    findings += _bundles(settings, topics)
    if topics.clicks is not None:
        findings += _progress(settings, topics.clicks)
        findings += _clicks(settings, topics, n_records, given, diagnosis)
    return diagnosis


def _progress(settings: Settings, clicks: TopicIdentity) -> list[Finding]:
    try:
        return check_progress(settings, clicks)
    except KafkaException as error:
        found = f"the groups of the application cannot be looked at: {error.args[0].str()}"
        return [Finding(Level.WARNING, "workers", found, "correct the rights of this user (describe, on groups)")]


def _clicks(
    settings: Settings, topics: ExaminedTopics, n_records: int, given: Sequence[str], diagnosis: Diagnosis
) -> Iterator[Finding]:
    """Look at a sample; the proposal becomes the diagnosis'."""
    assert topics.clicks is not None  # or there is nothing to look at
    try:
        sample, unread = read_sample(settings, topics.clicks.partitions, n_records, int(time.time() * 1000))
    except NextclickError as error:
        yield refusal("clicks", str(error))
        return
    yield from unread
    with contextlib.ExitStack() as stack:
        try:
            sample = sample._replace(registry=_registry(settings, sample, stack))
        except NextclickError as error:
            yield refusal("schema registry", str(error))
        proposal = diagnosis.proposal = propose(sample, settings)
        yield from check_clocks(sample, changed(settings, proposal.changes))
    yield from check_records(settings, proposal, given, has_states=topics.is_noted)


def _registry(settings: Settings, sample: Sample, stack: contextlib.ExitStack) -> "RegistryDecoder | None":
    """Give the registry of the settings with the schemas of the records; it is closed with the stack.

    Raises:
        NextclickError: it does not answer, or refuses.
    """
    registry = open_registry(settings)
    if registry is not None:
        stack.callback(registry.close)
        named: Counter[SchemaId] = Counter()
        for record in sample.records:
            named.update(registry.missing_schemas_of([(record.key, record.value, record.headers)], with_keys=True))
        registry.load([schema_id for schema_id, _ in named.most_common(MAX_SCHEMAS)])
    return registry


def _topics(settings: Settings, topics: ExaminedTopics) -> Iterator[Finding]:
    yield from (refusal("topics", line) for line in topics.refusals)
    remedy = "alter the topic's configuration"
    yield from (Finding(Level.WARNING, "topics", line, remedy) for line in topics.warnings)
    yield from check_topics(settings, topics.facts)
    if topics.refusals or topics.clicks is None:
        return
    if settings.items_topic and settings.items_topic not in topics.facts:
        found = f"there is no topic {settings.items_topic}: no item can be withdrawn, published at a time or boosted"
        yield Finding(Level.NOTE, "topics", found, "nothing, or `nextclick topics`, which creates it")
    clicks = topics.clicks
    made = "are those that the states were made from" if topics.is_noted else "have no states yet"
    text = f"the topics are there and {made}; {clicks.topic} has {plural(clicks.partitions, 'partition')}"
    yield Finding(Level.OK, "topics", text)


def _broker(settings: Settings, topics: ExaminedTopics) -> Iterator[Finding]:
    user = f", as user {settings.sasl_username}" if settings.security_protocol.startswith("SASL") else ""
    by = f"with {settings.security_protocol}{user}"
    admin = AdminClient(librdkafka_config(settings))
    try:
        config = _broker_config(admin)
    except KafkaException as error:
        yield Finding(Level.OK, "broker", f"{settings.broker} answers {by}; {plural(topics.brokers, 'broker')}")
        found = f"the broker does not show its configuration: {error.args[0].str()}"
        yield Finding(Level.NOTE, "broker", found, "nothing, or give this user the right to describe the configuration")
        return
    version = config.get("inter.broker.protocol.version")
    kafka = f"Kafka {version.partition('-')[0]} or newer" if version else "Kafka 4.0 or newer"
    yield Finding(Level.OK, "broker", f"{settings.broker} answers {by}; {plural(topics.brokers, 'broker')}, {kafka}")
    yield from check_broker(settings, config, topics.brokers)


def _broker_config(admin: AdminClient) -> Mapping[str, str | None]:
    """Give the configuration of one broker.

    Raises:
        KafkaException: it does not answer, or refuses.
    """
    [broker, *_] = admin.list_topics(timeout=ANSWER_S).brokers
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    [future] = admin.describe_configs([resource], request_timeout=ANSWER_S).values()
    return {name: entry.value for name, entry in answer_of(future).items()}


def _bundles(settings: Settings, topics: ExaminedTopics) -> list[Finding]:
    champion = None
    if settings.models_topic in topics.facts:
        models = ModelsTopic(settings, TrainerMetrics(CollectorRegistry()), NEVER_CANCELLED)
        try:
            champion = models.champion()
        except NextclickError as error:
            return [refusal("bundles", str(error))]
    return check_bundles(settings, champion)
