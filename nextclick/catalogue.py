"""What the shop says of its items: the records of the topic `items`. Decides nothing, and opens no connection.

The key is the item's id; the value is JSON, of which everything is optional. A tombstone forgets what was said: the
item then counts as available, and nothing else is known of it. A record that cannot be used changes nothing.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from nextclick.clicks import MAX_ID_BYTES, MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

MAX_RECORD_BYTES = 64 * 1024  # with the longest texts, all of them of four bytes a letter, an item takes 45 KB
MAX_CATEGORIES = 64  # of an item
MAX_TITLE, MAX_LINK = 1_024, 2_048  # letters
MIN_BOOST, MAX_BOOST = 1e-3, 1e3  # what is to be in no list is not available, and what must be in all is pinned

Category = Annotated[str, Meta(min_length=1, max_length=128)]
TimeMs = Annotated[int, Meta(ge=MIN_TIMESTAMP_MS, le=MAX_TIMESTAMP_MS)]
Boost = Annotated[float, Meta(ge=MIN_BOOST, le=MAX_BOOST)]
Amount = Annotated[float, Meta(ge=0.0, le=1e15)]
Priced = Annotated[str, Meta(min_length=1, max_length=64)]
Link = Annotated[str, Meta(min_length=1, max_length=MAX_LINK)]


class ShopItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The value of a record of `items`. Its key is the item's id, as clicks have it.

    null is as good as nothing. Another field is refused: a name that is not quite right would say nothing unnoticed.

    Attributes:
        available: false: the item is in no list; true, or nothing: it can be.
        categories: that the item is in, the most telling one first.
        published_at_ms: before this time the item is in no list, in ms since 1970.
        expires_at_ms: from this time on it is in none.
        boost: its probability is multiplied by it before lists are made; 1: as the model says.
        title: for whoever shows a list; passed through by the feed, as are those that follow.
        url: of the item's page.
        image: its address.
        price: as a number, or as a text with its currency.
    """

    available: bool | None = None
    categories: Annotated[tuple[Category, ...], Meta(max_length=MAX_CATEGORIES)] | None = None
    published_at_ms: TimeMs | None = None
    expires_at_ms: TimeMs | None = None
    boost: Boost | None = None
    title: Annotated[str, Meta(min_length=1, max_length=MAX_TITLE)] | None = None
    url: Link | None = None
    image: Link | None = None
    price: Amount | Priced | None = None

    def factor_at(self, now_ms: int) -> float:
        """Give what the item's probability is multiplied by at a time; 0: it is in no list."""
        if self.available is False:
            return 0.0
        if self.published_at_ms is not None and now_ms < self.published_at_ms:
            return 0.0
        if self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return 0.0
        return 1.0 if self.boost is None else self.boost


NOTHING_SAID = ShopItem()
_decoder = msgspec.json.Decoder(ShopItem)
_encoder = msgspec.json.Encoder()


class ItemError(ValueError):
    """A record of `items` that cannot be used; says what is wrong, and holds no data of anyone's."""


def decode_item(value: bytes | None) -> ShopItem:
    """Read the value of a record; a tombstone says nothing.

    Raises:
        ItemError: it cannot be used.
    """
    if value is None:
        return NOTHING_SAID
    if len(value) > MAX_RECORD_BYTES:
        raise ItemError(f"expected a value of at most {MAX_RECORD_BYTES} bytes, found {len(value)}")
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ItemError(_without_values(error)) from None


def encode_item(item: ShopItem) -> bytes:
    """Give the value of a record; what is nothing is left out."""
    return _encoder.encode(item)


def item_id_of(key: bytes | None) -> str:
    """Read the key of a record.

    Raises:
        ItemError: it is no item's id.
    """
    if not key:
        raise ItemError("expected the item's id as the record's key, found none")
    if len(key) > MAX_ID_BYTES:
        raise ItemError(f"expected an item's id of at most {MAX_ID_BYTES} bytes as the key, found {len(key)}")
    try:
        item_id = key.decode()
    except UnicodeDecodeError:
        raise ItemError("expected the item's id in UTF-8 as the record's key, found other bytes") from None
    if "\0" in item_id:
        raise ItemError("expected an item's id without NUL as the record's key, found one")
    return item_id


def _without_values(error: Exception) -> str:
    """Give what msgspec says, which names fields and never quotes a value; of others only the kind."""
    return f"{error!s:.300}" if isinstance(error, msgspec.DecodeError) else "expected JSON, found other bytes"
