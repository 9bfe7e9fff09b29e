"""A network that goes on: it learns what is new, keeps what it knew, and lets go what nobody clicks."""

import dataclasses

import numpy as np
import pytest
import torch

from nextclick.mixture import Context
from nextclick.network_config import N_AGES
from nextclick.settings import Settings
from training.learning.cancellation import NEVER_CANCELLED
from training.learning.continual import Checkpoint, Continued, continue_fit, fit_anew
from training.learning.round_clicks import RoundClicks, round_clicks
from training.learning.sequences import ClickColumns

N_ITEMS = 40
SETTINGS = Settings(hidden_size=16, epochs=2, neighbours=5, device="cpu", recent_window_clicks=5_000)


def walks(count: int, step: int = 1, seed: int = 0, first_item: int = 0) -> ClickColumns:
    """Users who go so many items on each time, around a ring."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    n_users = count // 8
    place, user = rng.integers(N_ITEMS, size=n_users), rng.integers(n_users, size=count)
    item = np.zeros(count, dtype=np.int64)
    for number, who in enumerate(user):
        item[number] = place[who] = (place[who] + step) % N_ITEMS
    ids = [f"item-{first_item + number:03}" for number in range(N_ITEMS)]
    return ClickColumns(user, item, np.arange(count) * 1_000, item * 0, ids)


def joined(*parts: ClickColumns) -> ClickColumns:
    """Logs one after another, each of other users, of one list of items."""
    ids = sorted({item_id for part in parts for item_id in part.item_ids})
    columns: list[list[np.ndarray[tuple[int], np.dtype[np.int64]]]] = [[], [], [], []]
    for number, part in enumerate(parts):
        index = np.array([ids.index(item_id) for item_id in part.item_ids])
        shifted = (part.user + 100_000 * number, index[part.item_index], part.timestamp_ms, part.event_type)
        for column, values in zip(columns, shifted, strict=True):
            column.append(values)
    return ClickColumns(*(np.concatenate(column) for column in columns), ids)


def share_that_go_on(made: Continued, first_item: int, step: int) -> float:
    """Of the items of a ring, how many are followed by the right one, says what is served."""
    row = made.vocabulary.index_of
    clicked = torch.tensor([[row[f"item-{first_item + item:03}"]] for item in range(N_ITEMS)])
    expected = [row[f"item-{first_item + (item + step) % N_ITEMS:03}"] for item in range(N_ITEMS)]
    network, nothing = made.network.eval(), torch.zeros_like(clicked)
    with torch.inference_mode():
        inputs = network.inputs(clicked, nothing, nothing)
        hidden, _ = network.run(inputs, torch.zeros(N_ITEMS, network.config.state_size))
        context = Context(
            torch.cat([clicked, torch.full((N_ITEMS, N_AGES - 1), -1)], 1),
            torch.zeros(N_ITEMS, N_AGES),
            torch.ones(N_ITEMS),
        )
        scores = network.probabilities(network.features(hidden, inputs)[:, 0], context)
        scores.scatter_(1, clicked, 0.0)
    return float((scores.argmax(1) == torch.tensor(expected)).float().mean())


def gone_on(begin: Continued, log: ClickColumns, n_seen: int, settings: Settings = SETTINGS) -> Continued:
    """A round on what came since."""
    data = round_clicks(log, n_seen, settings, np.random.default_rng(0))
    return continue_fit(begin.checkpoint, data, settings, NEVER_CANCELLED)


def content(checkpoint: Checkpoint) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """All numbers of a checkpoint, copied."""
    counts, items = checkpoint.counts, checkpoint.items
    tensors = [*checkpoint.network.state_dict().values(), *checkpoint.squares.values()]
    arrays = [tensor.detach().numpy() for tensor in tensors]
    arrays += [counts.code, counts.count, counts.total, items.n_clicks, items.last_click, items.popularity]
    return [array.copy() for array in arrays]


def test_a_round_learns_what_is_new_and_keeps_what_was_known() -> None:
    """New users go another way around another ring, whose items come after those that were there."""
    log = joined(walks(2_000), walks(1_000, step=3, first_item=500))
    begin = fit_anew(log.take(slice(2_000)), SETTINGS, NEVER_CANCELLED)

    made = gone_on(begin, log, 2_000)

    assert made.vocabulary.item_ids[:N_ITEMS] == begin.vocabulary.item_ids
    assert len(made.vocabulary) == made.network.config.n_items == 2 * N_ITEMS
    assert share_that_go_on(made, 0, 1) > 0.8
    assert share_that_go_on(made, 500, 3) > 0.8


def test_items_that_nobody_clicks_leave_with_all_that_was_known_of_them() -> None:
    """What stays is found under its own name: vectors, the optimizer's state, counts."""
    settings = dataclasses.replace(SETTINGS, recent_window_clicks=1_500, replay_share=0.0, learning_rate=1e-9)
    log = joined(walks(2_000, first_item=20), walks(1_600))
    begin = fit_anew(log.take(slice(2_000)), settings, NEVER_CANCELLED)

    made = gone_on(begin, log, 2_000, settings)

    before, after = begin.vocabulary.index_of, made.vocabulary.index_of
    stay = sorted(before.keys() & after.keys())
    assert set(after) == {f"item-{item:03}" for item in range(N_ITEMS)}
    assert len(stay) == N_ITEMS - 20
    rows, new_rows = [before[item_id] for item_id in stay], [after[item_id] for item_id in stay]
    squares, new_squares = (each.checkpoint.squares["item_embedding.weight"] for each in (begin, made))
    assert (new_squares[new_rows] >= squares[rows]).all()
    assert made.checkpoint.counts.n_items == len(made.checkpoint.items.n_clicks) == len(after)
    for shape in (made.checkpoint.counts.total.shape, made.checkpoint.items.last_click.shape):
        assert shape == (len(after),)


def test_a_round_repeats_itself_and_changes_nothing_that_it_began_with() -> None:
    """To the last bit: one that was killed is made again as if it had never been."""
    log = joined(walks(1_000), walks(500, seed=1))
    begin = fit_anew(log.take(slice(1_000)), SETTINGS, NEVER_CANCELLED)
    before = content(begin.checkpoint)

    first, second = (gone_on(begin, log, 1_000) for _ in range(2))

    for one, other in zip(content(first.checkpoint), content(second.checkpoint), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(before, content(begin.checkpoint), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rounds_can_be_of_any_size() -> None:
    """Of one click, of users with one click each, of items that nobody knew; the network stays one of numbers."""
    log = joined(walks(600), walks(8, first_item=300))
    made = fit_anew(log.take(slice(600)), SETTINGS, NEVER_CANCELLED)

    for n_seen, end in ((600, 601), (601, 604), (604, 608)):
        made = gone_on(made, log.take(slice(end)), n_seen)

    assert made.checkpoint.items.n_log_clicks == 608
    assert all(weight.isfinite().all() for weight in made.network.state_dict().values())
    assert set(made.vocabulary.item_ids) >= {log.item_ids[item] for item in log.item_index[600:]}


@pytest.mark.parametrize("changed", [{"neighbours": 0}, {"tied": False}, {"cell": "lstm"}, {"max_items": 10}], ids=str)
def test_networks_of_all_kinds_go_on(changed: dict[str, object]) -> None:
    """Without a mixture, with vectors of its own for what is compared, with two states, with a bound for the items."""
    settings = dataclasses.replace(SETTINGS, **changed)
    log = joined(walks(600), walks(300, first_item=20))
    begin = fit_anew(log.take(slice(600)), settings, NEVER_CANCELLED)

    made = gone_on(begin, log, 600, settings)

    assert all(weight.isfinite().all() for weight in made.network.state_dict().values())
    assert len(made.vocabulary) == made.network.config.n_items == min(settings.max_items, 60)


def test_the_catalogue_does_not_grow_while_items_come_and_go() -> None:
    """After rounds in each of which a fourth of the items is new, those of the window are known, and no others."""
    settings = dataclasses.replace(SETTINGS, recent_window_clicks=800, replay_share=0.0)
    log = joined(*(walks(400, seed=number, first_item=100 + 10 * number) for number in range(12)))
    made = fit_anew(log.take(slice(800)), settings, NEVER_CANCELLED)

    for end in range(1_200, 4_801, 400):
        made = gone_on(made, log.take(slice(end)), end - 400, settings)

    assert len(made.vocabulary) == N_ITEMS + 10
    assert made.network.item_bias.abs().max() < 10


def test_only_the_pool_is_looked_at() -> None:
    """Ten times as long a log gives a round of the same size: what is new, and a bounded number of older clicks."""
    sizes = []
    for count in (4_000, 40_000):
        log = joined(walks(count), walks(200, seed=1))
        data = round_clicks(log, count, Settings(), np.random.default_rng(0))
        assert data.n_new == 200
        sizes.append(len(data.clicks.item_index))

    assert sizes[1] <= 1.3 * sizes[0]
    assert sizes[1] < 4 * 200


def test_the_new_clicks_come_last_and_their_users_history_before_them() -> None:
    """As much of it as the network looks back on."""
    user = np.array([0] * 30 + [1] * 30 + [1, 2])
    log = ClickColumns(user, np.arange(62), np.arange(62) * 1_000, user * 0, [str(number) for number in range(62)])

    data = round_clicks(log, 60, Settings(recent_clicks=5), np.random.default_rng(0))

    assert isinstance(data, RoundClicks)
    assert data.clicks.item_index[-2:].tolist() == [60, 61]
    of_user = data.clicks.item_index[data.clicks.user == 1]
    assert of_user.tolist() == [55, 56, 57, 58, 59, 60]
