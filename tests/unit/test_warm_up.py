"""What a worker compiles before it serves a bundle is all that it ever needs: else clicks would wait for seconds."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nextclick.scoring
from nextclick.advance import Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.bundle import load_bundle
from nextclick.catalogue import ShopItem
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.item_table import ItemTable
from nextclick.item_traits import ItemTraits
from nextclick.model import ServedModel
from nextclick.popular_lists import PopularLists
from nextclick.rules import NO_RULES, Exclude, Rules
from nextclick.updates import encode_items
from nextclick.user_state import UserState
from tests.chaos.bundles import mixed_bundle, untrained_bundle

N_ITEMS, N_CATEGORIES = 450, 3  # too many for the way of a few items
ITEMS = [f"i{number}" for number in range(N_ITEMS)]
EVERYTHING = Rules("purchased", 2, ("i7", "i8"), 0.2)
EXCLUDES: tuple[Exclude, ...] = ("none", "last", "session", "recent", "purchased")
RULES = [
    NO_RULES,
    *map(Rules, EXCLUDES),
    Rules(max_per_category=2),
    Rules(explore=0.2),
    Rules(pinned=("i7",)),
    EVERYTHING,
]


def compiled() -> dict[str, int]:
    """For how many types of arguments each function is compiled."""
    names = [module.name for module in pkgutil.iter_modules(nextclick.scoring.__path__, "nextclick.scoring.")]
    return {
        f"{name}.{function}": len(value.signatures)
        for name in names
        for function, value in vars(importlib.import_module(name)).items()
        if hasattr(value, "signatures") and value.py_func.__module__ == name
    }


class Serving:
    """Users who click at a worker, with and without what is live."""

    def __init__(self, model: ServedModel) -> None:
        self.model, self.states, self.offset = model, dict[UserKey, UserState](), 0

    def click(self, items: list[str], rules: Rules, explain: bool = False) -> None:
        """One click each of several users."""
        batch: list[Any] = []
        for number, item in enumerate(items):
            click = Click(f"u{number}", item, 1_700_000_000_000 + self.offset * 1000, 2 * (number % 2))
            batch.append(LoggedClick((0, b"u%d" % number), self.offset, 0, click, item_hash(item)))
            self.offset += 1
        limits, popular = Limits(20, 10, explain=explain, rules=rules), PopularLists([], 10, 0, encode_items)
        outcomes = advance(self.model, popular, self.states, batch, limits)
        if self.model.live is not None:
            self.model.live.count(batch, outcomes, [True] * len(batch))
        for logged, outcome in zip(batch, outcomes, strict=True):
            assert isinstance(outcome, Advanced)
            self.states[logged.user] = outcome.state


def traits(of_all: bool) -> ItemTraits:
    """Each item is in one of three categories; some are withdrawn or boosted, or all count as they do."""
    factors = np.ones(N_ITEMS, "f4") if of_all else np.resize(np.array([0, 1, 2, 1], "f4"), N_ITEMS)
    return ItemTraits(factors, np.arange(N_ITEMS + 1), (np.arange(N_ITEMS) % N_CATEGORIES).astype("i4"))


def said_of_live_items(is_anything: bool) -> ItemTable:
    """What a shop says of the items that no bundle knows."""
    table = ItemTable()
    if is_anything:
        table.say(item_hash("new"), ShopItem(boost=2.0, categories=("shoes", "boots")))
    return table


@pytest.mark.parametrize("make_bundle", [mixed_bundle, untrained_bundle])
def test_nothing_is_compiled_once_a_bundle_is_served(make_bundle: Any, tmp_path: Path) -> None:
    """Whatever the shop says, whatever the rules are, whatever is clicked."""
    manifest = make_bundle(tmp_path, ITEMS, seed=1)
    _, model = load_bundle(tmp_path / manifest.bundle_id)
    model.warm_up(explain=True)
    before = compiled()

    serving = Serving(model)
    for n_live in (0, 20):
        if n_live:
            model.begin_live(n_live)
        for said in (None, traits(True), traits(False)):
            model.set_traits(said)
            model.set_live_traits(said_of_live_items(said is not None))
            for rules in RULES:
                for explain in (False, True):
                    serving.click(["i1", "i2", "i3", "new", "i1", f"new {n_live}"], rules, explain)
    model.with_traits(traits(False)).best([b""], [b""], N_ITEMS)

    assert {name: n for name, n in compiled().items() if n != before[name]} == {}
