"""How the records are keyed, given where the user is.

All clicks of a user must be in one partition, or they cannot be applied in order. The key shows it, or the sample must.
A few records that are elsewhere are mistakes of one producer's, and decide nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from doctor.search.sample import Sample
from doctor.search.table import Table
from doctor.search.users import FEW, UserField
from nextclick.hashing import PARTITIONERS
from nextclick.schema.placement import FITS, MIN_SAMPLE, is_home
from nextclick.settings import Settings

_BY_CHANCE = 0.001  # what a sample shows must not be likelier without any order
_WRITTEN_SINCE = 0.5  # of the keys: more than by chance with two partitions would be where they are put now
_MAX_COUNT = 1_000  # partitions: to try more takes long
_KEYS_FIT = 0.9  # of many keys must be where a partitioner puts them; one hot key has most of the records
Homes = Mapping[bytes, Counter[int]]  # by key, how many of its records are in each partition


class Keying(NamedTuple):
    """How the records are keyed.

    Attributes:
        changes: of the settings, so that they can be read.
        needs_rekey: why they have to be copied with another key; empty: they need not.
        few_keys: of how many keys the partitioner was told, or could not be, if these are too few; 0: they are enough.
    """

    changes: dict[str, str]
    needs_rekey: str = ""
    few_keys: int = 0


def find_keying(table: Table, sample: Sample, settings: Settings, user: UserField) -> Keying:
    """Say which settings fit the keys and partitions of a sample, given where the user is."""
    homes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for event, user_id in zip(table.events, table.ids(user.path), strict=True):
        if user_id is not None:
            homes[user_id][event.record.partition] += 1
    is_together = _is_together(homes.values(), sample.n_partitions)
    keyless = sum(record.key is None for record in sample.records) / max(1, len(sample.records))
    if keyless > FEW and is_together:
        return Keying({"check_key": "false", "partitioner": "none"})
    why = f"{keyless:.0%} of the records have no key" if keyless > FEW else ""
    if keyless == 1:
        return Keying({}, why)
    # A key of several fields can name the user and put them in several partitions all the same.
    if (user.key_format is None or user.has_several_keys) and is_together is False:
        return Keying(
            {}, why or f"{_spread(homes.values()):.0%} of the users who came back have records in several partitions"
        )
    changes = {"check_key": "false"} if user.key_format is None else {"key_format": user.key_format}
    keys = _homes_of_keys(sample)
    few_keys = len(keys) if len(keys) < MIN_SAMPLE and sample.n_partitions > 1 else 0
    partitioner = _partitioner(keys, sample.counts, settings.partitioner)
    if partitioner is not None:
        return Keying(
            changes | {"partitioner": partitioner}, why, few_keys if partitioner != settings.partitioner else 0
        )
    if is_together:
        return Keying(changes | {"partitioner": "none"}, why)
    if few_keys:
        return Keying(changes, why, few_keys)
    return Keying(changes, why or "no partitioner that is known puts the keys where they are")


def find_growth(sample: Sample, settings: Settings) -> int:
    """Give how many partitions the topic had when those records were written that are not where keys are put now.

    Returns:
        0: all are where they should be, or no such number explains them.
    """
    places = {(record.key, record.partition) for record in sample.records if record.key is not None}
    for partitioner in dict.fromkeys((settings.partitioner, *PARTITIONERS)):
        away = [place for place in places if not is_home(*place, partitioner, (sample.n_partitions,))]
        if len(away) <= FEW * len(places):
            return 0
        if len(places) < MIN_SAMPLE or len(away) > (1 - _WRITTEN_SINCE) * len(places):
            continue
        tried = range(1, min(sample.n_partitions, _MAX_COUNT))
        if len(tried) * sample.n_partitions ** -len(away) > _BY_CHANCE:
            continue  # some number would explain so few, wherever they are
        for count in tried:
            if all(is_home(*place, partitioner, (count,)) for place in away):
                return count
    return 0


def _is_together(homes: Collection[Counter[int]], n_partitions: int) -> bool | None:
    """Tell whether each user's records are in one partition.

    Returns:
        None: it cannot be told. Too few came back; or nearly all records are in one partition, where a producer that
        was given no keys put them for a while, and so everyone is together by chance.
    """
    if n_partitions == 1:
        return True
    counts = sum(homes, Counter[int]())
    by_chance = sum((number / counts.total()) ** 2 for number in counts.values())
    returning = [home for home in homes if home.total() > 1]
    if by_chance ** len(returning) > _BY_CHANCE:
        return None
    elsewhere = sum(home.total() - max(home.values()) for home in returning)
    return elsewhere <= FEW * sum(home.total() for home in returning)


def _spread(homes: Iterable[Counter[int]]) -> float:
    """Give the share of the users with several records who are in several partitions."""
    returning = [len(home) > 1 for home in homes if home.total() > 1]
    return sum(returning) / len(returning)


def _homes_of_keys(sample: Sample) -> Homes:
    homes: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for record in sample.records:
        if record.key is not None:
            homes[record.key][record.partition] += 1
    return homes


def _partitioner(keys: Homes, counts: Collection[int], current: str) -> str | None:
    """Give the partitioner that fits the keys of a sample, the present one first; None if none does.

    Few keys must all fit. Then some others may fit as well, by chance.
    """
    most_away = (1 - _KEYS_FIT) * len(keys) if len(keys) >= MIN_SAMPLE else 0
    n_records = sum(home.total() for home in keys.values())
    for each in dict.fromkeys((current, *PARTITIONERS)):
        n_home = n_keys_away = 0
        for key, home in keys.items():
            n_home += sum(number for partition, number in home.items() if is_home(key, partition, each, counts))
            n_keys_away += not is_home(key, home.most_common(1)[0][0], each, counts)
        if n_home >= FITS * n_records and n_keys_away <= most_away:
            return each
    return None
