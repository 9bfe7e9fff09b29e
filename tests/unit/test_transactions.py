"""Offsets in a transaction: what the client raises reaches whoever asked, at once."""

import time
from typing import Any, cast

import pytest
from confluent_kafka import Producer

from tools.transactions import send_offsets


class _Refusing:
    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        raise TypeError("expected a group's membership")

    def poll(self, timeout_s: float) -> int:
        return 0


def test_an_error_of_any_kind_reaches_the_caller() -> None:
    """Else it would end a thread that nobody looks at, and be waited for as if the broker were away."""
    began_s = time.monotonic()
    with pytest.raises(TypeError, match="membership"):
        send_offsets(cast("Producer", _Refusing()), [], b"", step_s=0.05, end_s=began_s + 5.0, wait=lambda: None)

    assert time.monotonic() - began_s < 4.0
