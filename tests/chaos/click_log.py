"""Judges the click log that the trainers of a run have left: every click once, where it stood first."""

import time
from collections import Counter

from nextclick.clicks import FORWARDED_HEADER
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.placement import is_home
from nextclick.settings import Settings
from tests.chaos.eras import Place
from tests.chaos.evidence import count_partitions, read_topic
from tests.chaos.report import Report
from tools.records import headers_of
from training.service.click_log import ClickLog


def is_logged(settings: Settings) -> bool:
    """Whether every click of the topic is in the log."""
    return expected_rows(settings) <= logged_rows(settings).keys()


def check_log(report: Report, settings: Settings) -> None:
    """Count what the log lacks, and what it has too much."""
    expected, logged = expected_rows(settings), logged_rows(settings)
    for place in expected - logged.keys():
        report.count("not_logged", place)
    for place, times in logged.items():
        report.count("logged_twice", place, times - 1)
        if place not in expected:
            report.count("wrongly_logged", place)


def expected_rows(settings: Settings) -> set[Place]:
    """Where every click stood first: the copies that a repartition has made are no new ones.

    A record counts if its key belongs into its partition, by the number of partitions of now or of the beginning.
    """
    decode, now_ms = click_decoder(ClickSchema.of(settings)), int(time.time() * 1000)
    counts = {settings.partitions, count_partitions(settings, settings.clicks_topic)}
    return {
        (message.partition(), message.offset())
        for message in read_topic(settings, settings.clicks_topic)
        if FORWARDED_HEADER not in dict(headers_of(message))
        and isinstance(decode(message.key(), message.value(), None, message.timestamp()[1], now_ms), tuple)
        and is_home(message.key(), message.partition(), settings.partitioner, counts)
    }


def logged_rows(settings: Settings) -> Counter[Place]:
    """How often each click is in the log."""
    log = ClickLog(settings.log_dir)
    rows = log.read(log.files)
    return Counter(zip(rows["partition"].to_pylist(), rows["offset"].to_pylist(), strict=True))
