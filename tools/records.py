"""What librdkafka makes of a topic's records where others would expect nothing odd: headers, and batches that cannot be
read. Looks at what was read; asks no broker.
"""

from collections.abc import Callable
from operator import methodcaller

from confluent_kafka import KafkaError, Message

from nextclick.errors import PermanentError

Header = tuple[str, bytes | None]

_headers: Callable[[Message], list[Header] | None] = methodcaller("headers")  # this way the error is looked for

# A batch whose checksum is wrong, that cannot be decompressed, or whose codec is not known.
_UNREADABLE = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED})


def headers_of(message: Message) -> list[Header]:
    """Give a record's headers; none if the name of one is not UTF-8, because then the client gives none at all.

    Never ask `message.headers()` itself: what it then returns, the first time with an error that the interpreter does
    not always look for, are tuples with a hole, and touching them ends the process.
    """
    try:
        return _headers(message) or []
    except SystemError:
        message.set_headers([])
        return []


def is_unreadable(error: KafkaError) -> bool:
    """Tell whether a consumer's error says that it cannot read a batch. It may go on anywhere: read nothing more."""
    return error.code() in _UNREADABLE


def refuse_unreadable(message: Message) -> None:
    """Do nothing about a record, nor about an error that says something else.

    Raises:
        PermanentError: the message says that a batch cannot be read.
    """
    error = message.error()
    if error is not None and is_unreadable(error):
        raise PermanentError(
            f"topic {message.topic()}, partition {message.partition()}: the batch at offset {message.offset()} cannot "
            f"be read, and nothing behind it is: {error.str()}. Restore the partition from a replica that is whole, or "
            "go on without the batch, as docs/operating.md says"
        )
