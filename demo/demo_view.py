"""What the demo shows: a live table on a terminal, else a plain line every few seconds, and a summary at the end."""

import time
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.live_score import HitRate, Rates
from demo.watched_user import WatchedUser

PLAIN_LINE_S = 5.0
_WIDTH = 50  # columns of the values: a watched user's items are of many lengths, and the table must keep its own


class DemoFigures(NamedTuple):
    """The figures of a moment.

    Attributes:
        elapsed_s: since the start.
        clicks: read from the topic.
        updates: recommendation updates read from the topic.
        network_updates: of these, ranked by the network.
        first_update_s: when the first one came, since the start.
        p50_ms: from a click's record to its update, received here.
        p99_ms: the same.
        bundle: that the newest updates name, or empty.
        n_bundles: different bundles that updates named.
        bundle_age_s: since it was made.
        overall: hit rates of all judged clicks.
        after_swap: hit rates since the first bundle is served.
        recent: hit rates of the newest judged clicks; None before there are any.
        ceiling: the Recall@20 that no recommender can beat, as the simulator knows.
        lag: clicks that have no update yet.
        cores: in use by all of the demo's processes, the broker among them.
        median_cores: the same over the whole run: what is used between trainings.
        watched: one user's last clicks and list; None until there is one.
    """

    elapsed_s: float
    clicks: int
    updates: int
    network_updates: int
    first_update_s: float | None
    p50_ms: float
    p99_ms: float
    bundle: str
    n_bundles: int
    bundle_age_s: float | None
    overall: HitRate
    after_swap: HitRate
    recent: Rates | None
    ceiling: float
    lag: int
    cores: float
    median_cores: float
    watched: WatchedUser | None

    @property
    def succeeded(self) -> bool:
        """Whether recommendations came, a trained bundle was swapped in, and it beat popularity."""
        return self.updates > 0 and self.n_bundles > 0 and self.after_swap.rate > self.after_swap.popularity_rate


class DemoView:
    """Shows figures while it is entered; then the table is gone, and the parts are being stopped."""

    def __init__(self, seconds: float | None) -> None:
        self._console = Console(highlight=False)
        self._seconds = seconds
        is_terminal = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if is_terminal else None
        self._before: DemoFigures | None = None
        self._next_line_s = 0.0
        self._said_first = False
        self._said_bundles = 0
        self._said_page = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self.say("stopping")

    def say(self, text: str) -> None:
        """Tell what happens next."""
        self._console.print(f"demo: {text}", soft_wrap=True)

    def say_page(self, url: str) -> None:
        """Tell where the page is, once."""
        if not self._said_page:
            self.say(f"the page is at {url}")
            self._said_page = True

    def show(self, figures: DemoFigures) -> None:
        """Show the figures of this moment."""
        clicks_per_s, updates_per_s = _rates(self._before or figures, figures)
        if figures.first_update_s is not None and not self._said_first:
            self.say(f"first recommendation after {figures.first_update_s:.1f} s")
            self._said_first = True
        if figures.n_bundles > self._said_bundles:
            self.say(f"bundle {figures.bundle} swapped in after {figures.elapsed_s:.0f} s")
            self._said_bundles = figures.n_bundles
        if self._live is not None:
            self._live.update(self._table(figures, clicks_per_s, updates_per_s), refresh=True)
            self._before = figures
        elif time.monotonic() >= self._next_line_s:
            self._console.print(_line(figures, clicks_per_s, updates_per_s), soft_wrap=True)
            self._next_line_s = time.monotonic() + PLAIN_LINE_S
            self._before = figures

    def finish(self, figures: DemoFigures) -> None:
        """Print the summary."""
        after = figures.after_swap
        rows = [
            f"clicks read             {figures.clicks:,}",
            f"recommendations         {figures.updates:,} ({figures.network_updates:,} by the network)",
            f"first recommendation    {_seconds(figures.first_update_s)} after the start",
            f"latency                 p50 {figures.p50_ms:.0f} ms, p99 {figures.p99_ms:.0f} ms, click to received",
            f"bundles swapped in      {figures.n_bundles}",
            f"hit rate at 20          {after.rate:.3f} since the first swap ({after.judged:,} clicks)",
            f"  popularity, same      {after.popularity_rate:.3f}",
            f"  association, same     {after.association_rate:.3f}",
            f"  ceiling               {figures.ceiling:.3f}",
            f"cores in use            {figures.median_cores:.2f} (median), by all processes together",
        ]
        if self._seconds is not None:
            rows.append(f"result                  {'success' if figures.succeeded else self._shortfall(figures)}")
        self._console.print("\n".join(rows), soft_wrap=True)

    def _shortfall(self, figures: DemoFigures) -> str:
        if not figures.updates:
            return "failed: no recommendations came"
        if not figures.n_bundles:
            return "failed: no trained bundle was swapped in (too short?)"
        return "failed: the hit rate is not above popularity's"

    def _table(self, figures: DemoFigures, clicks_per_s: float, updates_per_s: float) -> Table:
        left = f" of {self._seconds:.0f}" if self._seconds is not None else ", Ctrl-C to stop"
        table = Table(title=f"nextclick demo, {figures.elapsed_s:.0f} s{left}", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(min_width=_WIDTH)
        after = figures.after_swap
        table.add_row("clicks/s", f"{clicks_per_s:.0f}")
        table.add_row("recommendations/s", f"{updates_per_s:.0f}")
        table.add_row("latency", f"p50 {figures.p50_ms:.0f} ms, p99 {figures.p99_ms:.0f} ms")
        table.add_row("model", f"{figures.bundle or 'none yet: popularity'}, age {_seconds(figures.bundle_age_s)}")
        table.add_row("hit rate at 20", f"{after.rate:.3f} since the first swap, {figures.overall.rate:.3f} in all")
        table.add_row("  popularity", f"{after.popularity_rate:.3f}, {figures.overall.popularity_rate:.3f}")
        table.add_row("  association", f"{after.association_rate:.3f}, {figures.overall.association_rate:.3f}")
        table.add_row("  ceiling", f"{figures.ceiling:.3f}")
        table.add_row("cores in use", f"{figures.cores:.2f}")
        if figures.watched is not None:
            table.add_section()
            table.add_row(f"{figures.watched.user_id} clicked", figures.watched.clicks_text)
            table.add_row("  and now gets", figures.watched.items_text)
        return table


def _rates(before: DemoFigures, now: DemoFigures) -> tuple[float, float]:
    seconds = now.elapsed_s - before.elapsed_s
    if seconds <= 0:
        return 0.0, 0.0
    return (now.clicks - before.clicks) / seconds, (now.updates - before.updates) / seconds


def _line(figures: DemoFigures, clicks_per_s: float, updates_per_s: float) -> str:
    after = figures.after_swap
    return (
        f"{figures.elapsed_s:5.0f} s  {clicks_per_s:.0f} clicks/s  {updates_per_s:.0f} recommendations/s  "
        f"p50 {figures.p50_ms:.0f} ms  p99 {figures.p99_ms:.0f} ms  model {figures.bundle or '-'} "
        f"age {_seconds(figures.bundle_age_s)}  hit rate {after.rate:.3f} popularity {after.popularity_rate:.3f} "
        f"association {after.association_rate:.3f} ceiling {figures.ceiling:.3f}  cores {figures.cores:.2f}"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
