"""The command `nextclick capacity`."""

import click

from nextclick.capacity import MEASURED, USUAL, Load, Need, need_of
from tools.options import NumberRange

_COUNT = NumberRange(min=1, max=1e12)  # more is a mistake, and infinity no number that can be reckoned with


@click.command()
@click.option("--users", type=_COUNT, default=1e6, show_default=True, help="Whose state is kept.")
@click.option("--clicks-per-s", type=_COUNT, default=1e4, show_default=True, help="In the mean of the busiest hour.")
@click.option("--items", type=_COUNT, default=1e4, show_default=True, help="Of the catalogue.")
def capacity(users: float, clicks_per_s: float, items: float) -> None:
    """Say what a load needs: workers, partitions, brokers, disks, a trainer.

    Computed from what a click, an item and a user were measured to cost; docs/capacity.md says on which machine,
    how, and what breaks first. What is kept for days is computed as if every hour were the busiest. Numbers may be
    written as 1e6.
    """
    load = Load(int(users), clicks_per_s, int(items))
    for line in lines(load, need_of(load)):
        click.echo(line)


def lines(load: Load, need: Need) -> list[str]:
    """Give what is printed."""
    each, brokers, trainer = need.each, need.brokers, need.trainer
    rows = (
        ("a click", f"{need.us_per_click:,.0f} us of CPU, {_bytes_of_a_click():,.0f} bytes written to the brokers"),
        (
            "workers",
            f"{need.workers:,} of one core each, which are {USUAL.busy:.0%} busy; {need.partitions:,} partitions",
        ),
        ("  each", f"{each.memory_mb:,.0f} MB of memory, {each.swap_memory_mb:,.0f} while a bundle replaces another;"),
        ("", f"of it workers of one machine share {each.form_mb:,.0f}, pods nothing; {each.disk_gb:,.1f} GB of disk"),
        ("  restores", f"its states within {_time(each.restore_s)} where no other worker has a copy"),
        ("brokers", f"{brokers.brokers:,}, for {brokers.by}; {brokers.disk_tb:,.1f} TB in all (*)"),
        ("  traffic", f"{brokers.written_mb_per_s:,.0f} MB/s written, {brokers.read_mb_per_s:,.0f} MB/s read"),
        ("click log", f"{trainer.log_cores:,.1f} cores of the trainer, {trainer.log_gb_per_day:,.0f} GB a day (*)"),
        ("training", f"{trainer.learn_cores:,.1f} cores, or {trainer.learn_gpus:,.1f} H100, to learn every click;"),
        ("", f"anew in {_time(trainer.anew_s)} of one core, of the clicks of {_time(trainer.window_s)}"),
    )
    head = f"{load.users:,} users, {load.clicks_per_s:,.0f} clicks/s in the busiest hour, {load.items:,} items"
    foot = "(*) as if every hour were the busiest"
    return [head, *(f"  {name:11} {text}" for name, text in rows), f"  {foot}"]


def _time(seconds: float) -> str:
    """Give a time in the unit that people would take."""
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def _bytes_of_a_click() -> float:
    return MEASURED.click_bytes + MEASURED.update_bytes + MEASURED.change_bytes
