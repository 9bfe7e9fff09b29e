"""What the demo's page shows of the demo. Pure."""

import msgspec

from demo.demo_view import DemoFigures
from demo.live_score import Rates

_MAX_POINTS = 240  # of a curve: about two pixels each
_MAX_SWAPS = 100  # the newest
_SPEED_S = 5.0  # clicks/s are told over so long

_Point = tuple[float, float, float, float, float]


class Curve(msgspec.Struct, frozen=True):
    """Hit rates over time.

    Attributes:
        points: seconds since the start, and the rates of what was sent, popularity, association and the ceiling.
        swaps: seconds since the start, and the id of a bundle that was served from then on; the newest ones.
    """

    points: list[_Point]
    swaps: list[tuple[float, str]]


class PageUser(msgspec.Struct, frozen=True):
    """A `WatchedUser`."""

    user_id: str
    clicks: tuple[tuple[str, bool], ...]
    items: tuple[str, ...]


class PageFigures(msgspec.Struct, frozen=True):
    """The figures of a moment, as the page reads them; see `DemoFigures` for those that it has too.

    Attributes:
        list_length: items of a list, on which hits are counted.
        clicks_per_s: over the last seconds.
        updates_per_s: the same.
        lag: clicks that have no update yet.
        curve: all of the run.
    """

    elapsed_s: float
    list_length: int
    clicks_per_s: float
    updates_per_s: float
    p50_ms: float
    p99_ms: float
    lag: int
    bundle: str
    n_bundles: int
    bundle_age_s: float | None
    cores: float
    watched: PageUser | None
    curve: Curve


class CurveRecorder:
    """Keeps a curve of the whole run in bounded memory: when it is full, every second point goes."""

    def __init__(self) -> None:
        self._points: list[_Point] = []
        self._swaps: list[tuple[float, str]] = []
        self._spacing_s = 0.0

    def add(self, elapsed_s: float, rates: Rates | None, ceiling: float) -> None:
        """Take the rates of a moment; None: there are none yet."""
        if rates is None or (self._points and elapsed_s - self._points[-1][0] < self._spacing_s):
            return
        sent, popularity, association = (round(rate, 4) for rate in rates)
        self._points.append((round(elapsed_s, 1), sent, popularity, association, round(ceiling, 4)))
        if len(self._points) >= _MAX_POINTS:
            self._points = self._points[::2]
            self._spacing_s = 2 * elapsed_s / _MAX_POINTS

    def swap(self, elapsed_s: float, bundle: str) -> None:
        """Note that a bundle is served from now on."""
        self._swaps = [*self._swaps, (round(elapsed_s, 1), bundle)][-_MAX_SWAPS:]

    @property
    def curve(self) -> Curve:
        return Curve(self._points, self._swaps)


class _Speeds:
    """Clicks/s and updates/s over the last seconds."""

    def __init__(self) -> None:
        self._counts: list[tuple[float, int, int]] = []

    def per_s(self, elapsed_s: float, clicks: int, updates: int) -> tuple[float, float]:
        """Take the counts of a moment, and give the speeds up to it."""
        self._counts = [count for count in self._counts if elapsed_s - count[0] <= _SPEED_S]
        self._counts.append((elapsed_s, clicks, updates))
        before_s, clicks_before, updates_before = self._counts[0]
        seconds = elapsed_s - before_s
        return ((clicks - clicks_before) / seconds, (updates - updates_before) / seconds) if seconds else (0.0, 0.0)


class PageRecorder:
    """Makes what the page shows of the demo's figures, which come once a second."""

    def __init__(self, k: int) -> None:
        """Begin a curve. `k` is the length of a list."""
        self._k = k
        self._curve = CurveRecorder()
        self._speeds = _Speeds()
        self._n_bundles = 0

    def take(self, figures: DemoFigures) -> PageFigures:
        """Take the figures of a moment."""
        if figures.n_bundles > self._n_bundles:
            self._curve.swap(figures.elapsed_s, figures.bundle)
            self._n_bundles = figures.n_bundles
        self._curve.add(figures.elapsed_s, figures.recent, figures.ceiling)
        clicks_per_s, updates_per_s = self._speeds.per_s(figures.elapsed_s, figures.clicks, figures.updates)
        return PageFigures(
            elapsed_s=figures.elapsed_s,
            list_length=self._k,
            clicks_per_s=clicks_per_s,
            updates_per_s=updates_per_s,
            p50_ms=figures.p50_ms,
            p99_ms=figures.p99_ms,
            lag=figures.lag,
            bundle=figures.bundle,
            n_bundles=figures.n_bundles,
            bundle_age_s=figures.bundle_age_s,
            cores=figures.cores,
            watched=PageUser(*figures.watched) if figures.watched is not None else None,
            curve=self._curve.curve,
        )
