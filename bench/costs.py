"""What a click, an item and a user cost: the figures that `nextclick capacity` reckons with (`nextclick.capacity`).

Clicks are as a shop's: users are named by UUIDs and hardly anybody clicks twice, and each click has an id. A worker
works off a backlog of them with two catalogues, from which come the CPU of a click and that of each item that it is
scored against; a trainer logs and learns the same clicks. States are looked at where each user has clicked so often
that a state holds all that it ever will.
"""

import os
import random
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import rocksdict
from confluent_kafka import Consumer, Message, TopicPartition

from bench import measure, shared_bundle
from bench.backlog import go_through, send_clicks
from bench.programs import python
from nextclick.capacity import Costs
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from tools.client_config import consumer_config
from tools.processes import dying_with_parent

_CATALOGUES = (10_000, 50_000)
_LOADED_CATALOGUES = (10_000, 100_000)  # what an item takes in memory is little beside what a process takes
_MANY_USERS = 1_000_000
_CLICKS_OF_A_FULL_STATE = 40  # twice what a state holds, so that hardly any user has fewer
_ANSWER_S = 30.0
_SILENCE_S = 3.0
_NEVER = 10**9  # clicks before the first training
_SEEN_DIGITS = 3


def measured(broker: str, n_clicks: int) -> Costs:
    """Measure. Takes minutes.

    Args:
        broker: has the topics.
        n_clicks: of each backlog.
    """
    cpu_us, worker_bytes = [], 0.0
    log_us = train_us = log_bytes = click_bytes = form_bytes = bundle_bytes = 0.0
    own_bytes = _own_bytes_of_an_item()
    for n_items in _CATALOGUES:
        with measure.own_topics(broker) as settings:
            settings = measure.with_bundle(settings, n_items)
            send_clicks(settings, _clicks(settings, n_clicks, _MANY_USERS))
            worked = go_through(settings, n_clicks, python(*measure.WORKER))
            cpu_us.append(worked.cpu_us_per_event)
            form_bytes, bundle_bytes = (
                _bytes_below(folder) / n_items for folder in (settings.served_dir, settings.bundle_dir)
            )
            if n_items == _CATALOGUES[0]:
                worker_bytes = worked.max_rss_bytes - n_items * (own_bytes + form_bytes)
                click_bytes = _mean_record_bytes(_records(settings, settings.clicks_topic))
                log_us, train_us = _of_trainer(settings, n_clicks)
                log_bytes = _bytes_below(settings.log_dir) / n_clicks
    per_item = (cpu_us[1] - cpu_us[0]) / (_CATALOGUES[1] - _CATALOGUES[0])
    update_bytes, change_bytes, state_bytes = _of_full_states(broker, n_clicks // 2)
    return Costs(
        worker_us_per_click=cpu_us[0] - per_item * _CATALOGUES[0],
        worker_us_per_click_and_item=per_item,
        log_us_per_click=log_us,
        train_us_per_click=train_us,
        click_bytes=click_bytes,
        update_bytes=update_bytes,
        change_bytes=change_bytes,
        state_bytes=state_bytes,
        log_bytes_per_click=log_bytes,
        worker_bytes=worker_bytes,
        own_item_bytes=own_bytes,
        form_item_bytes=form_bytes,
        bundle_item_bytes=bundle_bytes,
    )


def block(costs: Costs) -> str:
    """Give the lines that `nextclick/capacity.py` has of them."""
    lines = (f"    {name}={_seen(cost)}," for name, cost in costs._asdict().items())
    return "\n".join(["MEASURED = Costs(", *lines, ")"])


def _seen(cost: float) -> str:
    """Give a number with the digits that can be trusted, as Python has it."""
    return f"{float(f'{cost:.{_SEEN_DIGITS}g}'):_}"


def _clicks(settings: Settings, count: int, n_users: int) -> list[tuple[bytes, bytes]]:
    """Give keys and values of random clicks: users uniform, items Zipf-like."""
    draw, schema, now_ms = random.Random(0), ClickSchema.of(settings), int(time.time() * 1000)
    clicks = []
    for _ in range(count):
        user = str(uuid.UUID(int=random.Random(draw.randrange(n_users)).getrandbits(128)))
        item, event_id = f"item-{int(draw.paretovariate(1.0)) % 2_000}", str(uuid.UUID(int=draw.getrandbits(128)))
        click = encode_click(schema, user, item, now_ms, event_id=event_id)
        clicks.append((click.key, click.value))
    return clicks


def _own_bytes_of_an_item() -> float:
    """Give what an item takes in the memory of a worker, beside the form that workers of a machine share."""
    few, many = (shared_bundle.take(n_items, 2, shared=True)[1] for n_items in _LOADED_CATALOGUES)
    return (many.own_mb - few.own_mb) * 1024**2 / (_LOADED_CATALOGUES[1] - _LOADED_CATALOGUES[0])


def _of_full_states(broker: str, n_clicks: int) -> tuple[float, float, float]:
    """Give the bytes of an update, of a state's record, and of a state in a worker's store."""
    with measure.own_topics(broker) as settings:
        settings = measure.with_bundle(settings, _CATALOGUES[0])
        send_clicks(settings, _clicks(settings, n_clicks, n_clicks // _CLICKS_OF_A_FULL_STATE))
        go_through(settings, n_clicks, python(*measure.WORKER))
        updates, changes = (
            {message.key() or b"": message for message in _records(settings, topic)}
            for topic in (settings.recommendations_topic, settings.changelog_topic)
        )
        stored_bytes = _stored_bytes(settings.data_dir) / len(changes)
    return _mean_record_bytes(updates.values()), _mean_record_bytes(changes.values()), stored_bytes


def _stored_bytes(data_dir: Path) -> float:
    """Give what the stores of a worker that has ended take, when all of them is in files of their last form."""
    n_bytes = 0.0
    for folder in data_dir.rglob("user-state-*.db"):
        store = rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True))
        store.flush()
        store.compact_range(None, None)
        store.close()
        n_bytes += sum(path.stat().st_size for path in folder.glob("*.sst"))
    return n_bytes


def _of_trainer(settings: Settings, n_clicks: int) -> tuple[float, float]:
    """Give the CPU in us for each click to log it, and to learn it anew; what a start takes is no part of either."""
    never = replace(settings, min_clicks=_NEVER)
    logs_s, starts_s = _cpu_s(never), _cpu_s(never)
    learns_s = _cpu_s(replace(settings, min_clicks=100))
    return (logs_s - starts_s) / n_clicks * 1e6, (learns_s - starts_s) / n_clicks * 1e6


def _cpu_s(settings: Settings) -> float:
    """Run a trainer once; gives the CPU of all its processes."""
    before_s = _children_s()
    environment = os.environ | settings.as_environment()
    subprocess.run(
        dying_with_parent(python(*measure.TRAINER_ONCE)), env=environment, check=False, stdout=subprocess.DEVNULL
    )
    return _children_s() - before_s


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _mean_record_bytes(records: Iterable[Message]) -> float:
    """Give the mean of a record's key and value, as they are before compression."""
    sizes = [len(record.key() or b"") + len(record.value() or b"") for record in records]
    return sum(sizes) / max(len(sizes), 1)


def _records(settings: Settings, topic: str) -> Iterator[Message]:
    consumer = Consumer(consumer_config(settings, "bench-costs"))
    try:
        found = consumer.list_topics(topic, _ANSWER_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in found])
        while messages := consumer.consume(5_000, _SILENCE_S):
            yield from messages
    finally:
        consumer.close()


def _bytes_below(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
