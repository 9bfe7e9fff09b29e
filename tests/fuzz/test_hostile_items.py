"""Records of items, and files of them, as an enemy writes them: used, or refused with a reason, and nothing else."""

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.published import FOLDER
from nextclick.catalogue import MAX_RECORD_BYTES, ItemError, ShopItem, decode_item, encode_item, item_id_of
from nextclick.errors import PermanentError
from nextclick.hashing import item_hash
from nextclick.item_table import ItemTable
from tools.items.files import BadRow, FileItem, ItemFile, read_item_file

SCHEMA = jsonschema.Draft202012Validator(json.loads((FOLDER / "item.schema.json").read_text()))
NOW_MS = 1_764_000_000_000
tokens = st.sampled_from(
    [
        *(
            '"available"',
            '"categories"',
            '"published_at_ms"',
            '"expires_at_ms"',
            '"boost"',
            '"title"',
            '"url"',
            '"image"',
        ),
        *(
            '"price"',
            '"x"',
            '"\\ud800"',
            '"\\u0000"',
            '""',
            "true",
            "false",
            "null",
            "0",
            "-1",
            "1",
            "2.5",
            "1e999",
            "NaN",
        ),
        *("1764000000000", "253402300800000", "9" * 400, "[", "]", "{", "}", ":", ",", " ", "\ufeff", "\n", '"', "\\"),
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=70)
)
values = (
    scalars
    | st.lists(scalars, max_size=3)
    | st.integers(NOW_MS - 10, NOW_MS + 10)
    | st.sampled_from([[], ["a", "a"], {}])
)
nearly = st.dictionaries(st.sampled_from([*ShopItem.__struct_fields__, "other"]), values, max_size=5)


def decoded(value: bytes) -> tuple[ShopItem | None, str]:
    """Give an item, or why there is none."""
    try:
        return decode_item(value), ""
    except ItemError as refused:
        return None, str(refused)


def written(item: ShopItem) -> bytes:
    """Give an item as it is written, which must say the same."""
    value = encode_item(item)
    assert decode_item(value) == item
    return value


@given(value=st.binary(max_size=200) | st.lists(tokens, max_size=30).map(lambda parts: "".join(parts).encode()))
@example(value=b"[" * MAX_RECORD_BYTES)
@example(value=b'{"title":' + b"[" * 50_000)
@example(value=b'{"title":"\\ud800"}')
def test_whatever_stands_in_a_record_is_used_or_refused(value: bytes) -> None:
    """And what is used can be held, asked and written again."""
    item, refusal = decoded(value)
    if item is None:
        assert 0 < len(refusal) < 400
        return
    table = ItemTable(NOW_MS)
    table.say(item_hash("i"), item)
    written(item)

    assert table.factor_of(item_hash("i")) == pytest.approx(item.factor_at(NOW_MS))


@given(said=nearly)
def test_what_the_published_schema_allows_is_used_and_nothing_else(said: dict[str, Any]) -> None:
    """Whoever writes the topic can check a record before."""
    try:
        decode_item(json.dumps(said).encode())
    except ItemError:
        assert not SCHEMA.is_valid(said)
    else:
        assert SCHEMA.is_valid(said)


@given(key=st.none() | st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_whatever_the_key_is_it_is_an_items_id_or_refused(key: bytes | None) -> None:
    """As an id of clicks must be."""
    try:
        item_id = item_id_of(key)
    except ItemError:
        return

    assert item_id.encode() == key
    assert 0 < len(item_id.encode()) <= 256


lines = st.lists(st.lists(tokens, max_size=8).map("".join) | st.text(max_size=40), max_size=8).map("\n".join)
headers = st.sampled_from(
    ["item_id,title\n", "id;available;boost\n", "sku\tcategories\tprice\n", '{"item_id":"a"}\n', ""]
)


@given(
    content=st.tuples(headers, lines).map(lambda parts: "".join(parts).encode(errors="replace"))
    | st.binary(max_size=300)
)
@example(content=b"PAR1" + b"x" * 100)
@example(content=b"ARROW1\0\0" + b"x" * 100)
@example(content=b'item_id,title\n"a,b\n')
@example(content=b"item_id\n" + b"a" * 300)
def test_whatever_is_in_a_file_is_read_or_refused_in_a_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each row is an item that can be written, or says what is wrong with it."""
    path = tmp_path_factory.getbasetemp() / f"hostile-{random.getrandbits(32)}"
    path.write_bytes(content)
    refusal = ""
    try:
        _read(path)
    except PermanentError as refused:
        refusal = str(refused)
    finally:
        path.unlink()

    assert "\n" not in refusal


def _read(path: Path) -> None:
    for row in read_item_file(ItemFile(path, ignores_others=True)):
        assert row.line > 0
        if isinstance(row, BadRow):
            assert row.problem
        else:
            assert isinstance(row, FileItem)
            assert item_id_of(row.item_id.encode()) == row.item_id
            written(row.item)
