"""Which records of a topic are looked at: so many, about as many of each partition."""

import pytest
from confluent_kafka import Message

from tools.kafka import OffsetRange
from tools.topic_sample import NewestOfPartitions, _starts


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


def test_large_records_are_kept_within_a_number_of_bytes() -> None:
    """The newest of each partition; one at least, however large it is."""
    newest = NewestOfPartitions({0: 50, 1: 5})
    for offset in range(10):
        newest.add(Message(topic="t", partition=0, offset=offset, value=b"x" * 20), 0)
    newest.add(Message(topic="t", partition=1, offset=7, value=b"x" * 20), 1)
    newest.add(Message(topic="t", partition=0, offset=10, value=None), 0)

    assert [(each.partition(), each.offset()) for each in newest.all()] == [(0, 8), (0, 9), (0, 10), (1, 7)]
    assert newest.n_left_out == 8
