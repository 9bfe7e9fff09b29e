"""The hashes that other programs must agree with."""

import pytest
from aiokafka.partitioner import DefaultPartitioner

from nextclick.hashing import fnv1a, item_hash, murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(data: bytes, expected: int) -> None:
    """The vectors of Apache Kafka's own UtilsTest, which are signed."""
    assert murmur2(data) == expected % 2**32


@pytest.mark.parametrize("n_partitions", [1, 2, 4, 7, 100])
def test_murmur2_partitions_are_aiokafkas(n_partitions: int) -> None:
    """The worker writes through aiokafka: both must name the same partition for keys of every length."""
    partitions = list(range(n_partitions))
    theirs = DefaultPartitioner()

    for length in range(40):
        key = bytes((7 * length + 91 * position) % 256 for position in range(length))
        assert partition_of(key, n_partitions, "murmur2_random") == theirs(key, partitions, partitions)


def test_consistent_partitions_are_crc_32() -> None:
    """librdkafka's own default; 0xCBF43926 is the check value of CRC-32."""
    assert partition_of(b"123456789", 1_000, "consistent_random") == 0xCBF43926 % 1_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"kafka", 0xD33C4E1), (b"giberish123456789", 0x77A58295), (b"1234", 0x23BDD03), (b"234", 0x2DEA3CD2)],
)
def test_fnv1a_is_librdkafkas(data: bytes, expected: int) -> None:
    """The vectors of its own unit test."""
    assert fnv1a(data) == expected


def test_item_hash_is_xxh3() -> None:
    """States hold these hashes: they may never change. The first is the published value for no bytes."""
    assert item_hash("") == 0x2D06800538D394C2
    assert item_hash("item-1") == 0xA8ED576B406035B2
    assert item_hash("名") == 0xDBFAB25302E498FF
