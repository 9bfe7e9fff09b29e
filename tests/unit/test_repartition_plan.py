"""Where states and clicks go when the clicks topic has grown. No broker."""

import msgspec
import pytest

from nextclick.hashing import partition_of
from nextclick.user_state import UserState, decode_state, encode_state
from stream.repartition.plan import Homes, Plan

KEYS = [b"u%d" % number for number in range(500)]
PLAN = Plan(before=3, partitions=5, ends={0: 10, 1: 20, 2: 0, 3: 7, 4: 0}, copied_to={0: 4, 1: 20, 2: 0, 3: 0, 4: 0})


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 5), (4, 8), (7, 12)])
def test_homes_are_those_of_the_producers(partitioner: str, before: int, after: int) -> None:
    """One hash gives both."""
    homes = Homes(partitioner, before, after)

    assert [homes.of(key) for key in KEYS] == [
        (partition_of(key, before, partitioner), partition_of(key, after, partitioner)) for key in KEYS
    ]


def test_what_was_at_home_goes_to_the_new_home() -> None:
    """Users move between old partitions, too."""
    homes = Homes("murmur2_random", 3, 5)
    moves = {homes.of(key) for key in KEYS}

    assert all(homes.destination(homes.of(key)[0], key) == homes.of(key)[1] for key in KEYS)
    assert moves == {(before, after) for before in range(3) for after in range(5)}


def test_what_was_in_a_wrong_partition_stays_there() -> None:
    """And so does what came to the new home already, and what has no key."""
    homes = Homes("murmur2_random", 3, 5)
    key = next(key for key in KEYS if homes.of(key) == (0, 1))

    assert homes.destination(2, key) == 2
    assert homes.destination(1, key) == 1
    assert homes.destination(4, None) == 4


def test_a_moved_state_knows_the_clicks_of_its_partition_up_to_the_end_of_the_plan() -> None:
    """Nothing else changes; of a partition that had no click it knows none, which its bytes can say."""
    state = UserState(7, 3, 1, 15, 1_000, b"ab", b"", b"", 1)
    moved = [PLAN.moved(state, partition) for partition in (0, 3, 4)]

    assert [(state.partition, state.offset) for state in moved] == [(0, 9), (3, 6), (4, -1)]
    assert all(each._replace(partition=1, offset=15) == state for each in moved)
    assert decode_state(encode_state(moved[2])) == moved[2]


def test_a_plan_says_what_is_left_and_is_read_as_it_was_written() -> None:
    """In the note's JSON, whose keys are text."""
    further = PLAN.copied({0: 9, 3: 7})

    assert (PLAN.clicks_left, further.clicks_left) == (13, 1)
    assert msgspec.json.decode(msgspec.json.encode(further), type=Plan) == further
