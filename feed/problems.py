"""Errors of the feed: each is an `application/problem+json` that says what to do (RFC 9457)."""

from collections.abc import Mapping

from starlette.responses import Response

from nextclick.feed_types import Problem, encode

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    "bad-request": (400, "The request cannot be read"),
    "unauthorized": (401, "A token is needed"),
    "not-found": (404, "There is nothing here"),
    "unknown-item": (404, "No bundle knows this item"),
    "method-not-allowed": (405, "This route has other methods"),
    "too-slow": (408, "The request did not come in time"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "click-refused": (422, "A click cannot be used"),
    "too-many": (429, "Too many at once"),
    "internal": (500, "The feed failed"),
    "not-possible": (501, "These settings do not allow it"),
    "no-broker": (503, "The broker does not answer"),
    "cannot-write": (503, "Clicks cannot be written"),
    "no-model": (503, "No bundle is served yet"),
    "ending": (503, "This instance is ending"),
}


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Say what is wrong.

        Args:
            kind: one of the kinds above.
            detail: what is wrong here, and what to do; never holds a token or what another user did.
            headers: of the response, such as Retry-After.
        """
        super().__init__(detail)
        self.kind, self.detail, self.headers = kind, detail, headers

    def response(self) -> Response:
        """Give the response."""
        status, title = _TITLES[self.kind]
        body = encode(Problem(f"urn:nextclick:problem:{self.kind}", title, status, self.detail))
        return Response(body, status, {"Cache-Control": "no-store", **(self.headers or {})}, MEDIA_TYPE)
