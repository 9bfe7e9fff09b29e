"""Reads what stands in a request beside its body: query parameters and headers."""

import re

from starlette.requests import Request

from feed.problems import ProblemError
from feed.user_lists import Choice
from nextclick.feed_types import MAX_EXCLUDED, MAX_LIMIT

DEFAULT_LIMIT = 20
MAX_WAIT_S = 10.0
_DURATION = re.compile(r"(\d{1,6})(ms|s)")
_FLAGS = {"true": True, "1": True, "": True, "false": False, "0": False}


def choice_of(request: Request) -> Choice:
    """Give what of a list is wanted.

    Raises:
        ProblemError: a parameter cannot be read.
    """
    return Choice(limit_of(request), excluded_of(request), flag_of(request, "explain"))


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

    Raises:
        ProblemError: they are more than `MAX_EXCLUDED`.
    """
    items = frozenset(item for given in request.query_params.getlist("exclude") for item in given.split(",") if item)
    if len(items) > MAX_EXCLUDED:
        raise ProblemError("bad-request", f"exclude takes {MAX_EXCLUDED} items at most, found {len(items)}")
    return items


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
        ProblemError: it is no duration such as 200ms or 1s, or more than `MAX_WAIT_S`.
    """
    given = _single(request, "wait")
    if given is None:
        return None
    found = _DURATION.fullmatch(given)
    seconds = int(found[1]) / (1000 if found[2] == "ms" else 1) if found is not None else None
    if seconds is None or not 0 < seconds <= MAX_WAIT_S:
        raise ProblemError(
            "bad-request", f"wait must be a time up to {MAX_WAIT_S:g}s, such as 200ms or 1s, and is {given!r:.40}"
        )
    return seconds


def id_in_path(request: Request, name: str) -> str:
    """Give an id that stands in the path.

    Raises:
        ProblemError: nothing stands there.
    """
    given: str = request.path_params[name]
    if not given:
        raise ProblemError("not-found", f"{name} is missing in the path")
    return given


def _single(request: Request, name: str) -> str | None:
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise ProblemError("bad-request", f"{name} was given {len(given)} times; give it once")
    return given[0] if given else None
