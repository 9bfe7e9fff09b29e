"""Reasons for people: a text for each part of a score, and nothing where there are no parts."""

import json

from msgspec import UNSET

from feed.reasons import reasons
from nextclick.feed_types import ListedItem, Reason, encode
from nextclick.updates import Part


def test_each_part_of_a_score_has_a_text() -> None:
    """In the order of the parts, with their shares."""
    found = reasons((Part("neighbour", 0.05, "lamp"), Part("reclick", 0.04), Part("network", 0.02)))

    assert found == [
        Reason("neighbour", 0.05, "often clicked after lamp", "lamp"),
        Reason("reclick", 0.04, "you clicked it before"),
        Reason("network", 0.02, "fits what you did"),
    ]


def test_a_list_without_parts_has_no_reasons() -> None:
    """The popular list, and a list of a worker that was not asked for them: the field is not there."""
    item = ListedItem("lamp", 0.5, reasons(UNSET))

    assert json.loads(encode(item)) == {"item_id": "lamp", "score": 0.5}


def test_a_neighbour_that_nobody_names_is_said_in_general() -> None:
    """Others may write to the topic of updates: what they leave out is no reason to fail."""
    assert reasons((Part("neighbour", 0.05),)) == [Reason("neighbour", 0.05, "often clicked after what you clicked")]


def test_an_item_for_which_nothing_speaks_has_an_empty_list() -> None:
    """A score that is written as 0."""
    assert reasons(()) == []
