"""Which records of a topic are looked at: so many, about as many of each partition."""

import pytest

from tools.kafka import OffsetRange
from tools.topic_sample import _starts


@pytest.mark.parametrize(
    ("ranges", "n_records", "starts"),
    [
        ({0: (0, 100), 1: (0, 100)}, 20, {0: 90, 1: 90}),
        ({0: (0, 100), 1: (95, 100)}, 20, {0: 85, 1: 95}),
        ({0: (0, 4), 1: (7, 7), 2: (50, 90)}, 1_000, {0: 0, 1: 7, 2: 50}),
        ({0: (0, 9), 1: (0, 9), 2: (0, 9)}, 2, {0: 9, 1: 8, 2: 8}),
    ],
)
def test_what_one_partition_has_too_few_of_the_others_give(
    ranges: dict[int, tuple[int, int]], n_records: int, starts: dict[int, int]
) -> None:
    """The newest of each."""
    assert _starts({partition: OffsetRange(*each) for partition, each in ranges.items()}, n_records) == starts
