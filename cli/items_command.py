"""The command `nextclick items`: what the shop says of its items, loaded, looked at, withdrawn and offered again."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tools.options import parse_assignments, settings_options

if TYPE_CHECKING:
    from tools.items.files import ItemFile

_SHOWN_BAD = 5


@click.group()
def items() -> None:
    """Say what the shop offers: withdraw items, publish them at a time, boost them.

    The topic `items` (setting items_topic) holds what is said, one JSON object for an item, all of it optional:

    \b
      available        false: in no list
      categories       ["shoes", "outdoor"]: for max_per_category, and for what the feed is asked for
      published_at_ms  in no list before this time
      expires_at_ms    in no list from this time on
      boost            0.001 to 1000: its probability is multiplied by it before lists are made
      title, url, image, price   passed through by the feed

    Workers and feeds follow the topic. An item that is withdrawn is in no list that is made more than 1 s later, after
    restarts, too. Any producer can write to the topic; the key is the item's id, and a tombstone forgets the item.
    `nextclick topics` creates it.
    """


@items.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="The file's name for a field, as title=name; may be repeated.",
)
@click.option("--ignore-others", is_flag=True, help="Pass over columns that mean nothing here.")
@click.option("--skip-bad", is_flag=True, help="Go on past lines that cannot be used; they are counted.")
@click.option(
    "--withdraw-missing",
    is_flag=True,
    help="FILE is all that the shop offers: withdraw the items of the topic that are not in it.",
)
@settings_options
def load(
    file: Path,
    columns: Sequence[str],
    ignore_others: bool,
    skip_bad: bool,
    withdraw_missing: bool,
    settings: Settings,
) -> None:
    """Load items from a FILE: CSV with a header, JSON lines or Parquet, plain or packed (gz, zst, bz2, xz, zip).

    The file has a column item_id, and others that are called as the fields (`nextclick items --help`). A record takes
    the place of the item's former one as a whole: what the file does not say is not said any more. In CSV, an empty
    value is nothing, categories have | between them, and times are written in any usual form.

    Nothing is written if a line cannot be used (--skip-bad goes on).

    \b
      nextclick items load catalogue.csv --column title=name --ignore-others
      nextclick items load catalogue.jsonl.gz --withdraw-missing
      nextclick items load stock.parquet --column available=in_stock
    """
    from tools.items.files import ItemFile, all_items, read_item_file
    from tools.items.topic import ItemWriter

    item_file = ItemFile(file, _chosen(columns), ignore_others)
    n_items = _check_file(item_file, skip_bad)
    writer = ItemWriter(settings)
    loaded: set[str] = set()
    with click.progressbar(length=n_items, label="items", file=sys.stderr, hidden=not sys.stderr.isatty()) as progress:
        for number, row in enumerate(all_items(read_item_file(item_file)), start=1):
            writer.write(row.item_id, row.item)
            if withdraw_missing:
                loaded.add(row.item_id)
            if number % 1_000 == 0:
                progress.update(1_000)
    writer.flush()
    click.echo(f"loaded {n_items:,} items into {settings.items_topic}")
    if withdraw_missing:
        click.echo(f"withdrew {_withdraw_others(settings, loaded):,} items that are not in {file.name}")


def _chosen(columns: Sequence[str]) -> Mapping[str, str]:
    from nextclick.catalogue import ShopItem
    from tools.items.files import ID

    chosen = parse_assignments(columns)
    fields = (ID, *ShopItem.__struct_fields__)
    for field in chosen:
        if field not in fields:
            raise click.BadParameter(f"{field!r} is no field; there are {', '.join(fields)}", param_hint="--column")
    return chosen


def _check_file(item_file: "ItemFile", skip_bad: bool) -> int:
    """Read all of a file, and give how many items it has.

    Raises:
        PermanentError: a line cannot be used, or there is no item.
    """
    from tools.items.files import BadRow, read_item_file

    n_items, bad, n_bad = 0, list[BadRow](), 0
    for row in read_item_file(item_file):
        if not isinstance(row, BadRow):
            n_items += 1
            continue
        n_bad += 1
        if len(bad) < _SHOWN_BAD:
            bad.append(row)
            if not skip_bad:
                break
    name = item_file.path.name
    if bad and not skip_bad:
        raise PermanentError(
            f"{name}, line {bad[0].line}: {bad[0].problem}; correct it, or go on past such lines with --skip-bad"
        )
    for row in bad:
        click.echo(f"{name}, line {row.line} is left out: {row.problem}", err=True)
    if n_bad > len(bad):
        click.echo(f"{name}: {n_bad - len(bad):,} more lines are left out", err=True)
    if not n_items:
        raise PermanentError(f"{name}: there is no item in it; correct the path")
    return n_items


def _withdraw_others(settings: Settings, loaded: set[str]) -> int:
    """Withdraw the items of the topic that were not loaded; gives how many were."""
    from msgspec.structs import replace

    from tools.items.topic import ItemWriter, newest_items

    writer, n_withdrawn = ItemWriter(settings), 0
    for item_id, (item, _) in newest_items(settings, None).items():
        if item_id not in loaded and item is not None and item.available is not False:
            writer.write(item_id, replace(item, available=False))
            n_withdrawn += 1
    writer.flush()
    return n_withdrawn


@items.command()
@click.argument("item_id", metavar="ID")
@settings_options
def show(item_id: str, settings: Settings) -> None:
    """Show what is said of an item, since when, and whether it can be in lists now. Reads all of the topic."""
    import msgspec

    from nextclick.catalogue import encode_item
    from tools.items.topic import newest_items

    item, written_ms = newest_items(settings, {item_id}).get(item_id, (None, 0))
    if item is None:
        click.echo(f"nothing is said of {item_id}: it can be in lists")
        return
    click.echo(msgspec.json.format(encode_item(item), indent=2).decode())
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written_ms / 1000))
    factor = item.factor_at(int(time.time() * 1000))
    click.echo(f"said at {when}; it can{'not' if not factor else ''} be in lists now", err=True)


@items.command()
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@settings_options
def withdraw(item_ids: Sequence[str], settings: Settings) -> None:
    """Let items be in no list, from 1 s later on. What else is said of them stays: `nextclick items offer` undoes it.

    Reads all of the topic first, which takes some seconds for a million items.
    """
    _say_available(settings, item_ids, False)
    click.echo(f"withdrawn: {', '.join(item_ids)}")


@items.command()
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@settings_options
def offer(item_ids: Sequence[str], settings: Settings) -> None:
    """Let items that were withdrawn be in lists again."""
    _say_available(settings, item_ids, True)
    click.echo(f"offered: {', '.join(item_ids)}")


@items.command()
@click.argument("item_ids", metavar="ID...", nargs=-1, required=True)
@settings_options
def forget(item_ids: Sequence[str], settings: Settings) -> None:
    """Forget what is said of items: they can be in lists, and nothing else is known of them."""
    from tools.items.topic import ItemWriter

    for item_id in item_ids:
        _check_id(item_id)
    writer = ItemWriter(settings)
    for item_id in item_ids:
        writer.write(item_id, None)
    writer.flush()
    click.echo(f"forgotten: {', '.join(item_ids)}")


def _check_id(item_id: str) -> None:
    from nextclick.catalogue import ItemError, item_id_of

    try:
        item_id_of(item_id.encode())
    except ItemError as error:
        raise click.BadParameter(str(error), param_hint="ID") from None


def _say_available(settings: Settings, item_ids: Sequence[str], available: bool) -> None:
    from msgspec.structs import replace

    from nextclick.catalogue import NOTHING_SAID
    from tools.items.topic import ItemWriter, newest_items

    for item_id in item_ids:
        _check_id(item_id)
    writer = ItemWriter(settings)
    known = newest_items(settings, set(item_ids))
    for item_id in item_ids:
        item = known.get(item_id, (None, 0))[0] or NOTHING_SAID
        writer.write(item_id, replace(item, available=None if available else False))
    writer.flush()
