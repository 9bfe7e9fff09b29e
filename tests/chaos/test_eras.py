"""Which record counts for a click when its topic has grown."""

from typing import Any

from nextclick.clicks import APPLIED_HEADER, FORWARDED_HEADER
from nextclick.settings import Settings
from tests.chaos.eras import Eras, Growth


class Record:
    """A record of the clicks topic, of which only place and headers are looked at."""

    def __init__(self, partition: int, offset: int, headers: list[tuple[str, bytes]]) -> None:
        self._partition, self._offset, self._headers = partition, offset, headers

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers


def grown(*copies: Any) -> Eras:
    """A topic that grew from one partition to two when it had three clicks."""
    eras = Eras(Settings(), 1, [Growth(2, {0: 3})])
    eras._find_copies(copies)
    return eras


def test_what_was_made_of_a_click_that_is_applied_anew_is_undone() -> None:
    """The copy counts in its place; one that only asks for an answer counts for the original."""
    anew = Record(1, 7, [(FORWARDED_HEADER, b"0/1")])
    answer = Record(1, 8, [(FORWARDED_HEADER, b"0/2"), (APPLIED_HEADER, b"1")])

    eras = grown(anew, answer)

    assert [eras.is_undone(place) for place in ((0, 0), (0, 1), (0, 2), (1, 7), (1, 8))] == [
        *(False, True, False),
        *(False, False),
    ]
    assert [eras.counted(place) for place in ((0, 0), (0, 1), (0, 2), (1, 8))] == [(0, 0), (1, 7), (0, 2), (0, 2)]
