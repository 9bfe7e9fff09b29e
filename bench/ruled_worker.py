"""Lets a worker go through a backlog without rules, under each of a shop's and under all, in turn: what they cost of a
click.

From outside, as every throughput here: with reading, states, writing and commits. Users click often enough for their
states to remember as many clicks as they can, all of which `exclude=recent` leaves out.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import measure
from bench.backlog import Throughput, work_off
from bench.model_step import full_network
from bench.programs import python
from bench.rules import MOST, PINNED, traits
from nextclick.bundle import save_bundle
from nextclick.catalogue import ShopItem
from nextclick.item_traits import ItemTraits
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from tools.items.topic import ItemWriter

N_ITEMS, N_USERS = 10_000, 4_000  # so many that few click twice in what is read at once: that costs one list
NONE = "no rule"


class _Under(NamedTuple):
    """What lists are made under.

    Attributes:
        has_items: whether the shop says something of items.
        settings: of the rules.
    """

    has_items: bool
    settings: Mapping[str, Any]


_ALL: dict[str, Any] = {
    "exclude": "recent",
    "max_per_category": MOST,
    "pinned": ",".join(PINNED),
    "explore": 0.05,
}
_RULES = {
    NONE: _Under(False, {}),
    "withdrawn and boosted items": _Under(True, {}),
    **{f"{name}={value}": _Under(name == "max_per_category", {name: value}) for name, value in _ALL.items()},
    "all of them": _Under(True, _ALL),
}


def rounds(broker: str, n_clicks: int, n_rounds: int) -> Iterator[Mapping[str, Throughput]]:
    """Run rounds of workers; gives the figures by rule, `NONE` among them. The order alternates."""
    with measure.own_topics(broker) as settings:
        network = full_network(N_ITEMS)
        vocabulary = Vocabulary([f"item-{number}" for number in range(N_ITEMS)], np.ones(N_ITEMS))
        manifest = save_bundle(settings.bundle_dir, network, vocabulary, created_ms=1, metrics={})
        bundle = settings.bundle_dir / manifest.bundle_id
        said = traits(network.item_embedding.weight.detach().numpy(), np.random.default_rng(0))
        for number in range(n_rounds):
            found = {}
            for rule in reversed(_RULES) if number % 2 else _RULES:
                found[rule] = _run(broker, bundle, said, n_clicks, _RULES[rule])
            yield found


def _run(broker: str, bundle: Path, said: ItemTraits, n_clicks: int, under: _Under) -> Throughput:
    with _settings(broker, bundle) as settings:
        if under.has_items:
            _write_items(settings, said)
        settings = replace(settings, **under.settings)
        return work_off(settings, n_clicks, python(*measure.WORKER), N_ITEMS, N_USERS)


@contextmanager
def _settings(broker: str, bundle: Path) -> Iterator[Settings]:
    with measure.own_topics(broker) as settings:
        own = settings.bundle_dir / bundle.name
        shutil.copytree(bundle, own)
        yield replace(settings, bundle=str(own))


def _write_items(settings: Settings, said: ItemTraits) -> None:
    writer = ItemWriter(settings)
    for number, factor in enumerate(said.factors.tolist()):
        numbers = said.categories[said.category_starts[number] : said.category_starts[number + 1]]
        categories = tuple(f"category-{category}" for category in numbers.tolist())
        writer.write(f"item-{number}", ShopItem(available=factor > 0.0, boost=factor or None, categories=categories))
    writer.flush()
