"""What a record of the topic `items` may say."""

import pytest

from nextclick.catalogue import NOTHING_SAID, ItemError, ShopItem, decode_item, encode_item, item_id_of

NOW_MS = 1_764_000_000_000


def test_everything_is_optional_and_null_is_nothing() -> None:
    """A tombstone says as little."""
    for value in (b"{}", b'{"available":null,"categories":null,"boost":null}', None):
        assert decode_item(value) == NOTHING_SAID
        assert decode_item(value).factor_at(NOW_MS) == 1.0


def test_an_item_is_written_as_it_was_said() -> None:
    """What is nothing is left out."""
    item = ShopItem(available=False, categories=("a", "b"), boost=2.0, title="T", price="3 EUR")

    assert encode_item(item) == b'{"available":false,"categories":["a","b"],"boost":2.0,"title":"T","price":"3 EUR"}'
    assert decode_item(encode_item(item)) == item


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b'{"availble":false}', "unknown field `availble`"),
        (b'{"available":"no"}', r"\$.available"),
        (b'{"available":0}', r"\$.available"),
        (b'{"boost":0}', r"\$.boost"),
        (b'{"boost":-1}', r"\$.boost"),
        (b'{"boost":1e9}', r"\$.boost"),
        (b'{"boost":NaN}', "malformed"),
        (b'{"published_at_ms":1764000000}', r"\$.published_at_ms"),
        (b'{"expires_at_ms":12.5}', r"\$.expires_at_ms"),
        (b'{"categories":"shoes"}', r"\$.categories"),
        (b'{"categories":[""]}', r"\$.categories"),
        (b'{"categories":[%b]}' % b",".join([b'"c"'] * 65), r"\$.categories"),
        (b'{"title":"%b"}' % (b"t" * 1_025), r"\$.title"),
        (b'{"url":"%b"}' % (b"u" * 2_049), r"\$.url"),
        (b'{"price":-1}', r"\$.price"),
        (b'{"price":true}', r"\$.price"),
        (b"[]", "array"),
        (b"", "truncated"),
        (b"\xff", "malformed"),
        (b'{"title":"\xff"}', "other bytes"),
        (b"[" * 100_000, "65536 bytes"),
        (b"[" * 60_000, "array|other bytes"),
    ],
    ids=lambda each: repr(each)[:30],
)
def test_what_cannot_be_used_is_refused_by_name(value: bytes, problem: str) -> None:
    """And without what it holds."""
    with pytest.raises(ItemError, match=problem) as refused:
        decode_item(value)

    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\0b", b"i" * 257])
def test_a_key_that_is_no_items_id_is_refused(key: bytes | None) -> None:
    """As clicks could not have it."""
    with pytest.raises(ItemError, match="key"):
        item_id_of(key)


def test_an_item_can_be_listed_from_when_it_is_published_until_it_expires() -> None:
    """The first moment is in, the last is not."""
    item = ShopItem(published_at_ms=NOW_MS, expires_at_ms=NOW_MS + 10, boost=3.0)

    assert [item.factor_at(NOW_MS + each) for each in (-1, 0, 9, 10)] == [0.0, 3.0, 3.0, 0.0]
    assert ShopItem(available=False, boost=3.0).factor_at(NOW_MS) == 0.0
