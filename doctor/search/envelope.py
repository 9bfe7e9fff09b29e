"""Which envelope the events of a sample are in, by their shape."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from doctor.search.sample import Sample
from doctor.search.table import parsed
from nextclick.schema.paths import Headers, parsed_text

MOST = 0.5  # of the records


def find_envelope(sample: Sample) -> str:
    """Give the envelope that most records are in; `none` if there is none."""
    shapes = Counter(_shape(document, record.headers) for record, document in parsed(sample))
    if not shapes:
        return "none"
    shape, number = shapes.most_common(1)[0]
    return shape if number > MOST * shapes.total() else "none"


def _shape(document: Any, headers: Headers) -> str:
    if any(name.lower().replace("-", "_") == "ce_specversion" for name, _ in headers or ()):
        return "cloudevents"
    if isinstance(document, list):
        document = parsed_text(document[0]) if document else None
    if not isinstance(document, Mapping):
        return "none"
    if "specversion" in document and ("data" in document or "data_base64" in document):
        return "cloudevents"
    is_connect = "payload" in document and document.keys() == {"schema", "payload"}
    inner = parsed_text(document["payload"]) if is_connect else document
    if isinstance(inner, Mapping) and "op" in inner and ("after" in inner or "before" in inner):
        return "debezium"
    return "connect" if is_connect else "none"
