"""Files of items, as people have them."""

import datetime
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner

from cli.items_command import items
from nextclick.catalogue import ShopItem
from nextclick.errors import PermanentError
from tools.items.files import BadRow, FileItem, ItemFile, read_item_file

CSV = """sku;name;available;categories;boost;price;published_at
a1;"Shoe; red
in two lines";yes;shoes|outdoor;1.5;12.50 EUR;2026-01-02
a2;;no;;;9;

a3;x;;;;;;
a4;x;perhaps;;;;
"""
NAMES = {"title": "name"}


def rows(path: Path, **options: Any) -> list[FileItem | BadRow]:
    return list(read_item_file(ItemFile(path, **options)))


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_with_a_header_is_read(tmp_path: Path, packed: bool) -> None:
    """Quotes, lists and times as tables have them; each line that cannot be used says why."""
    path = tmp_path / "items.csv"
    content = ("\ufeff" + CSV).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    shoe = ShopItem(
        available=True,
        categories=("shoes", "outdoor"),
        published_at_ms=1_767_312_000_000,
        boost=1.5,
        title="Shoe; red\nin two lines",
        price="12.50 EUR",
    )

    assert rows(path, columns=NAMES) == [
        FileItem(2, "a1", shoe),
        FileItem(4, "a2", ShopItem(available=False, price=9.0)),
        BadRow(6, "expected 7 values, found 8"),
        BadRow(7, "expected true or false as available, found perhaps"),
    ]


def test_json_lines_are_read(tmp_path: Path) -> None:
    """Ids can be numbers, and times are in any usual form."""
    path = tmp_path / "items.jsonl"
    path.write_text(
        '{"item_id":17,"title":"x","price":3,"categories":["q"],"boost":null}\n'
        '{"id":"b","expires_at":1764000000}\n\n{"item_id":"c","boost":0}\n{"title":"nobody"}\n[1]\n{"item_id":\n'
    )
    found = rows(path)

    assert found[:2] == [
        FileItem(1, "17", ShopItem(categories=("q",), title="x", price=3.0)),
        FileItem(2, "b", ShopItem(expires_at_ms=1_764_000_000_000)),
    ]
    assert [(row.line, row.problem[:35]) for row in found[2:] if isinstance(row, BadRow)] == [
        (4, "Expected `float` >= 0.001 - at `$.b"),
        (5, "expected the item's id (item_id), f"),
        (6, "expected a JSON object, found somet"),
        (7, "expected a JSON object, found what "),
    ]


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    """What is null or no number is nothing."""
    path = tmp_path / "items.parquet"
    columns = {
        "item_id": [1, 2],
        "available": [None, False],
        "price": [1.5, float("nan")],
        "expires_at": [datetime.datetime(2027, 1, 1), None],
        "categories": [["a", "b"], None],
    }
    parquet.write_table(pa.table(columns), path)

    assert rows(path) == [
        FileItem(1, "1", ShopItem(categories=("a", "b"), expires_at_ms=1_798_761_600_000, price=1.5)),
        FileItem(2, "2", ShopItem(available=False)),
    ]


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        (
            "item_id,availble\nx,1\n",
            {},
            r"line 1: the column 'availble' means nothing here \(did you mean available\?\)",
        ),
        ("name,title\nx,1\n", {"ignores_others": True}, "expected a column with the items' ids"),
        ("item_id,id\nx,1\n", {}, "two columns say item_id"),
        ("item_id,title\nx,1\n", {"columns": {"title": "name"}}, "there is no column 'name'"),
        ('item_id,title\nx,"1\n', {}, "correct its quotes"),
        ("", {}, "is empty"),
        ('{"item_id":"a"}\n{"item_id":"b","nme":1}\n', {}, "line 2: the column 'nme' means nothing"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    tmp_path: Path, content: str, options: dict[str, Any], problem: str
) -> None:
    """A name that is not quite right would say nothing, and nobody would notice."""
    path = tmp_path / "items.csv"
    path.write_text(content)

    with pytest.raises(PermanentError, match=problem):
        rows(path, **options)


def test_other_columns_are_passed_over_where_that_is_wanted(tmp_path: Path) -> None:
    """As a shop's export has them."""
    path = tmp_path / "items.csv"
    path.write_text("brand,item_id,weight\nacme,x,3\n")

    assert rows(path, ignores_others=True) == [FileItem(2, "x", ShopItem())]


def test_nothing_is_written_if_a_line_cannot_be_used(tmp_path: Path) -> None:
    """It is said before a broker is asked for."""
    path = tmp_path / "items.csv"
    path.write_text("item_id,boost\nx,1\ny,-2\n")
    done = CliRunner().invoke(items, ["load", str(path), "--broker", "127.0.0.1:1"])

    assert isinstance(done.exception, PermanentError)
    assert "items.csv, line 3: Expected `float` >= 0.001 - at `$.boost`; correct it" in str(done.exception)


def test_a_field_that_is_none_is_named(tmp_path: Path) -> None:
    """With those that there are."""
    path = tmp_path / "items.csv"
    path.write_text("item_id\nx\n")
    done = CliRunner().invoke(items, ["load", str(path), "--column", "name=item_id"])

    assert done.exit_code == 2
    assert "'name' is no field; there are item_id, available" in done.output
