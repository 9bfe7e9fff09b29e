"""The columns that hold what is said of items, held to a dictionary that does the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import nextclick.item_table
from nextclick.catalogue import NOTHING_SAID, ShopItem, decode_item, encode_item
from nextclick.item_table import ItemTable
from nextclick.model_traits import ModelTraits

HASHES = [0, 1, 2**63, 2**64 - 1, *(number * 0x9E3779B97F4A7C15 % 2**64 for number in range(2, 40))]
START_MS = 1_764_000_000_000
times = st.none() | st.integers(START_MS - 5, START_MS + 25)
items = st.builds(
    ShopItem,
    available=st.none() | st.booleans(),
    categories=st.none() | st.lists(st.sampled_from("abcdef"), max_size=4).map(tuple),
    published_at_ms=times,
    expires_at_ms=times,
    boost=st.none() | st.sampled_from([0.5, 1.0, 2.0, 1000.0]),
)
steps = st.lists(
    st.tuples(st.sampled_from(HASHES), st.just(NOTHING_SAID) | items) | st.integers(-3, 9), min_size=1, max_size=80
)


def categories_by_name(table: ItemTable, hashes: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> list[set[str]]:
    """Give the categories of each item by their names."""
    names = {table.number_of(name): name for name in "abcdef"}
    starts, found = table.categories_of(hashes)
    return [{names[number] for number in found[starts[i] : starts[i + 1]].tolist()} for i in range(len(hashes))]


@given(steps=steps, merged_at=st.integers(1, 7))
def test_columns_say_what_was_said_last_at_any_time(steps: list[tuple[int, ShopItem] | int], merged_at: int) -> None:
    """However often they are merged; and of every change by time alone the caller is told."""
    before, nextclick.item_table._LEAST_MERGED = nextclick.item_table._LEAST_MERGED, merged_at
    try:
        table, said, now_ms = ItemTable(START_MS), dict.fromkeys(HASHES, NOTHING_SAID), START_MS
        for step in steps:
            if isinstance(step, int):
                factors = {each: item.factor_at(now_ms) for each, item in said.items()}
                now_ms += step
                changed = table.tick(now_ms)
                moved = {each for each, item in said.items() if item.factor_at(now_ms) != factors[each]}
                assert moved <= set(changed)
            else:
                table.say(*step)
                said[step[0]] = step[1]
        wanted = np.array(HASHES, np.uint64)
        expected = [float(np.float32(said[each].factor_at(now_ms))) for each in HASHES]

        assert [float(np.float32(table.factor_of(each))) for each in HASHES] == expected
        assert table.factors_of(wanted).tolist() == expected
        assert [factor for at in range(len(wanted)) for factor in table.factors_of(wanted[at : at + 1])] == expected
        categories = [set(said[each].categories or ()) for each in HASHES]
        assert categories_by_name(table, wanted) == categories
        assert [categories_by_name(table, wanted[at : at + 1])[0] for at in range(len(wanted))] == categories
    finally:
        nextclick.item_table._LEAST_MERGED = before


@given(
    first=st.lists(st.tuples(st.sampled_from(HASHES), items)), then=st.lists(st.tuples(st.sampled_from(HASHES), items))
)
def test_traits_that_are_changed_are_those_that_are_made(
    first: list[tuple[int, ShopItem]], then: list[tuple[int, ShopItem]]
) -> None:
    """By rows of a bundle that knows some of the items; categories are made anew."""
    table, rows = ItemTable(START_MS), np.array([HASHES[place] for place in (3, 0, 17, 9, 25)], np.uint64)
    for each in first:
        table.say(*each)
    made = ModelTraits(rows, table)
    for each in then:
        table.say(*each)
    before = made.traits
    factors_before = None if before is None else before.factors.copy()
    made.change([item_hash for item_hash, _ in then])
    factors = made.traits.factors.tolist() if made.traits is not None else [1.0] * len(rows)
    if before is not None:
        assert (before.factors == factors_before).all()
    made.make()

    assert factors == [float(np.float32(table.factor_of(int(each)))) for each in rows]
    if made.traits is not None:
        starts = made.traits.category_starts
        assert len(starts) == len(rows) + 1
        for row, each in enumerate(rows):
            found = made.traits.categories[starts[row] : starts[row + 1]].tolist()
            assert tuple(found) == table.said_of(int(each)).categories


@given(item=items)
def test_a_record_is_read_as_it_was_written(item: ShopItem) -> None:
    """Whatever is said."""
    assert decode_item(encode_item(item)) == item
