"""Whether a record is in the partition of its user, and which partitioner its producer seems to use."""

from collections.abc import Collection, Mapping

from nextclick.clicks import Rejected, RejectReason
from nextclick.hashing import PARTITIONERS, partition_of

MIN_SAMPLE = 20  # keys: with 2 partitions and any partitioner, all of them agree by chance once in a million


def is_home(key: bytes, partition: int, partitioner: str, counts: Collection[int]) -> bool:
    """Tell whether a key belongs into a partition.

    Args:
        key: the record's.
        partition: where the record is.
        partitioner: the setting; `none` puts every key everywhere.
        counts: how many partitions the topic has, or had when the record was written.
    """
    return partitioner == "none" or any(partition_of(key, count, partitioner) == partition for count in counts)


def misplaced(partitioner: str, partition: int) -> Rejected:
    """Give the verdict on a record that is not home."""
    return Rejected(RejectReason.WRONG_PARTITION, f"expected the partition that {partitioner} gives, found {partition}")


def guess_partitioner(sample: Mapping[bytes, int], n_partitions: int) -> str | None:
    """Give the partitioner that puts every key of a sample where it is; None if none does, or too few keys are known.

    Args:
        sample: key to the partition that it was seen in.
        n_partitions: of the topic.
    """
    if len(sample) < MIN_SAMPLE or n_partitions < 2:
        return None
    for partitioner in PARTITIONERS:
        if all(partition_of(key, n_partitions, partitioner) == partition for key, partition in sample.items()):
            return partitioner
    return None
