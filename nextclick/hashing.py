"""The hashes that other programs, or what is stored, must agree with: of ids, and of a key to its partition."""

import zlib

import xxhash

PARTITIONERS = ("murmur2_random", "consistent_random", "fnv1a_random")
_MASK_32 = 0xFFFFFFFF


def item_hash(item_id: str) -> int:
    """xxh3-64 of the item id's UTF-8: how a user's state names an item, known to the vocabulary or not."""
    return xxhash.xxh3_64_intdigest(item_id.encode())


def partition_of(key: bytes, n_partitions: int, partitioner: str) -> int:
    """Give the partition that a producer with this partitioner puts the key into.

    Args:
        key: the record's key.
        n_partitions: partitions of the topic.
        partitioner: one of `PARTITIONERS`: `murmur2_random` (Java's and aiokafka's default), `consistent_random`
            (librdkafka's: CRC-32) or `fnv1a_random` (Sarama's, and an option of librdkafka).
    """
    if partitioner == "murmur2_random":
        return (murmur2(key) & 0x7FFFFFFF) % n_partitions
    if partitioner == "fnv1a_random":
        return fnv1a(key) % n_partitions
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


def event_hash(event_id: str) -> int:
    """Give 32 bits of an event's id, never 0: what a user's state keeps to know a client's retry."""
    return (xxhash.xxh3_64_intdigest(event_id.encode(errors="surrogatepass")) & _MASK_32) or 1


def fnv1a(data: bytes) -> int:
    """Give librdkafka's FNV-1a, which takes the absolute value of the signed hash. Source: rdfnv1a.c."""
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 & _MASK_32
    return (-h) & _MASK_32 if h & 0x80000000 else h


def user_hash(user: bytes, salt: bytes) -> int:
    """Give 64 bits of a user and a salt: who is chosen for an experiment, the same in every process for ever."""
    return xxhash.xxh3_64_intdigest(salt + b"\0" + user)
