"""Which events a record holds: one, or several of one user in an array, in an envelope or in an object's list.

A list, or an event in it, may have been written as text: databases give columns of JSON like this.
"""

from collections.abc import Sequence
from typing import Any

from nextclick.clicks import MAX_EVENTS, Ignored, Rejected, RejectReason
from nextclick.schema.envelopes import Event, Unwrap, unexpected
from nextclick.schema.paths import FieldPath, Headers, parsed_text

Found = Event | Ignored | Rejected


def events_of(document: Any, headers: Headers, unwrap: Unwrap, list_path: FieldPath | None) -> Sequence[Found]:
    """Give the events of a record, in order.

    Args:
        document: the parsed value.
        headers: of the record.
        unwrap: takes an event out of its envelope.
        list_path: where an object has a list of events; None: it is an event itself.
    """
    found: list[Found] = []
    for each in document if isinstance(document, list) else (document,):
        event = unwrap(parsed_text(each), headers)
        found += _spread(event, list_path) if isinstance(event, Event) else (event,)
        if len(found) > MAX_EVENTS:
            return (Rejected(RejectReason.TOO_LARGE, f"expected at most {MAX_EVENTS} events in a record, found more"),)
    return found or (Rejected(RejectReason.BAD_FIELD, "expected events, found an empty array"),)


def _spread(event: Event, list_path: FieldPath | None) -> Sequence[Found]:
    """Give the events that an unwrapped document holds: an array's elements, or those of its list."""
    data, *around = event.documents
    if isinstance(data, list):
        events = [event._replace(documents=(parsed_text(each), *around)) for each in data]
        return [part for each in events for part in _listed(each, list_path)]
    return _listed(event, list_path)


def _listed(event: Event, list_path: FieldPath | None) -> Sequence[Found]:
    data = event.documents[0]
    if not isinstance(data, dict):
        return (unexpected("a JSON object, or an array of them", data),)
    if list_path is None:
        return (event,)
    elements = parsed_text(list_path.read((data,), None))
    if not isinstance(elements, list):
        return (unexpected(f"a list of events at {list_path.text!r:.60}", elements),)
    return [
        event._replace(documents=(each, *event.documents)) if isinstance(each, dict) else unexpected("an object", each)
        for each in map(parsed_text, elements)
    ]
