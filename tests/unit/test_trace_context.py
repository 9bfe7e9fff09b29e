"""What names a trace, and that updates carry what their clicks' records name."""

from collections.abc import Iterator

import pytest
from starlette.requests import Request

from feed.routes.clicks import _traced
from nextclick.schema.encoder import EncodedClick
from nextclick.trace_context import TRACEPARENT, sampled_trace_id, trace_of
from tests.protocol.simulation import Simulation

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = b"00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    simulation = Simulation(n_partitions=1)
    yield simulation
    simulation.close()


@pytest.mark.parametrize(("flags", "is_kept"), [(b"00", False), (b"01", True), (b"03", True), (b"fe", False)])
def test_a_trace_that_whoever_began_it_does_not_keep_has_no_id_to_look_for(flags: bytes, is_kept: bool) -> None:
    assert sampled_trace_id(TRACE[:-2] + flags) == ("4bf92f3577b34da6a3ce929d0e0e4736" if is_kept else None)


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (TRACE, True),
        (b"cc" + TRACE[2:], True),
        (b"ff" + TRACE[2:], False),
        (TRACE.upper(), False),
        (TRACE + b"-more", False),
        (TRACE + b"\n", False),
        (b"00-" + b"0" * 32 + TRACE[35:], False),
        (TRACE[:36] + b"0" * 16 + b"-01", False),
        (b"x" * 1_000_000, False),
        (b"", False),
        (None, False),
    ],
)
def test_only_what_the_standard_allows_names_a_trace(value: bytes | None, is_valid: bool) -> None:
    """Whatever else a producer writes there is not passed on."""
    assert trace_of([("other", b"1"), (TRACEPARENT, value)]) == (value if is_valid else None)


def test_an_update_carries_the_trace_of_its_click_and_of_no_other(simulation: Simulation) -> None:
    """Also of a chunk in which most clicks have none, and of a record that is no trace's."""
    sent = [None, TRACE, None, OTHER, b"none", None]
    simulation.start("a")
    simulation.advance(5)
    for number, trace in enumerate(sent):
        headers = [(TRACEPARENT, trace)] if trace is not None else []
        simulation.send(f"u{number % 2}", headers)
    simulation.advance(5)
    updates = simulation.records(simulation.settings.recommendations_topic)

    assert [dict(record.headers).get(TRACEPARENT) for record in updates] == [None, TRACE, None, OTHER, None, None]


def test_a_click_over_http_carries_the_trace_of_its_request() -> None:
    record = EncodedClick(b"u", b"{}", [("event", b"1")])

    def after(*headers: tuple[bytes, bytes]) -> list[EncodedClick]:
        return _traced([record, record], Request({"type": "http", "headers": headers}))

    assert after() == after((b"traceparent", b"nonsense")) == [record, record]
    assert after((b"traceparent", TRACE)) == [record._replace(headers=[("event", b"1"), (TRACEPARENT, TRACE)])] * 2
