"""The feed's description for programs (OpenAPI 3.1), made from its routes and types."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from feed.parameters import DEFAULT_LIMIT, KEY_PATTERN, WAIT_PATTERN
from feed.problems import MEDIA_TYPE as PROBLEM
from feed.server import MAX_HEAD_BYTES
from nextclick.clicks import MAX_ID_BYTES
from nextclick.feed_types import (
    MAX_EXCLUDED,
    MAX_LIMIT,
    MAX_WANTED_CATEGORIES,
    ClicksIn,
    ClicksTaken,
    Neighbours,
    PopularList,
    Problem,
    SessionIn,
    SessionList,
    UserList,
)
from nextclick.rules import EXCLUDES
from tools.json_schemas import schemas_of

VERSION = "1.0"  # of the routes and types; the first number changes where clients must (docs/contracts)
_JSON = "application/json"
_ID = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
_TEXT = {"type": "string"}  # of what is no id nothing is listed, nor left out
_REF = "#/components/schemas/{name}"
Json = dict[str, Any]


class _Operation(NamedTuple):
    """What is to be said of a route.

    Attributes:
        method, path: of the route.
        name: of the operation, for generated clients.
        summary, description: for a person.
        parameters: names of those below.
        takes: the type of the body, if there is one.
        examples: of the body, by what they show.
        gives: the type of the answer.
        problems: statuses of the problems that are its own.
        media_type: of the answer.
    """

    method: str
    path: str
    name: str
    summary: str
    description: str
    parameters: Sequence[str]
    gives: Any
    takes: Any = None
    examples: Mapping[str, Any] = {}
    problems: Sequence[int] = ()
    media_type: str = _JSON


_CHOICE = ("limit", "exclude", "category")
_LIST = (*_CHOICE, "explain")
OPERATIONS = (
    _Operation(
        "get",
        "/v1/users/{user_id}/recommendations",
        "getRecommendations",
        "The newest list of a user",
        "A user nobody knows gets the popular items. `age_ms` says how long ago the list was made. The answer has an "
        "`ETag`; with it in `If-None-Match`, 304 says that the list is the same.",
        ("user_id", *_LIST, "If-None-Match"),
        UserList,
    ),
    _Operation(
        "get",
        "/v1/users/{user_id}/events",
        "followRecommendations",
        "The lists of a user, each as soon as it exists",
        "Server-sent events named `recommendations`: the newest list at once, then every newer one. Their data is what "
        "the list's own route gives. After a pause, `Last-Event-ID` brings only what is newer; an older list never "
        "comes after a newer one. A comment every 15 s keeps the connection open.",
        ("user_id", *_LIST, "Last-Event-ID"),
        UserList,
        problems=(429, 503),
        media_type="text/event-stream",
    ),
    _Operation(
        "get",
        "/v1/items/{item_id}/neighbours",
        "getNeighbours",
        "What is clicked near an item",
        "Most often first, as the bundle that is served has counted it.",
        ("item_id", *_CHOICE),
        Neighbours,
        problems=(404, 429, 503),
    ),
    _Operation(
        "get",
        "/v1/popular",
        "getPopular",
        "The popular items",
        "Of the newest popular list of a worker, or of the bundle, whichever is younger.",
        _CHOICE,
        PopularList,
        problems=(429, 503),
    ),
    _Operation(
        "post",
        "/v1/clicks",
        "sendClicks",
        "Take one click, or a list of clicks",
        "Answered when the broker has them all. With `wait`, for clicks of one user, the answer has the user's list "
        "that contains them; null if it was not there in time. A click that is sent again under its `event_id`, or "
        "under the same `Idempotency-Key`, is applied once, while fewer than `recent_clicks` (a setting, 20) other "
        "clicks of its user came in between; a request with an id or a key may have so many of a user at most.",
        ("wait", *_LIST, "Idempotency-Key"),
        ClicksTaken,
        takes=ClicksIn,
        examples={
            "one click": {"user_id": "u-17", "item_id": "sku-4711"},
            "a list of clicks": [
                {"user_id": "u-17", "item_id": "sku-4711", "event_type": "cart", "event_id": "e-1"},
                {"user_id": "u-17", "item_id": "sku-0815", "timestamp_ms": 1_764_000_000_000, "event_id": "e-2"},
            ],
        },
        problems=(408, 413, 415, 422, 429, 501, 503),
    ),
    _Operation(
        "post",
        "/v1/sessions/recommendations",
        "getSessionRecommendations",
        "A list for clicks that are stored nowhere",
        "For visitors who are anonymous or have not agreed to be remembered: the same network, from the beginning.",
        (*_LIST, "exclude_clicked"),
        SessionList,
        takes=SessionIn,
        examples={
            "two clicks": {"clicks": [{"item_id": "sku-4711"}, {"item_id": "sku-0815", "event_type": "cart"}]},
            "none yet": {"clicks": []},
        },
        problems=(408, 413, 415, 422, 429, 503),
    ),
)


def openapi(needs_token: bool | None = None) -> Json:
    """Give the description.

    Args:
        needs_token: whether the feed asks for a token; None: of feeds that do and of those that do not.
    """
    types: list[Any] = [Problem, *(each.gives for each in OPERATIONS)]
    bodies = [each.takes for each in OPERATIONS if each.takes is not None]
    schemas, components = schemas_of([*types, *bodies], _REF)
    found = dict(zip(map(repr, [*types, *bodies]), schemas, strict=True))
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nextclick feed",
            "version": VERSION,
            "summary": "Lists of recommendations over HTTP, and the way in for clicks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": {True: [{"token": []}], False: [{}], None: [{"token": []}, {}]}[needs_token],
    }


def _described(operation: _Operation, schemas: Mapping[str, Json]) -> Json:
    answer: Json = {"schema": schemas[repr(operation.gives)]}
    if operation.media_type != _JSON:
        answer = {"schema": _event(answer["schema"])}
    responses: Json = {"200": {"description": operation.summary, "content": {operation.media_type: answer}}}
    if "If-None-Match" in operation.parameters:
        responses["200"]["headers"] = {"ETag": {"schema": {"type": "string"}}}
        responses["304"] = {"description": "The list is the one that If-None-Match names."}
    responses["431"] = {"description": f"The request line and the headers have more than {MAX_HEAD_BYTES} bytes."}
    problem = {PROBLEM: {"schema": schemas[repr(Problem)]}}
    for status in sorted({400, 401, 500, *operation.problems}):
        responses[str(status)] = {"description": "A problem; `detail` says what to do.", "content": problem}
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [_PARAMETERS[name] | {"name": name} for name in operation.parameters],
        "responses": responses,
    }
    if operation.takes is not None:
        examples = {name: {"value": value} for name, value in operation.examples.items()}
        body = {_JSON: {"schema": schemas[repr(operation.takes)], "examples": examples}}
        described["requestBody"] = {"required": True, "content": body}
    return described


def _event(data: Json) -> Json:
    """Give the schema of a server-sent event: of each, since the stream as a whole has none."""
    return {
        "type": "object",
        "properties": {
            "event": {"const": "recommendations"},
            "id": {"type": "string", "description": "For `Last-Event-ID`; absent with the popular list."},
            "data": {"type": "string", "contentMediaType": _JSON, "contentSchema": data},
        },
        "required": ["event", "data"],
    }


def _in_path(what: str, example: str) -> Json:
    return {"in": "path", "required": True, "description": what, "schema": _ID, "example": example}


_PARAMETERS: Mapping[str, Json] = {
    "user_id": _in_path("The user, as in the clicks; at most 256 bytes of UTF-8.", "u-17"),
    "item_id": _in_path("The item, as in the clicks; at most 256 bytes of UTF-8.", "sku-4711"),
    "limit": {
        "in": "query",
        "description": "Most items.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    },
    "exclude": {
        "in": "query",
        "description": "Items that must not be on the list: given several times, or with commas between them. A comma "
        "in an id is written `%2C`.",
        "schema": {"type": "array", "items": _TEXT, "maxItems": MAX_EXCLUDED},
        "example": ["sku-0815"],
    },
    "category": {
        "in": "query",
        "description": "An item must be in one of these categories (the topic `items`): given several times, or with "
        "commas between them. A user's list is a part of the one that the worker made; the others are the best of the "
        "categories.",
        "schema": {"type": "array", "items": _TEXT, "maxItems": MAX_WANTED_CATEGORIES},
        "example": ["shoes"],
    },
    "exclude_clicked": {
        "in": "query",
        "description": "Which of the clicked items are left out: none, the last one, those of the running session, all "
        "of them, or those that were bought. Without it, as the setting `exclude` says.",
        "schema": {"type": "string", "enum": list(EXCLUDES)},
    },
    "explain": {
        "in": "query",
        "description": "Say what each item is there for, where that is known (setting `explain` of the workers).",
        "schema": {"type": "boolean", "default": False},
    },
    "wait": {
        "in": "query",
        "description": "How long to wait for the new list, up to 10s.",
        "schema": {"type": "string", "pattern": f"^(?:{WAIT_PATTERN})$"},
        "example": "200ms",
    },
    "If-None-Match": {"in": "header", "description": "An `ETag` of before.", "schema": {"type": "string"}},
    "Last-Event-ID": {"in": "header", "description": "The last event that was read.", "schema": {"type": "string"}},
    "Idempotency-Key": {
        "in": "header",
        "description": "Names the click, or the list of clicks: sent again under it, it is applied once, while fewer "
        "than `recent_clicks` (20) other clicks of the user came in between.",
        "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
    },
}
