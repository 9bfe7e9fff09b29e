"""What a feed says of its trouble."""

import pytest

import tools.trouble
from tools.trouble import Trouble


def test_the_same_trouble_is_said_once_in_a_while_with_how_much_was_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of three thousand unreadable records, one line; another kind of trouble is news at once."""
    trouble = Trouble()
    for number in range(3_000):
        trouble.say("passed over", f"offset {number}")
        trouble.say("away", "the broker is away")
    monkeypatch.setattr(tools.trouble, "_SAY_EVERY_S", 0.0)
    again = Trouble()
    again.say("away", "again")
    again.say("away", "and again")
    monkeypatch.setattr(tools.trouble.time, "monotonic", lambda: 1e12)
    trouble.say("passed over", "offset 3000")

    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "offset 0",
        "the broker is away",
        "again",
        "and again",
        "offset 3000 (2999 more like it were not said)",
    ]
