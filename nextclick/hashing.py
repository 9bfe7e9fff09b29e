"""The two hashes that other programs must agree with: of an item id, and of a key to its partition."""

import zlib

import xxhash

_MASK_32 = 0xFFFFFFFF


def item_hash(item_id: str) -> int:
    """xxh3-64 of the item id's UTF-8: how a user's state names an item, known to the vocabulary or not."""
    return xxhash.xxh3_64_intdigest(item_id.encode())


def partition_of(key: bytes, n_partitions: int, partitioner: str) -> int:
    """Give the partition that a producer with this partitioner puts the key into.

    Args:
        key: the record's key.
        n_partitions: partitions of the topic.
        partitioner: `murmur2_random` (Java's and aiokafka's default) or `consistent_random` (librdkafka's: CRC-32).
    """
    if partitioner == "murmur2_random":
        return (murmur2(key) & 0x7FFFFFFF) % n_partitions
    return (zlib.crc32(key) & _MASK_32) % n_partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, unsigned. Source: org.apache.kafka.common.utils.Utils.murmur2."""
    m, length = 0x5BD1E995, len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & _MASK_32
        k = (k ^ (k >> 24)) * m & _MASK_32
        h = (h * m & _MASK_32) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & _MASK_32
    h = (h ^ (h >> 13)) * m & _MASK_32
    return h ^ (h >> 15)
