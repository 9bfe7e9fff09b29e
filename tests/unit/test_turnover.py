"""Catalogues turn over: items that nobody clicks any more leave, others stay, and new ones come."""

import numpy as np
import pytest

from nextclick.vocabulary import Vocabulary
from training.learning.item_statistics import ItemStatistics, no_statistics
from training.learning.round_clicks import RoundClicks
from training.learning.sequences import ClickColumns
from training.learning.turnover import NextItems, known_items, next_items


def columns(items: list[str]) -> ClickColumns:
    """Clicks on these items, a second apart, each of a user of its own."""
    item_ids = sorted(set(items))
    index = np.array([item_ids.index(item) for item in items])
    return ClickColumns(np.arange(len(items)), index, np.arange(len(items)) * 1_000, index * 0, item_ids)


def statistics_of(known: list[str], clicks: ClickColumns) -> ItemStatistics:
    """What is known of items after clicks that nothing fades."""
    row = np.array([known.index(item_id) if item_id in known else -1 for item_id in clicks.item_ids])
    return no_statistics(len(known)).later(clicks, 0, row, half_life=1e9, popularity_half_life_s=1e9)


def after(known: list[str], before: list[str], new: list[str], window: int = 100, max_items: int = 0) -> NextItems:
    """The items after a round that began with these, whose clicks were those before."""
    vocabulary = Vocabulary(known, np.zeros(len(known)))
    data = RoundClicks(columns(before + new), len(new))
    return next_items(vocabulary, statistics_of(known, columns(before)), data, window, max_items)


@pytest.mark.parametrize(
    ("known", "before", "new", "window", "expected"),
    [
        (["c", "a"], ["a", "c"], ["d", "b"], 100, ["c", "a", "b", "d"]),
        (["c", "a"], ["a", "c"], ["b", "b"], 3, ["c", "b"]),
        (["c", "a"], ["a", "c"], ["a", "b"], 3, ["c", "a", "b"]),
        (["c", "a"], ["a", "c"], ["b", "b"], 2, ["b"]),
    ],
    ids=["new ones are appended", "one left", "clicked again", "all left"],
)
def test_items_without_a_click_leave(
    known: list[str], before: list[str], new: list[str], window: int, expected: list[str]
) -> None:
    """Those that were clicked among the newest clicks of the log stay, in their order."""
    found = after(known, before, new, window)

    assert found.item_ids == expected
    assert [known[row] for row in found.kept] == expected[: found.n_kept]
    assert [found.item_ids[row] if row >= 0 else None for row in found.new_row] == [
        item_id if item_id in expected else None for item_id in known
    ]
    clicked = sorted({*before, *new})
    assert [found.item_ids[row] if row >= 0 else None for row in found.row] == [
        item_id if item_id in expected else None for item_id in clicked
    ]


@pytest.mark.parametrize(
    ("max_items", "expected"), [(0, ["c", "a", "b", "d"]), (4, ["c", "a", "b", "d"]), (2, ["a", "d"]), (1, ["a"])]
)
def test_beyond_the_bound_the_least_clicked_leave(max_items: int, expected: list[str]) -> None:
    """Of equally clicked ones those that were clicked longer ago, known or not."""
    found = after(["c", "a"], ["c", "a", "c"], ["b", "b", "a", "d", "a", "d"], max_items=max_items)

    assert found.item_ids == expected


def test_a_network_that_learns_from_nothing_knows_what_is_clicked_most() -> None:
    """Of its clicks; all items, where nothing bounds them."""
    clicks = columns(["a", "b", "c", "b", "a", "d", "d"])
    clicks = clicks._replace(item_ids=[*clicks.item_ids, "never clicked"])

    assert known_items(clicks, 0).item_ids == ["a", "b", "c", "d"]
    assert known_items(clicks, 2).item_ids == ["a", "d"]
    assert known_items(clicks, 2).row.tolist() == [0, -1, -1, 1, -1]
