"""Reads the body of a request: JSON of a known type, within bounds."""

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request

from feed.problems import ProblemError
from nextclick.clicks import MAX_VALUE_BYTES

BODY_S = 15.0  # from its beginning to its end
_T = TypeVar("_T")


async def body_of(request: Request, decoder: "msgspec.json.Decoder[_T]") -> _T:
    """Read and check a body.

    Raises:
        ProblemError: it is too large, too slow, no JSON, or of another form.
        ClientDisconnect: the client went away.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ProblemError(
            "unsupported-media-type", f"send Content-Type: application/json instead of {media_type!r:.80}"
        )
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_VALUE_BYTES:
                    raise ProblemError("too-large", f"a body may have {MAX_VALUE_BYTES} bytes; send less at once")
    except TimeoutError:
        detail = f"the body was not there after {BODY_S:g} s; send it faster, or less at once"
        raise ProblemError("too-slow", detail, {"Connection": "close"}) from None
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            return msgspec.convert(_untyped.decode(body), decoder.type)
    except msgspec.ValidationError as error:
        raise ProblemError("bad-request", f"the body does not fit: {error!s:.300}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError("bad-request", f"the body is no JSON: {error!s:.300}") from None


def _number(text: str) -> int | float:
    """Read a number that is not written as a whole one. It may be one: as JSON Schema has it, 1.0 is an integer."""
    number = float(text)
    return int(number) if number.is_integer() else number


_untyped = msgspec.json.Decoder(float_hook=_number)
