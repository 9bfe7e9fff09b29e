"""What becomes of records is said: at once, then once a minute, with what to do; and the partitioner is guessed."""

import pytest

from nextclick.clicks import Ignored, IgnoreReason, Rejected, RejectReason
from nextclick.hashing import PARTITIONERS, partition_of
from nextclick.schema.placement import MIN_SAMPLE, guess_partitioner, is_home
from nextclick.schema.usage import EVERY_S, FEW_CLICKS, FIRST_IGNORED, FIRST_RECORDS, Usage

NO_KEY = Rejected(RejectReason.NO_KEY, "expected a key, found none")


def drop(usage: Usage, why: Rejected | Ignored, count: int = 1, key: bytes = b"user-17") -> None:
    """Note some records that cannot be used."""
    for number in range(count):
        usage.note_dropped(why, key, 3, 40 + number)


def test_the_first_record_of_a_reason_is_said_at_once() -> None:
    """With how many of how many, where one is, and what to do; never whose it is."""
    usage = Usage("clicks", 4)
    usage.note_used(7)
    drop(usage, NO_KEY, 3)

    (line,) = usage.lines(100.0)

    assert line.startswith("3 of 10 records of clicks so far are rejected as no_key: expected a key, found none")
    assert "partition 3, offset 42" in line
    assert "nextclick rekey" in line
    assert "user-17" not in line


def test_what_goes_on_is_said_once_a_minute() -> None:
    """However much of it there is; and nothing is said when nothing is new."""
    usage = Usage("clicks", 4)
    drop(usage, NO_KEY)
    usage.lines(0.0)
    drop(usage, NO_KEY, 5_000)
    usage.note_used(1_000)

    assert usage.lines(EVERY_S - 1) == []
    (line,) = usage.lines(EVERY_S)
    assert line.startswith("5,000 of 6,000 records of clicks since the last line about it are rejected as no_key")
    assert usage.lines(10 * EVERY_S) == []


def test_each_reason_is_said_for_itself() -> None:
    """One that is new is not held back by another."""
    usage = Usage("clicks", 4)
    drop(usage, NO_KEY)
    usage.lines(0.0)
    drop(usage, Ignored(IgnoreReason.EVENT_TYPE), 2)

    (line,) = usage.lines(1.0)

    assert "passed over as event_type" in line


@pytest.mark.parametrize("reason", [*RejectReason, *IgnoreReason])
def test_every_reason_has_a_remedy(reason: RejectReason | IgnoreReason) -> None:
    """Also one that is added tomorrow."""
    assert Usage("clicks", 4).remedy(reason)


def test_when_none_of_the_first_thousand_can_be_used_something_does_not_fit() -> None:
    """Until the first one can be."""
    usage = Usage("clicks", 4)
    drop(usage, NO_KEY, FIRST_RECORDS - 1)
    before = usage.nothing_fits()
    drop(usage, NO_KEY)
    after = usage.nothing_fits()
    usage.note_used()

    assert before is None
    assert after is not None
    assert "none of the first 1,000 records of clicks could be used, 1,000 for no_key" in after
    assert "nextclick rekey" in after
    assert usage.nothing_fits() is None


def test_events_that_are_not_listed_may_be_many() -> None:
    """Purchases, for example, are rare; but for ever none of them is a mistake."""
    usage, ignored = Usage("clicks", 4), Ignored(IgnoreReason.EVENT_TYPE)
    drop(usage, ignored, FIRST_IGNORED - 1)
    before = usage.nothing_fits()
    drop(usage, ignored)

    assert before is None
    assert "list in events" in str(usage.nothing_fits())


def test_at_the_end_everything_is_said() -> None:
    """Also what came within a minute of the last line."""
    usage = Usage("clicks", 4)
    drop(usage, NO_KEY)
    usage.lines(0.0)
    drop(usage, NO_KEY, 3_970)

    (line,) = usage.lines(1.0, is_last=True)

    assert line.startswith("3,970 of 3,970 records")


@pytest.mark.parametrize("theirs", PARTITIONERS)
@pytest.mark.parametrize("n_partitions", [2, 3, 12])
def test_the_partitioner_of_the_producer_is_guessed_from_keys(theirs: str, n_partitions: int) -> None:
    """And named as the setting that helps."""
    usage = Usage("clicks", n_partitions)
    for number in range(MIN_SAMPLE):
        key = b"user-%d" % number
        usage.note_dropped(
            Rejected(RejectReason.WRONG_PARTITION, ""), key, partition_of(key, n_partitions, theirs), number
        )

    assert f"set partitioner={theirs}" in usage.remedy(RejectReason.WRONG_PARTITION)


def test_without_a_partitioner_that_fits_nothing_is_guessed() -> None:
    """Nor with too few keys, nor in a topic of one partition."""
    keys = {b"user-%d" % number: number % 4 for number in range(100)}
    few = {key: partition_of(key, 4, "fnv1a_random") for key in list(keys)[: MIN_SAMPLE - 1]}

    assert guess_partitioner(keys, 4) is None
    assert guess_partitioner(few, 4) is None
    assert guess_partitioner(dict.fromkeys(keys, 0), 1) is None


def test_a_stray_record_does_not_hide_the_partitioner() -> None:
    """One producer of many that has another."""
    keys = {b"user-%d" % number: partition_of(b"user-%d" % number, 4, "consistent_random") for number in range(100)}
    keys[b"user-1"] = (keys[b"user-1"] + 1) % 4

    assert guess_partitioner(keys, 4) == "consistent_random"


def test_home_is_where_any_of_the_counts_puts_a_key() -> None:
    """A topic that has grown has clicks of both."""
    key = b"user-1"
    home_4, home_6 = (partition_of(key, count, "murmur2_random") for count in (4, 6))
    elsewhere = next(partition for partition in range(6) if partition not in (home_4, home_6))

    assert is_home(key, home_4, "murmur2_random", {4, 6})
    assert is_home(key, home_6, "murmur2_random", {4, 6})
    assert not is_home(key, elsewhere, "murmur2_random", {4, 6})
    assert is_home(key, elsewhere, "none", {4})
    assert is_home(None, elsewhere, "murmur2_random", {4})


def test_clicks_that_are_mostly_passed_over_as_repeats_are_said_once() -> None:
    """No client tries again so often: the field holds something else than an id of each event."""
    usage = Usage("clicks", 4)
    usage.note_repeated(FEW_CLICKS // 2, FEW_CLICKS - 1)
    early = usage.lines(0.0)
    usage.note_repeated(1, 1)
    (line,) = usage.lines(1.0)
    usage.note_repeated(FEW_CLICKS, FEW_CLICKS)

    assert early == []
    assert line.startswith("501 of 1,000 clicks of clicks were passed over as repeats")
    assert "--set id_field= " in line
    assert usage.lines(2.0) == []


def test_retries_are_not_said_and_what_repeats_later_is() -> None:
    """A share is of the newest clicks: a producer can change at any time."""
    usage = Usage("clicks", 4)
    for _ in range(20):
        usage.note_repeated(FEW_CLICKS // 2, FEW_CLICKS)
    before = usage.lines(0.0)
    usage.note_repeated(FEW_CLICKS, FEW_CLICKS)

    assert before == []
    assert len(usage.lines(1.0)) == 1
