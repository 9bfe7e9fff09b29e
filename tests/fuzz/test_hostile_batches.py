"""Batches with anything in them: whatever aiokafka makes of one, the worker knows that it comes from the batch."""

import random
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given
from hypothesis import strategies as st

from stream.faust_adapter.second_reader import is_unpacking
from tests.record_forms import ATTRIBUTES, CODECS, RECORDS, seal

N_RECORDS = 20


def batch(codec: str) -> bytearray:
    """A batch as a producer writes it."""
    headers = [("trace", b"x" * 9), ("none", None)]
    builder = DefaultRecordBatchBuilder(2, CODECS.index(codec), 0, -1, -1, 0, 100_000)
    for number in range(N_RECORDS):
        builder.append(number, None, b"user-%d" % number, b'{"item_id": "a"}' * 3, headers)
    return bytearray(builder.build())


def read(log: bytes) -> list[Any] | Exception:
    """Read a part of a log as aiokafka does."""
    records = PartitionRecords(TopicPartition("t", 0), MemoryRecords(log), [], 0, None, None, True, READ_COMMITTED)
    try:
        return list(records)
    except Exception as error:
        return error


@pytest.mark.parametrize("codec", CODECS)
def test_a_whole_batch_is_read_in_each_codec(codec: str) -> None:
    """What the test below begins with."""
    records = read(bytes(batch(codec)))

    assert isinstance(records, list)
    assert len(records) == N_RECORDS


@pytest.mark.parametrize("codec", CODECS)
@given(seed=st.integers(0, 2**32), n_bytes=st.integers(1, 8), sealed=st.booleans(), cut=st.booleans())
@example(seed=0, n_bytes=1, sealed=False, cut=False)
def test_whatever_a_batch_holds_an_error_is_recognised(
    codec: str, seed: int, n_bytes: int, sealed: bool, cut: bool
) -> None:
    """With and without a right checksum, with bytes changed or its end missing."""
    changed, rng = batch(codec), random.Random(seed)
    if cut:
        end = rng.randrange(RECORDS, len(changed))
        del changed[end:]
        changed[8:12] = (end - 12).to_bytes(4, "big")
    else:
        for place in (rng.randrange(ATTRIBUTES, len(changed)) for _ in range(n_bytes)):
            changed[place] = rng.randrange(256)
    if sealed:
        seal(changed)

    found = read(bytes(changed))

    assert isinstance(found, list) or is_unpacking(found), repr(found)
