"""Reads what stands in a request beside its body: query parameters and headers."""

import re
from urllib.parse import unquote_plus

from starlette.requests import Request

from feed.problems import ProblemError
from feed.user_lists import Choice
from nextclick.clicks import MAX_ID_BYTES
from nextclick.feed_types import MAX_EXCLUDED, MAX_LIMIT, MAX_WANTED_CATEGORIES
from nextclick.rules import EXCLUDES, Exclude

DEFAULT_LIMIT = 20
WAIT_PATTERN = "(?:[1-9][0-9]{0,3}|10000)ms|(?:[1-9]|10)s"  # from 1 ms to 10 s
KEY_PATTERN = "[!-~]{1,250}"  # what a header can hold; workers read an id of 256 bytes, and a click's place follows it
_WAIT = re.compile(WAIT_PATTERN)
_KEY = re.compile(KEY_PATTERN)
_FLAGS = {"true": True, "false": False}


def choice_of(request: Request) -> Choice:
    """Give what of a list is wanted.

    Raises:
        ProblemError: a parameter cannot be read.
    """
    return Choice(limit_of(request), excluded_of(request), flag_of(request, "explain"), categories_of(request))


def limit_of(request: Request) -> int:
    """Give how many items are wanted.

    Raises:
        ProblemError: it is no number from 1 to `MAX_LIMIT`.
    """
    given = _single(request, "limit")
    if given is None:
        return DEFAULT_LIMIT
    if not (given.isascii() and given.isdigit() and len(given) <= 3 and 1 <= int(given) <= MAX_LIMIT):
        raise ProblemError("bad-request", f"limit must be a number from 1 to {MAX_LIMIT}, and is {given!r:.40}")
    return int(given)


def excluded_of(request: Request) -> frozenset[str]:
    """Give the items that must not be on the list: `exclude=a,b`, or `exclude` several times.

    A comma that is written `%2C` belongs to an id, so commas are looked for before anything is decoded.

    Raises:
        ProblemError: they are more than `MAX_EXCLUDED`.
    """
    return _listed(request, "exclude", MAX_EXCLUDED, "items")


def categories_of(request: Request) -> frozenset[str]:
    """Give the categories of which an item must be in one: `category=a,b`, or `category` several times.

    Raises:
        ProblemError: they are more than `MAX_WANTED_CATEGORIES`.
    """
    return _listed(request, "category", MAX_WANTED_CATEGORIES, "categories")


def _listed(request: Request, name: str, at_most: int, what: str) -> frozenset[str]:
    query = request.scope["query_string"].decode("latin-1")
    pairs = [part.partition("=") for part in query.split("&")]
    coded = [values for each, _, values in pairs if unquote_plus(each) == name]
    given = [unquote_plus(value) for values in coded for value in values.split(",")]
    if len(given) > at_most:
        raise ProblemError("bad-request", f"{name} takes {at_most} {what} at most, found {len(given)}")
    return frozenset(given)


def excluded_clicks_of(request: Request) -> Exclude | None:
    """Give which of the clicked items are left out; None: as the workers do it.

    Raises:
        ProblemError: it is none of the setting `exclude`.
    """
    given = _single(request, "exclude_clicked")
    if given is None:
        return None
    for each in EXCLUDES:
        if given == each:
            return each
    raise ProblemError("bad-request", f"exclude_clicked must be one of {', '.join(EXCLUDES)}, and is {given!r:.40}")


def flag_of(request: Request, name: str) -> bool:
    """Give a parameter that is true or false; false where it is not there.

    Raises:
        ProblemError: it is neither.
    """
    given = _single(request, name)
    if given is None:
        return False
    if given not in _FLAGS:
        raise ProblemError("bad-request", f"{name} must be true or false, and is {given!r:.40}")
    return _FLAGS[given]


def wait_of(request: Request) -> float | None:
    """Give for how long the answer may be waited for, in s; None: not at all.

    Raises:
        ProblemError: it is no duration such as 200ms or 1s, or more than 10 s.
    """
    given = _single(request, "wait")
    if given is None:
        return None
    if _WAIT.fullmatch(given) is None:
        raise ProblemError(
            "bad-request", f"wait must be a time from 1ms to 10s, such as 200ms or 1s, and is {given!r:.40}"
        )
    return int(given[:-2]) / 1000 if given.endswith("ms") else int(given[:-1])


def key_of(request: Request) -> str | None:
    """Give the header Idempotency-Key; None if there is none.

    Raises:
        ProblemError: it is no key.
    """
    given = request.headers.get("idempotency-key")
    if given is not None and _KEY.fullmatch(given) is None:
        raise ProblemError(
            "bad-request", "Idempotency-Key must have 1 to 250 visible characters of ASCII; a UUID is a good one"
        )
    return given


def tags_of(request: Request) -> list[str]:
    """Give the tags of If-None-Match, compared weakly (RFC 9110, 13.1.2): without the mark of a weak one."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return [tag.strip().removeprefix("W/") for tag in given.split(",")]


def id_in_path(request: Request, name: str) -> str:
    """Give an id that stands in the path.

    Raises:
        ProblemError: nothing stands there, or more than any id has.
    """
    given: str = request.path_params[name]
    if not given:
        raise ProblemError("not-found", f"{name} is missing in the path")
    if len(given) > MAX_ID_BYTES:
        raise ProblemError("bad-request", f"{name} has {len(given)} characters, and may have {MAX_ID_BYTES}")
    return given


def _single(request: Request, name: str) -> str | None:
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise ProblemError("bad-request", f"{name} was given {len(given)} times; give it once")
    return given[0] if given else None
