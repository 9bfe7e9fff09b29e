"""Which of two updates of a user is the newer one."""

from collections.abc import Callable
from itertools import product

import pytest

from nextclick.errors import PermanentError
from nextclick.newer import UpdateHead, contains, head_of, is_newer
from nextclick.settings import Settings
from nextclick.updates import AnsweredClick, ServedBy, Source, encode_update, ranked_list
from stream.protocol.port import Place
from stream.protocol.reader import start_position
from stream.protocol.restoration import RestoredPartition, check_fence
from stream.topics.identity import refuse_other_topic
from tools.kafka import TopicIdentity


def head(sequence: int, partition: int, offset: int) -> UpdateHead:
    """An update of which only that is known."""
    return UpdateHead("rnn", sequence, Source(partition, offset), 0, 0)


@pytest.mark.parametrize(
    ("update", "than", "newer"),
    [
        ((2, 0, 11), (1, 0, 10), True),
        ((1, 0, 10), (1, 0, 10), False),  # repeated after a crash
        ((1, 0, 10), (2, 0, 11), False),
        ((2, 0, 10), (1, 0, 10), True),  # a record with two clicks
        ((1, 0, 11), (1, 0, 10), True),  # a retry, which is answered and changes nothing
        ((1, 0, 99), (50, 0, 98), True),  # the state was lost, and counts from 1 again
        ((51, 3, 7), (50, 0, 98), True),  # the topic has grown, the user has moved
        ((49, 0, 97), (51, 3, 7), False),  # and what is left in the old partition is read last
    ],
)
def test_the_newer_update_is_known(update: tuple[int, int, int], than: tuple[int, int, int], newer: bool) -> None:
    """By the sequence, and within a partition by the place of the click."""
    assert is_newer(head(*update), head(*than)) is newer


def test_of_two_updates_one_at_most_is_newer() -> None:
    """Whatever they are: nobody is shown one, the other, and the first again."""
    heads = [head(*fields) for fields in product(range(3), range(3), range(3))]

    for one, other in product(heads, heads):
        assert not (is_newer(one, other) and is_newer(other, one))


def test_a_list_contains_the_clicks_up_to_its_own() -> None:
    """Of its partition; of another one nothing is known."""
    assert contains(head(2, 1, 7), 1, 7)
    assert contains(head(2, 1, 8), 1, 7)
    assert not contains(head(2, 1, 6), 1, 7)
    assert not contains(head(2, 0, 8), 1, 7)


def test_the_head_of_an_update_is_read() -> None:
    """Its items are passed over."""
    value = encode_update("ann", ranked_list("popular", [], []), ServedBy(""), 3, AnsweredClick(1, 8, 1_000), 2_000)

    assert head_of(value) == UpdateHead("popular", 3, Source(1, 8), 1_000, 2_000)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: refuse_other_topic(Settings(), TopicIdentity("clicks", "a", 1), TopicIdentity("clicks", "b", 1)),
        lambda: start_position(Settings(), 0, Place(committed=9, first=0, end=5), lambda *_: None),
        lambda: check_fence(Settings(), 0, RestoredPartition(9, 9, clicks_end=5, highest_fence=7)),
    ],
)
def test_whoever_is_told_to_begin_anew_is_told_of_a_new_topic_of_lists(refuse: Callable[[], object]) -> None:
    """Sequences and offsets begin again: in the old topic each old list would count as the newer one."""
    with pytest.raises(PermanentError, match="--set app=NAME --set recommendations_topic=TOPIC"):
        refuse()
