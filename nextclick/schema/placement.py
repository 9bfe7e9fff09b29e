"""Whether a record is in the partition of its user, and which partitioner its producer seems to use."""

from collections.abc import Collection, Mapping

from nextclick.clicks import Rejected, RejectReason
from nextclick.hashing import PARTITIONERS, partition_of

FITS = 0.95  # of the records: one stray producer's are not more, and a wrong partitioner fits 1/n of n partitions
MIN_SAMPLE = 20  # keys: with 2 partitions and any partitioner, 19 of them agree by chance once in 50,000


def is_home(key: bytes | None, partition: int, partitioner: str, counts: Collection[int]) -> bool:
    """Tell whether a key belongs into a partition.

    Args:
        key: the record's; one without a key is nowhere wrong.
        partition: where the record is.
        partitioner: the setting; `none` puts every key everywhere.
        counts: how many partitions the topic has, or had when the record was written.
    """
    return (
        key is None
        or partitioner == "none"
        or any(partition_of(key, count, partitioner) == partition for count in counts)
    )


def misplaced(partitioner: str, partition: int) -> Rejected:
    """Give the verdict on a record that is not home."""
    return Rejected(RejectReason.WRONG_PARTITION, f"expected the partition that {partitioner} gives, found {partition}")


def guess_partitioner(sample: Mapping[bytes, int], n_partitions: int) -> str | None:
    """Give the partitioner that puts the keys of a sample where they are; None if none does, or too few are known.

    A few may be elsewhere: a single stray record tells nothing of the others.

    Args:
        sample: key to the partition that it was seen in.
        n_partitions: of the topic.
    """
    if len(sample) < MIN_SAMPLE or n_partitions < 2:
        return None
    for partitioner in PARTITIONERS:
        n_home = sum(partition_of(key, n_partitions, partitioner) == at for key, at in sample.items())
        if n_home >= FITS * len(sample):
            return partitioner
    return None
