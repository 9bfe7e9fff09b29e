"""The commands that feed the stream (`simulate`, `replay`, `send`), the local broker (`kafka`) and the `demo`."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from nextclick.clicks import MIN_TIMESTAMP_MS
from nextclick.errors import PermanentError
from nextclick.setting_values import Given
from nextclick.settings import Settings
from tools.click_files.choices import ClickFile
from tools.click_files.options import click_file_options
from tools.options import NumberRange, given_options, settings_options

if TYPE_CHECKING:
    from demo.feeds import SimulationProgress
    from demo.local_kafka import LocalKafka

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
@click.option(
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write --clicks clicks there as CSV, at once, and send nothing; --rate says how far apart their times are.",
)
@settings_options
def simulate(rate: float | None, clicks: int | None, seed: int, file: Path | None, settings: Settings) -> None:
    """Send an endless, realistic stream of clicks.

    Users have interests that change and sessions with gaps, popularity drifts, items appear and vanish. Because the
    law is known, so is the Recall@20 that no recommender can beat: `ceiling`. Event time is now. Where there is no
    terminal, progress is one JSON object a line. Ctrl-C or SIGTERM ends with a summary.
    """
    if file is not None:
        _simulate_to(file, rate, clicks, seed)
        return
    from demo import feeds
    from demo.click_producer import ClickProducer
    from demo.simulator import Law, Simulator

    report = _report_on_terminal if sys.stdout.isatty() else _report_as_json
    with _stop_on_signals() as stop:
        feeds.simulate(Simulator(Law(), seed), ClickProducer(settings), rate, clicks, stop, report)


def _simulate_to(file: Path, rate: float | None, clicks: int | None, seed: int) -> None:
    from demo.simulated_file import write_simulated
    from demo.simulator import Law, Simulator

    if clicks is None or rate is None:
        raise click.UsageError("--to needs --clicks N, and a --rate that is a number: a file has an end, and its times")
    simulator = Simulator(Law(), seed)
    write_simulated(file, simulator, clicks, rate)
    ceiling = simulator.ceiling
    click.echo(
        f"written: {file} with {clicks:,} clicks; ceiling of Recall@20 {ceiling.recall_at_20:.3f} (came true: "
        f"{ceiling.realised_recall_at_20:.3f})"
    )


def _report_as_json(progress: "SimulationProgress") -> None:
    import msgspec

    click.echo(msgspec.json.encode(asdict(progress)))


def _report_on_terminal(progress: "SimulationProgress") -> None:
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
    """Send the clicks of a file: CSV with any separator, JSON lines, Parquet, or a data set as it was published.

    FILE is the file, plain or packed (gz, zst, bz2, xz, zip), or the folder that it was unpacked into. What is in it
    is told from its beginning; the first line of the output says which columns are taken. It is read as a whole and
    sorted by time. Times are those of the stream: seconds to nanoseconds since 1970, or ISO 8601. The event time of a
    click stays as it was, and so does its event type where the file has one. A file without times is sent in its
    order, each click with the time of sending.

    A line that cannot be read ends the command before anything is sent (--skip-bad goes on). What a worker would
    reject is named and left out.

    \b
      nextclick replay clicks.csv.gz
      nextclick replay shop.tsv --user visitor --item sku --time clicked_at
      nextclick replay UserBehavior.csv --events pv,buy
      nextclick replay data.csv --no-header --user 1 --item 2 --time 5
      nextclick replay topic.jsonl --user visitor.id --item product.sku
    """
    from demo import feeds
    from demo.click_producer import ClickProducer
    from tools.click_files.read import read_clicks

    producer = ClickProducer(settings)  # before the file is read: a wrong address shows at once
    clicks = read_clicks(click_file, earliest_ms=MIN_TIMESTAMP_MS)
    clicks = clicks if limit is None else clicks.first(limit)
    with _stop_on_signals() as stop:
        started_s = time.monotonic()
        with _progress(len(clicks)) as report:
            feeds.replay(clicks, producer, speed, stop, report)
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
@click.option("--timeout", "timeout_s", type=NumberRange(min=0.1), default=10.0, show_default=True, help="In s.")
@settings_options
def send(user: str, item: str, event: str, timeout_s: float, settings: Settings) -> None:
    """Send one click of USER on ITEM and print the list that comes back."""
    from demo import feeds

    answer, elapsed_ms = feeds.send(settings, user, item, event, timeout_s)
    click.echo(
        f"{answer.user_id}: click {answer.sequence}, answered in {elapsed_ms:.1f} ms by {answer.strategy} "
        f"(bundle {answer.bundle_id or 'none'})"
    )
    for rank, ranked in enumerate(answer.items, start=1):
        click.echo(f"{rank:>4}  {ranked.item_id:<30}  {ranked.score:.6f}")
    if not answer.items:
        click.echo("  (an empty list)")


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="What clients connect to; 0 picks a free one.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep the data here; else it goes at the end."
)
@click.option(
    "--kafka-home",
    envvar="KAFKA_HOME",
    type=click.Path(path_type=Path),
    help="An unpacked Apache Kafka to run (KAFKA_HOME); else it is downloaded once.",
)
def kafka(port: int, data_dir: Path | None, kafka_home: Path | None) -> None:
    """Run a local Apache Kafka until Ctrl-C. Needs neither Docker nor Java."""
    from demo.local_kafka import LocalKafka
    from demo.stop_signals import StopSignals
    from tools.logs import set_up_logs

    set_up_logs("kafka")
    broker = LocalKafka(port=port, data_dir=data_dir, kafka_home=kafka_home)
    with StopSignals() as signals:
        try:
            with signals.interrupting():
                broker.start()
                click.echo(f"Kafka is ready at {broker.bootstrap} (Ctrl-C to stop)")
                _wait_for_its_end(broker)
        except KeyboardInterrupt:
            click.echo("Kafka is stopping", err=True)
        finally:
            broker.stop()


def _wait_for_its_end(broker: "LocalKafka") -> NoReturn:
    status = broker.wait()
    raise PermanentError(
        f"the local Apache Kafka ended by itself with status {status}; the end of its log:\n{broker.log_tail}"
    )


@click.command()
@click.option("--seconds", type=NumberRange(min=1), help="End by itself, with a summary; else Ctrl-C ends it.")
@click.option("--rate", type=click.IntRange(min=1), default=200, show_default=True, help="Simulated clicks per second.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the simulator.")
@given_options
def demo(seconds: float | None, rate: int, seed: int, given: Mapping[str, Given]) -> None:
    """See it all at work: broker, worker, trainer, feed and simulator, with a live view and a page.

    The page is at feed_port, or at another port where that one is taken. Starts an Apache Kafka of its own (or uses the
    one that the settings name, with topics of its own that are deleted at the end). Nothing is left behind. With
    --seconds, the exit status is 0 only when recommendations came, a trained bundle was swapped in, and it hit more
    often than popularity.
    """
    from demo.demo import Demo
    from tools.logs import set_up_logs

    set_up_logs("demo")

    kafka_home = os.environ.get("KAFKA_HOME")
    run = Demo(Settings.of(given), "broker" not in given, rate, seed, Path(kafka_home) if kafka_home else None)
    succeeded = run.run(seconds, os.environ)
    if seconds is not None and not succeeded:
        sys.exit(1)
