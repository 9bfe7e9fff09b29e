"""What an update costs in each output format: its list and the rest of it, in turn; and a worker, from outside."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

import numpy as np

from bench import measure
from bench.backlog import Throughput
from bench.model_step import LIST_LENGTH, full_network
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.output.avro import avro_format
from nextclick.output.cloud_events import cloud_events_format
from nextclick.output.protobuf import protobuf_format
from nextclick.scoring.binary_lists import write_avro_lists, write_protobuf_lists
from nextclick.scoring.item_lists import ItemTexts, item_texts, write_lists
from nextclick.scoring.terms import Best
from nextclick.served_form import served_form
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, RNN, AnsweredClick, ListFormat, RankedList, ServedBy, UpdateFormat
from nextclick.user_state import with_recent
from nextclick.vocabulary import Vocabulary
from tests.local_registry import LocalRegistry

N_ITEMS, N_USERS = 10_000, 256
OUTPUTS: Mapping[str, UpdateFormat] = {
    "json": JSON_FORMAT,
    "cloudevents": cloud_events_format(Settings().app, Settings().clicks_topic),
    "avro": avro_format(1),
    "protobuf": protobuf_format(1),
}
_WRITERS: Mapping[ListFormat, Callable[[ItemTexts, Best], list[bytes]]] = {
    "json": write_lists,
    "avro": write_avro_lists,
    "protobuf": write_protobuf_lists,
}
_REGISTRY_SETTINGS = ("schema_registry", "schema_registry_username", "schema_registry_password")
_PRODUCED_MS = 1_764_000_000_131

T = TypeVar("T")


class Cost(NamedTuple):
    """What an update costs.

    Attributes:
        list_us: to write its list, of CPU time.
        update_us: to write the rest of it.
        n_bytes: of the update.
        explained_us: to write its list with what each item is listed for.
    """

    list_us: float
    update_us: float
    n_bytes: float
    explained_us: float


def costs(rounds: int) -> dict[str, Cost]:
    """Time updates of a batch in each format; medians of alternating rounds."""
    item_ids = [f"item-{number}" for number in range(N_ITEMS)]
    texts, (hidden, recent), models = item_texts(item_ids), _users(), _models(item_ids)
    best = models["json"].best(hidden, recent, LIST_LENGTH)
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in OUTPUTS}
    sizes: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name, output in OUTPUTS.items():
            lists, list_us = _timed(partial(_WRITERS[output.list_format], texts, best))
            updates, update_us = _timed(partial(_updates, output, lists))
            explain = partial(models[name].rank, hidden, recent, LIST_LENGTH)
            _, plain_us = _timed(explain)
            _, with_reasons_us = _timed(partial(explain, explain=True))
            taken[name].append((list_us, update_us, list_us + with_reasons_us - plain_us))
            sizes[name] = statistics.mean(map(len, updates))
    medians = {
        name: [statistics.median(each) for each in zip(*found[1:], strict=True)] for name, found in taken.items()
    }
    return {name: Cost(found[0], found[1], sizes[name], found[2]) for name, found in medians.items()}


def workers(broker: str, count: int) -> Iterator[tuple[str, Throughput]]:
    """Let a worker in each format work off a backlog, with a model of `N_ITEMS`."""
    with TemporaryDirectory(prefix="nextclick-bench-") as folder, LocalRegistry(Path(folder)) as registry:
        of_registry = {name: getattr(registry.settings, name) for name in _REGISTRY_SETTINGS}
        for name in OUTPUTS:
            with measure.own_topics(broker) as settings:
                served = replace(measure.with_bundle(settings, N_ITEMS), **of_registry | {"output_format": name})
                yield name, measure.throughput(served, count, *measure.WORKER)


def _users() -> tuple[list[bytes], list[bytes]]:
    rng, width = np.random.default_rng(0), Settings().hidden_size
    hidden = [rng.normal(0.0, 0.3, width).astype(np.float16).tobytes() for _ in range(N_USERS)]
    recent = []
    for items in rng.integers(N_ITEMS, size=(N_USERS, Settings().recent_clicks)).tolist():
        clicks = b""
        for item in items:
            clicks = with_recent(clicks, item_hash(f"item-{item}"), 30, 0, len(items))
        recent.append(clicks)
    return hidden, recent


def _models(item_ids: Sequence[str]) -> dict[str, ServedModel]:
    network = full_network(N_ITEMS)
    form = served_form(network.config, network.arrays(), Vocabulary(item_ids, np.ones(N_ITEMS)))
    return {name: ServedModel.of_form("1".zfill(16), network.config, form, output) for name, output in OUTPUTS.items()}


def _updates(output: UpdateFormat, lists: Sequence[bytes]) -> list[bytes]:
    return [
        output.encode_update(
            f"user-{user}",
            RankedList(RNN, items, b""),
            ServedBy("1f0c9d2e5a7b3c48"),
            user,
            AnsweredClick(3, 99_120 + user, _PRODUCED_MS - 8),
            _PRODUCED_MS,
        )
        for user, items in enumerate(lists)
    ]


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Give what a work gives, and its CPU time in us for each user."""
    began_s = time.thread_time()
    given = work()
    return given, (time.thread_time() - began_s) * 1e6 / N_USERS
