"""Updates as CloudEvents 1.0 in JSON, all in the record's value (structured mode)."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

import msgspec

from nextclick.updates import (
    AnsweredClick,
    RankedList,
    RecommendationUpdate,
    ServedBy,
    UpdateFormat,
    WireUpdate,
    decode_json,
    encode_items,
    wire_update,
)

EVENT_TYPE = "nextclick.recommendations.v1"
HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_encode = msgspec.json.Encoder().encode


class RecommendationEvent(msgspec.Struct, frozen=True):
    """An update as a CloudEvent.

    Attributes:
        specversion: of CloudEvents.
        id: with `source` the name of the update: one that comes again has the same. Partition/offset of the click, and
            the sequence.
        source: the application and the topic of its clicks.
        type: of the event; another one when consumers would have to change.
        subject: the user.
        time: when the worker made the update.
        datacontenttype: of `data`.
        data: the update.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: Literal["nextclick.recommendations.v1"]
    subject: str
    time: str
    datacontenttype: Literal["application/json"]
    data: RecommendationUpdate


class _WireEvent(msgspec.Struct, frozen=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: WireUpdate


class _ReadEvent(msgspec.Struct, frozen=True):
    data: RecommendationUpdate


_decoder = msgspec.json.Decoder(_ReadEvent)


def decode_event(value: bytes) -> RecommendationUpdate:
    """Read the update in a CloudEvent.

    Raises:
        msgspec.DecodeError: there is none.
    """
    return decode_json(_decoder, value).data


def cloud_events_format(app: str, clicks_topic: str) -> UpdateFormat:
    """Give the format of an application's updates."""
    source = f"/nextclick/{quote(app, safe='')}/{quote(clicks_topic, safe='')}"

    def encode_update(
        user_id: str, ranked: RankedList, served: ServedBy, sequence: int, answered: AnsweredClick, produced_at_ms: int
    ) -> bytes:
        event_id = f"{answered.partition}/{answered.offset}-{sequence}"
        update = wire_update(user_id, ranked, served, sequence, answered, produced_at_ms)
        time = _time(produced_at_ms)
        return _encode(_WireEvent("1.0", event_id, source, EVENT_TYPE, user_id, time, "application/json", update))

    return UpdateFormat("json", HEADERS, encode_items, encode_update)


@lru_cache(maxsize=8)  # the same for all updates of a chunk
def _time(produced_at_ms: int) -> str:
    moment = datetime.fromtimestamp(produced_at_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{produced_at_ms % 1000:03}Z"
