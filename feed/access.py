"""Who may ask: bearer tokens from a file, which is read again when it changes."""

import hmac
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from feed.problems import ProblemError
from nextclick.errors import PermanentError

LEAST_TOKEN = 16  # characters: shorter ones can be guessed
_LOOK_EVERY_S = 1.0
_PROTECTED = "/v1/"
_HOLDS_STILL = "nextclick.token_holds_still"  # in the scope of a request
_log = logging.getLogger(__name__)


class Tokens:
    """The tokens of a file: one on each line; empty lines and lines that begin with # are none."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            PermanentError: it cannot be read, has no token, or a short one.
        """
        self._path = path
        self._changed_ns, self._next_look_s, self._is_unusable = -1, 0.0, False
        self._tokens: list[bytes] = []
        try:
            self._read()
        except (OSError, ValueError) as error:
            raise PermanentError(
                f"feed_tokens_file {path} cannot be used: {_reason(error)}; write a token of {LEAST_TOKEN} or more "
                "characters on each line (`openssl rand -hex 32` makes one)"
            ) from error

    def are_good_for(self, authorization: str | None) -> bool:
        """Tell whether a header Authorization has one of the tokens."""
        self._look()
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode("latin-1")  # the bytes that were sent
        # All are compared, each in constant time: how long it takes says nothing.
        return (scheme.lower() == "bearer") & any([hmac.compare_digest(given, known) for known in self._tokens])

    def _look(self) -> None:
        """Read the file again if it has changed; one that cannot be used changes nothing."""
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + _LOOK_EVERY_S
        try:
            if self._path.stat().st_mtime_ns != self._changed_ns:
                self._read()
                _log.info("feed_tokens_file was read again", extra={"fields": {"tokens": len(self._tokens)}})
                self._is_unusable = False
        except (OSError, ValueError) as error:
            if not self._is_unusable:  # said once
                _log.warning(
                    "feed_tokens_file %s cannot be used (%s): the tokens of before hold", self._path, _reason(error)
                )
            self._is_unusable = True

    def _read(self) -> None:
        changed_ns = self._path.stat().st_mtime_ns
        lines = [line.strip() for line in self._path.read_text(encoding="utf-8").splitlines()]
        tokens = [line.encode() for line in lines if line and not line.startswith("#")]
        if not tokens:
            raise ValueError("it has no token")
        if any(len(token) < LEAST_TOKEN for token in tokens):
            raise ValueError(f"a token has fewer than {LEAST_TOKEN} characters")
        self._tokens, self._changed_ns = tokens, changed_ns


class Guard:
    """Lets only those with a token reach the routes below /v1/."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass the request on."""
        if scope["type"] != "http" or not scope["path"].startswith(_PROTECTED):
            await self._app(scope, receive, send)
            return
        is_good = partial(self._tokens.are_good_for, Headers(scope=scope).get("authorization"))
        if not is_good():
            problem = ProblemError(
                "unauthorized",
                "send the header `Authorization: Bearer TOKEN` with one of the tokens in feed_tokens_file",
                {"WWW-Authenticate": "Bearer"},
            )
            await problem.response()(scope, receive, send)
            return
        scope[_HOLDS_STILL] = is_good
        await self._app(scope, receive, send)


def holds_still(scope: Scope) -> Callable[[], bool]:
    """Give what tells whether the token of a request is one still; true where none is asked for."""
    found: Callable[[], bool] = scope.get(_HOLDS_STILL, lambda: True)
    return found


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
