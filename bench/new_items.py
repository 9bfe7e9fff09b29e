"""Items that the served bundle does not know: how often lists have them, by how often they were clicked, and the cost.

A model learns the older clicks; the newer ones go through `nextclick.advance` as a worker takes them, a few at a time:
once without and once with live items. A click is a hit if its item is in the list that its user saw before it.

    python -m bench --only new-items                          simulated: an item is replaced every 1,000 clicks
    python -m bench.new_items DATA [--train-share 0.5]        recorded
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click as command_line
import numpy as np
import torch

from bench.model_step import LIST_LENGTH, full_network
from demo.simulator import Law, Simulator
from nextclick.advance import Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.clicks import EVENT_TYPES, OTHER_EVENT, Click
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.popularity import Popularity, prepare_seed
from nextclick.settings import Settings
from nextclick.updates import POPULAR, ranked_list
from nextclick.user_state import UserState
from nextclick.vocabulary import Vocabulary
from tools.click_files.choices import AUTO, Choices
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise
from training.learning.cancellation import NEVER_CANCELLED
from training.learning.fit import fit, network_config
from training.learning.sequences import ClickColumns, TrainingSet, group_by_user
from training.learning.validation import popularity_weights

_CHUNK_CLICKS = 16
_GROUP, _FILLED_CLICKS, _NEW_SHARE = (
    256,
    60_000,
    0.05,
)  # of the measured cost: users at once; clicks before; on new items
_NEW_ITEMS = 2_000
_BEGAN_MS, _STEP_MS = 1_700_000_000_000, 5  # of simulated clicks: 200 a second
_LEAST_CLICKS = (0, 1, 6, 11, 21)
CLASSES = ("0", "1-5", "6-10", "11-20", "21+")  # how often an item was clicked before, of those that no bundle knows
OLD = "old"
_EVENTS = {name: number for number, name in enumerate(EVENT_TYPES)}


class Hits(NamedTuple):
    """Judged clicks, and hits among them, by the class of the clicked item: `OLD`, or one of `CLASSES`."""

    judged: Counter[str]
    hits: Counter[str]

    def recall(self, *classes: str) -> float:
        """Give the share of hits among the judged clicks of some classes."""
        return sum(self.hits[each] for each in classes) / max(1, sum(self.judged[each] for each in classes))


def simulated(n_clicks: int, seed: int = 0) -> list[Click]:
    """Give clicks of the simulation."""
    clicks = Simulator(Law(), seed).next_clicks(_BEGAN_MS, n_clicks)
    return [
        Click(each.user_id, each.item_id, _BEGAN_MS + number * _STEP_MS, _EVENTS.get(each.event_type, OTHER_EVENT))
        for number, each in enumerate(clicks)
    ]


def recorded(path: Path) -> list[Click]:
    """Give the clicks of a file, in order; without times, as if a second lay between two."""
    found = read_clicks(recognise(path, AUTO, Choices()))
    return [
        Click(user, item, _BEGAN_MS + 1000 * number if time_ms is None else time_ms, _EVENTS.get(event, OTHER_EVENT))
        for number, (user, item, time_ms, event) in enumerate(found.between(0, len(found)))
    ]


def trained(clicks: Sequence[Click], settings: Settings) -> ServedModel:
    """Make a model that has learnt all of some clicks."""
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    users = {user: number for number, user in enumerate(dict.fromkeys(each.user_id for each in clicks))}
    items = {item: number for number, item in enumerate(dict.fromkeys(each.item_id for each in clicks))}
    columns = [(users[each.user_id], items[each.item_id], each.timestamp_ms, each.event_type) for each in clicks]
    user, item, time_ms, event = np.array(columns).T
    read = ClickColumns(user, item, time_ms, event, list(items))
    network = Network(network_config(settings, len(items)))
    fit(network, TrainingSet(group_by_user(read), len(clicks)), settings, NEVER_CANCELLED)
    weights = popularity_weights(read, len(clicks), settings.popularity_half_life_s)
    return ServedModel("1".zfill(16), network.config, network.eval().arrays(), Vocabulary(list(items), weights))


def hits_of(model: ServedModel, clicks: Sequence[Click], settings: Settings) -> Hits:
    """Let users click, and count hits."""
    popularity = Popularity(settings.popularity_half_life_s)
    popularity.seed(prepare_seed(model.item_ids, model.popularity))
    limits = Limits(settings.recent_clicks, settings.list_length)
    states: dict[UserKey, UserState] = {}
    n_clicks, found = Counter[str](), Hits(Counter(), Counter())
    for first in range(0, len(clicks), _CHUNK_CLICKS):
        chunk = [
            LoggedClick((0, each.user_id.encode()), first + place, each.timestamp_ms, each, item_hash(each.item_id))
            for place, each in enumerate(clicks[first : first + _CHUNK_CLICKS])
        ]
        counted = [popularity.add(logged.user[1], logged.click.item_id, logged.click.timestamp_ms) for logged in chunk]
        outcomes = advance(model, popularity.ranked(settings.list_length), states, chunk, limits)
        for logged, outcome in zip(chunk, outcomes, strict=True):
            states[logged.user] = outcome.state
            if isinstance(outcome, Advanced) and outcome.hit is not None:
                kind = OLD if model.index_of(logged.item_hash) is not None else _kind(n_clicks[logged.click.item_id])
                found.judged[kind] += 1
                found.hits[kind] += outcome.hit
        if model.live is not None:
            model.live.count(chunk, outcomes, counted)
        n_clicks.update(logged.click.item_id for logged in chunk)
    return found


def _kind(n_clicks: int) -> str:
    return CLASSES[sum(n_clicks >= least for least in _LEAST_CLICKS) - 1]


class Cost(NamedTuple):
    """CPU time of a thread, medians of rounds in turn.

    Attributes:
        without_ms: a step of 256 users, without live items.
        with_ms: the same, with some.
        count_us: what counting adds to a click.
        click_us: all that is computed for a click.
    """

    without_ms: float
    with_ms: float
    count_us: float
    click_us: float


def cost(n_items: int, rounds: int) -> Cost:
    """Time steps of users of whom one click in 20 is on one of 2,000 new items."""
    network, settings = full_network(n_items), Settings()
    vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.ones(n_items))
    model = ServedModel("1".zfill(16), network.config, network.arrays(), vocabulary)
    model.begin_live(settings.live_items)
    assert model.live is not None
    live, rng, states = model.live, np.random.default_rng(0), dict[UserKey, UserState]()
    limits, nothing = Limits(settings.recent_clicks, settings.list_length), ranked_list(POPULAR, [], [])
    counts_us, clicks_us = [], []
    for first in range(0, _FILLED_CLICKS, _GROUP):
        batch = [_some_click(rng, n_items, first + number) for number in range(_GROUP)]
        began_s = time.thread_time()
        outcomes = advance(model, nothing, states, batch, limits)
        computed_s = time.thread_time()
        live.count(batch, outcomes, [True] * _GROUP)
        counts_us.append((time.thread_time() - computed_s) / _GROUP * 1e6)
        clicks_us.append((computed_s - began_s) / _GROUP * 1e6)
        states |= {logged.user: outcome.state for logged, outcome in zip(batch, outcomes, strict=True)}
    users = list(states.values())[:_GROUP]

    def step() -> None:
        model.rank([state.hidden for state in users], [state.recent for state in users], LIST_LENGTH)

    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * rounds):
        model.live = live if number % 2 else None
        began_s = time.thread_time()
        step()
        taken[model.live is not None].append((time.thread_time() - began_s) * 1e3)
    return Cost(*(statistics.median(each) for each in (taken[False], taken[True], counts_us[10:], clicks_us[10:])))


def _some_click(rng: np.random.Generator, n_items: int, offset: int) -> LoggedClick:
    user = int(rng.integers(4 * _GROUP))
    number = int(n_items * rng.random() ** 2)
    item_id = f"new-{rng.integers(_NEW_ITEMS)}" if rng.random() < _NEW_SHARE else f"item-{number}"
    return LoggedClick(
        (0, b"%d" % user), offset, _BEGAN_MS, Click(str(user), item_id, _BEGAN_MS, 0), item_hash(item_id)
    )


def report(name: str, clicks: Sequence[Click], train_share: float, settings: Settings) -> None:
    """Print how often new items and old ones are hit, without and with live items."""
    n_train = int(len(clicks) * train_share)
    model = trained(clicks[:n_train], settings)
    command_line.echo(f"\n{name}: Recall@20 of {len(clicks) - n_train:,} clicks behind the {n_train:,} of the bundle")
    command_line.echo(
        f"  {'':12} {'old items':>9} {'new ones':>9}   by clicks on the item so far: {', '.join(CLASSES)}"
    )
    for title, n_live in (("without", 0), ("live items", settings.live_items)):
        model.begin_live(n_live)
        found = hits_of(model, clicks[n_train:], settings)
        by_class = "  ".join(f"{found.recall(each):.3f} ({found.judged[each]:,})" for each in CLASSES)
        command_line.echo(f"  {title:12} {found.recall(OLD):9.3f} {found.recall(*CLASSES):9.3f}   {by_class}")


def report_cost(n_items: int, rounds: int) -> None:
    """Print what live items cost."""
    took = cost(n_items, rounds)
    command_line.echo(
        f"  {n_items:,} items, one click in 20 on a new one: a step of {_GROUP} users {took.with_ms:.1f} ms, without "
        f"live items {took.without_ms:.1f} ms, ratio {took.with_ms / took.without_ms:.3f}; counting takes "
        f"{took.count_us:.1f} us of a click's {took.click_us + took.count_us:.0f}"
    )


@command_line.command()
@command_line.argument("data", type=command_line.Path(path_type=Path, exists=True))
@command_line.option("--train-share", type=command_line.FloatRange(0.01, 0.99), default=0.5, show_default=True)
def new_items(data: Path, train_share: float) -> None:
    """How often lists have items that the bundle does not know, on recorded clicks."""
    report(data.name, recorded(data), train_share, Settings())


if __name__ == "__main__":
    new_items()
