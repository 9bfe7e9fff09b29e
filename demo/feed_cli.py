"""The commands that feed the stream: `simulate`, `replay`, `send`."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING

import click

from nextclick.settings import Settings
from tools.click_files.layouts import ClickFile
from tools.click_files.options import click_file_options
from tools.options import settings_options

if TYPE_CHECKING:
    from demo.simulate import Progress

_REPORT_S = 2.0  # between two lines where there is no terminal


class _Rate(click.ParamType):
    """A positive number, with a suffix or not, or `max`, which is None."""

    def __init__(self, name: str, suffix: str = "") -> None:
        self.name = name
        self._suffix = suffix

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        text = str(value)
        if text == "max":
            return None
        try:
            number = float(text.removesuffix(self._suffix))
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.fail(f"expected max or a number above 0, like 60{self._suffix}; found {text!r}", param, ctx)
        return number


class _StopRequest:
    """Set by SIGINT or SIGTERM, so that a loop can end where it is safe."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __call__(self) -> bool:
        return self.signal_number != 0

    def note(self, signal_number: int, _frame: FrameType | None) -> None:
        """Handle the signal; a second one ends the program at once."""
        self.signal_number = signal_number
        signal.signal(signal_number, signal.SIG_DFL)


@contextmanager
def _stop_on_signals() -> Iterator[_StopRequest]:
    stop = _StopRequest()
    before = {number: signal.signal(number, stop.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.option("--rate", type=_Rate("clicks/s"), default="200", show_default=True, help="Clicks per second, or max.")
@click.option("--clicks", type=click.IntRange(min=1), help="End after so many clicks; else never.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same stream.")
@settings_options
def simulate(rate: float | None, clicks: int | None, seed: int, settings: Settings) -> None:
    """Send an endless, realistic stream of clicks.

    Users have interests that change and sessions with gaps, popularity drifts, items appear and vanish. Because the
    law is known, so is the Recall@20 that no recommender can beat: `ceiling`. Event time is now. Where there is no
    terminal, progress is one JSON object a line. Ctrl-C or SIGTERM ends with a summary.
    """
    import demo.simulate
    from demo.click_producer import ClickProducer
    from demo.simulator import Law, Simulator

    report = _report_on_terminal if sys.stdout.isatty() else _report_as_json
    with _stop_on_signals() as stop:
        demo.simulate.simulate(Simulator(Law(), seed), ClickProducer(settings), rate, clicks, stop, report)


def _report_as_json(progress: "Progress") -> None:
    import msgspec

    click.echo(msgspec.json.encode(asdict(progress)))


def _report_on_terminal(progress: "Progress") -> None:
    line = (
        f"{progress.clicks:,} clicks, {progress.rate:,.0f}/s, ceiling of Recall@20 "
        f"{progress.ceiling_recall_at_20:.3f} (came true: {progress.realised_recall_at_20:.3f})"
    )
    click.echo(f"\r\x1b[K{'sent ' if progress.done else ''}{line}", nl=progress.done)


@click.command()
@click_file_options("FILE")
@click.option("--speed", type=_Rate("speed", "x"), default="max", show_default=True, help="60x, or max.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first clicks, in the order of time.")
@settings_options
def replay(
    click_file: ClickFile,
    speed: float | None,
    limit: int | None,
    settings: Settings,
) -> None:
    """Send the clicks of a data set, plain or gzipped.

    FILE is the file or the folder that it was unpacked into. It is read as a whole and sorted by time. Times are
    seconds or milliseconds since 1970, or ISO 8601 (UTC unless it says otherwise); the first row decides. The event
    time of a click stays as it was, and so does its event type where the file has one. A file without times is sent
    in its order, each click with the time of sending.
    """
    import demo.replay
    from demo.click_producer import ClickProducer
    from tools.click_files.read import read_clicks

    producer = ClickProducer(settings)  # before the file is read: a wrong address shows at once
    clicks = read_clicks(click_file)
    clicks = clicks if limit is None else clicks.first(limit)
    with _stop_on_signals() as stop:
        started_s = time.monotonic()
        with _progress(len(clicks)) as report:
            demo.replay.replay(clicks, producer, speed, stop, report)
        elapsed_s = time.monotonic() - started_s
    click.echo(
        f"replay: delivered {producer.n_delivered:,} of {len(clicks):,} clicks in {elapsed_s:.1f} s "
        f"({producer.n_delivered / elapsed_s:,.0f} clicks/s)"
    )
    if stop():
        sys.exit(128 + stop.signal_number)


@contextmanager
def _progress(n_clicks: int) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many clicks the broker has: a bar on a terminal, else a line at times."""
    started_s = reported_s = time.monotonic()
    n_reported = 0
    if sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        rate_column = TextColumn("{task.fields[rate]:,.0f} clicks/s")
        with Progress(BarColumn(), MofNCompleteColumn(), rate_column, TimeRemainingColumn()) as bar:
            task = bar.add_task("replay", total=n_clicks, rate=0.0)
            yield lambda n: bar.update(task, completed=n, rate=n / (time.monotonic() - started_s))
        return

    def report(n_delivered: int) -> None:
        nonlocal reported_s, n_reported
        now_s = time.monotonic()
        if now_s - reported_s >= _REPORT_S:
            rate = (n_delivered - n_reported) / (now_s - reported_s)
            click.echo(f"replay: {n_delivered:,} of {n_clicks:,} clicks, {rate:,.0f} clicks/s")
            reported_s, n_reported = now_s, n_delivered

    yield report


@click.command()
@click.argument("user")
@click.argument("item")
@click.option("--event", default="view", show_default=True, help="The click's event type.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="In s.")
@settings_options
def send(user: str, item: str, event: str, timeout_s: float, settings: Settings) -> None:
    """Send one click of USER on ITEM and print the list that comes back."""
    import demo.send

    answer, elapsed_ms = demo.send.send(settings, user, item, event, timeout_s)
    click.echo(
        f"{answer.user_id}: click {answer.sequence}, answered in {elapsed_ms:.1f} ms by {answer.strategy} "
        f"(bundle {answer.bundle_id or 'none'})"
    )
    for rank, ranked in enumerate(answer.items, start=1):
        click.echo(f"{rank:>4}  {ranked.item_id:<30}  {ranked.score:.6f}")
    if not answer.items:
        click.echo("  (an empty list)")
