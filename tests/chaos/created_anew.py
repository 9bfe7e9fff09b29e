"""Somebody deletes the clicks topic and creates it anew while workers and a trainer run: they must refuse it, whatever
its offsets are by now, and a new application must go on with it.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from demo.simulator import SimulatedClick
from nextclick.advance import Limits
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tests.chaos.cluster import Cluster
from tests.chaos.evidence import count_records, gather
from tests.chaos.fleet import Fleet
from tests.chaos.verifier import verify
from tools.client_config import librdkafka_config, producer_config

REFUSAL = "is another one, of id"  # in a worker's last line
TRAINER_REFUSAL = "was created anew"
REFUSED_S = 90.0
ANSWERED_S = 90.0
N_NEW = 500  # clicks that the new application answers
TICK_S = 0.1


def create_clicks_anew(
    settings: Settings, cluster: Cluster, fleets: tuple[Fleet, Fleet], clicks: list[SimulatedClick], folder: Path
) -> list[str]:
    """Do it, and give what is not as it must be.

    Args:
        settings: of the application, with as many partitions as the topic has.
        cluster: where.
        fleets: workers and trainers, which run.
        clicks: are sent to the new topic, all of them: it grows past the old one's ends.
        folder: for the new application.
    """
    problems = []
    workers, trainers = fleets
    n_updates = count_records(settings, settings.recommendations_topic)
    _delete(settings)
    cluster.create_clicks(settings)
    _send(settings, clicks)
    for name, fleet, words in (("worker", workers, REFUSAL), ("trainer", trainers, TRAINER_REFUSAL)):
        if not _wait(lambda fleet=fleet, words=words: fleet.all_ended_with(words), REFUSED_S, fleets):  # type: ignore[misc]
            problems.append(f"a {name} did not refuse a clicks topic that was created anew: {fleet.exits[-3:]}")
    workers.stop()
    trainers.stop()
    n_wrong = count_records(settings, settings.recommendations_topic) - n_updates
    if n_wrong:
        problems.append(f"{n_wrong} clicks of a topic that was created anew were answered from the old one's states")
    return problems + _go_on(settings, clicks[:N_NEW], folder)


def _go_on(settings: Settings, clicks: list[SimulatedClick], folder: Path) -> list[str]:
    """Let a new application answer the new topic's clicks."""
    new = replace(
        settings,
        app=f"{settings.app}-anew",
        recommendations_topic=f"{settings.recommendations_topic}-anew",
        rejected_topic=f"{settings.rejected_topic}-anew",
        models_topic=f"{settings.models_topic}-anew",
        items_topic=f"{settings.items_topic}-anew",
    )
    Topics(new).create()
    folder.mkdir()
    fleet = Fleet(new, folder)
    try:
        fleet.start("anew")
        _send(new, clicks)
        n_clicks = count_records(new, new.clicks_topic)
        _wait(lambda: count_records(new, new.recommendations_topic) >= n_clicks, ANSWERED_S, (fleet,))
        bad_stops = fleet.stop()
    finally:
        fleet.end()
    report = verify(gather(new), {}, Limits(new.recent_clicks, new.list_length))
    return [
        *(f"new application: {n} {name}, at {report.examples[name]}" for name, n in report.violations.items()),
        *(f"new application: status {stop.status} at SIGTERM: {stop.last_line}" for stop in bad_stops),
    ]


def _delete(settings: Settings) -> None:
    admin, topic = AdminClient(librdkafka_config(settings)), settings.clicks_topic
    admin.delete_topics([topic])[topic].result(10)
    while topic in admin.list_topics(timeout=10).topics:
        time.sleep(TICK_S)


def _send(settings: Settings, clicks: list[SimulatedClick]) -> None:
    schema, producer = ClickSchema.of(settings), Producer(producer_config(settings) | {"linger.ms": 5})
    for number, click in enumerate(clicks):
        producer.produce(settings.clicks_topic, encode_click(schema, *click).value, click.user_id.encode())
        if number % 1_000 == 0:
            producer.flush()
    producer.flush()


def _wait(condition: Callable[[], bool], deadline_s: float, fleets: tuple[Fleet, ...]) -> bool:
    end_s = time.monotonic() + deadline_s
    while not (met := condition()) and time.monotonic() < end_s:
        for fleet in fleets:
            fleet.supervise()
        time.sleep(TICK_S)
    return met
