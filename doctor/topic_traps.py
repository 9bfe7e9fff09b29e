"""What topics and brokers are set to that loses clicks or stops programs later on. Looks at values; asks no broker.

What a start refuses or warns of is said by `stream.topics.topic_rules`; this is what only shows with time.
"""

from collections.abc import Mapping
from typing import NamedTuple

from doctor.findings import Finding, Level
from nextclick.settings import Settings
from stream.topics.topic_rules import HOUR_MS, TopicFacts

_ABOUT_TOPICS, _ABOUT_BROKER = "topics", "broker"
_OUTAGE_MS = 24 * HOUR_MS  # what is noticed and mended by the next day
_WEEKEND_MS = 72 * HOUR_MS
_ROOM_BYTES = 128 * 1024  # a list of 255 items with long names, a state of the widest network
_DAY_MINUTES = 24 * 60


class _Switch(NamedTuple):
    """A setting of a broker's, and the value of it that is a trap."""

    name: str
    value: str
    level: Level
    found: str
    advice: str


_SWITCHES = (
    _Switch(
        "auto.create.topics.enable",
        "true",
        Level.NOTE,
        "the broker creates topics that somebody asks for (auto.create.topics.enable): a producer with a misspelt name "
        "fills a topic that nobody reads, with the broker's partitions and retention",
        "set auto.create.topics.enable=false; nextclick creates its topics itself",
    ),
    _Switch(
        "unclean.leader.election.enable",
        "true",
        Level.WARNING,
        "unclean.leader.election.enable is true: when brokers fail, acknowledged clicks and states can be lost",
        "set unclean.leader.election.enable=false",
    ),
    _Switch(
        "log.cleaner.enable",
        "false",
        Level.WARNING,
        "log.cleaner.enable is false: the changelog is never compacted, grows with every click, and takes longer to "
        "restore each time",
        "set log.cleaner.enable=true",
    ),
)


def check_topics(settings: Settings, facts: Mapping[str, TopicFacts]) -> list[Finding]:
    """Give what is a trap in the configuration of the topics that are there."""
    findings = []
    clicks = facts.get(settings.clicks_topic)
    if clicks is not None:
        findings += _retention(settings.clicks_topic, clicks.config)
        if clicks.config.get("message.timestamp.type") == "LogAppendTime":
            findings.append(
                Finding(
                    Level.NOTE,
                    _ABOUT_TOPICS,
                    f"topic {settings.clicks_topic} has message.timestamp.type=LogAppendTime: an event without a time "
                    "of its own gets the time at which the broker took it",
                    "nothing, where events have a time (time_field)",
                )
            )
    for name, topic in sorted(facts.items()):
        findings += _writes(settings, name, topic)
    return findings


def _retention(name: str, config: Mapping[str, str]) -> list[Finding]:
    findings = []
    ms, n_bytes = int(config["retention.ms"]), int(config["retention.bytes"])
    if 0 <= ms < _WEEKEND_MS:
        level = Level.WARNING if ms < _OUTAGE_MS else Level.NOTE
        findings.append(
            Finding(
                level,
                _ABOUT_TOPICS,
                f"topic {name} keeps clicks for {ms / HOUR_MS:,.1f} hours: what is not read within that time is lost, "
                "and an outage over a weekend takes longer",
                f"set retention.ms={7 * 24 * HOUR_MS} (a week) for the topic",
            )
        )
    if n_bytes >= 0:
        findings.append(
            Finding(
                Level.NOTE,
                _ABOUT_TOPICS,
                f"topic {name} keeps {n_bytes:,} bytes of a partition: many clicks in a short time are removed sooner "
                "than retention.ms says",
                "see that it is enough for the clicks of a few days, or set retention.bytes=-1",
            )
        )
    return findings


def _writes(settings: Settings, name: str, topic: TopicFacts) -> list[Finding]:
    """Look at what keeps records from being written."""
    findings = []
    in_sync = int(topic.config["min.insync.replicas"])
    if in_sync > topic.replicas:
        findings.append(
            Finding(
                Level.ERROR,
                _ABOUT_TOPICS,
                f"topic {name} has min.insync.replicas={in_sync} and {topic.replicas} replicas: the broker takes no "
                "record that must be acknowledged by all",
                f"set min.insync.replicas={max(1, topic.replicas - 1)} for the topic, or give it more replicas",
            )
        )
    is_ours = name not in (settings.clicks_topic, settings.models_topic, settings.items_topic)
    if is_ours and int(topic.config["max.message.bytes"]) < _ROOM_BYTES:
        findings.append(
            Finding(
                Level.WARNING,
                _ABOUT_TOPICS,
                f"topic {name} takes records of at most {int(topic.config['max.message.bytes']):,} bytes: a long list "
                "or a large state would be refused, which stops the worker",
                f"set max.message.bytes={_ROOM_BYTES} or more for the topic",
            )
        )
    return findings


def check_broker(settings: Settings, config: Mapping[str, str | None], n_brokers: int) -> list[Finding]:
    """Give what is a trap in a broker's configuration.

    Args:
        settings: of the application.
        config: of one broker, by Kafka's names.
        n_brokers: of the cluster.
    """
    findings = [*_session(settings, config), *_cluster_topics(config, n_brokers)]
    findings += [
        Finding(trap.level, _ABOUT_BROKER, trap.found, trap.advice)
        for trap in _SWITCHES
        if config.get(trap.name) == trap.value
    ]
    kept_minutes = _number(config, "offsets.retention.minutes")
    if kept_minutes is not None and kept_minutes < _DAY_MINUTES:
        findings.append(
            Finding(
                Level.WARNING,
                _ABOUT_BROKER,
                f"offsets.retention.minutes is {kept_minutes}: workers that are away for longer begin anew where the "
                f"setting start says ({settings.start})",
                "set offsets.retention.minutes=10080 (a week)",
            )
        )
    return findings


def _session(settings: Settings, config: Mapping[str, str | None]) -> list[Finding]:
    least, most = _number(config, "group.min.session.timeout.ms"), _number(config, "group.max.session.timeout.ms")
    session_ms = settings.session_timeout_s * 1000
    if (least is None or least <= session_ms) and (most is None or session_ms <= most):
        return []
    return [
        Finding(
            Level.ERROR,
            _ABOUT_BROKER,
            f"session_timeout_s is {settings.session_timeout_s:g}, and the broker takes "
            f"{(least or 0) / 1000:g} to {(most or 0) / 1000:g} s: it refuses workers",
            f"set session_timeout_s={max((least or 0) / 1000, min(settings.session_timeout_s, (most or 0) / 1000)):g}",
        )
    ]


def _cluster_topics(config: Mapping[str, str | None], n_brokers: int) -> list[Finding]:
    """Look at the topics of the cluster's own, which it makes when they are first needed."""
    findings = []
    for name, stops in (
        ("offsets.topic.replication.factor", "no worker or trainer can join its group"),
        ("transaction.state.log.replication.factor", "the trainer cannot announce a bundle"),
    ):
        replicas = _number(config, name)
        if replicas is not None and replicas > n_brokers:
            findings.append(
                Finding(
                    Level.WARNING,
                    _ABOUT_BROKER,
                    f"{name} is {replicas}, and the cluster has {n_brokers} brokers: unless its topic exists already, "
                    f"{stops}",
                    f"set {name}={n_brokers} in the broker's configuration",
                )
            )
    return findings


def _number(config: Mapping[str, str | None], name: str) -> int | None:
    value = config.get(name)
    return int(value) if value is not None else None
