"""The figures of a backtest as two tables for the terminal, as a JSON document, and as a plot over the rounds."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nextclick.errors import PermanentError
from training.evaluation.backtest.figures import BacktestSummary, MethodFigures, RoundFigures
from training.evaluation.backtest.methods import REFERENCE
from training.evaluation.backtest.run import Round
from training.evaluation.report import VERSIONS, estimate_fields, processor_name, share_text

_SIGNIFICANT = 0.05


def summary_table(summary: BacktestSummary, title: str) -> Table:
    """Make the table of what counts: how good, how sure, at which cost; a line for each method."""
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left", caption=_caption(summary))
    made.add_column("model", no_wrap=True)
    for name in ("Recall@20", "MRR@20", "known\nitems"):
        made.add_column(name, justify="right", no_wrap=True)
    for name in ("Recall@20", "MRR@20"):
        made.add_column(f"{name}\nagainst {REFERENCE}", no_wrap=True)
    for name in ("s, CPU", "s, wall", "peak\nMiB", f"CPU, {REFERENCE} = 1\nall, last third"):
        made.add_column(name, justify="right", no_wrap=True)
    for name, figures in summary.methods.items():
        made.add_row(
            name,
            *(_estimate(figures, metric) for metric in ("recall@20", "mrr@20")),
            share_text(figures.known),
            *(_against(figures, metric) for metric in ("recall@20", "mrr@20")),
            f"{figures.cost.cpu_s:,.1f}",
            f"{figures.cost.wall_s:,.1f}",
            f"{figures.cost.peak_mib:,.0f}",
            _ratios(figures),
        )
    return made


def _caption(summary: BacktestSummary) -> str:
    n_rounds = len(summary.n_predictions)
    compared, costs = _span(summary.first_compared + 1, n_rounds), _span(min(2, n_rounds), n_rounds)
    n_predictions = sum(summary.n_predictions[summary.first_compared :])
    return (
        f"quality and last third: {compared}, {n_predictions:,} predictions, each made before its click was learnt; "
        f"±: half of the 95% interval over users; p: of a difference from {REFERENCE} as large between equal models, "
        f"paired, bold below {_SIGNIFICANT:g}; costs: to learn, a mean over {costs}"
    )


def _span(first: int, last: int) -> str:
    return f"rounds {first} to {last}" if first < last else f"round {last}"


def rounds_table(summary: BacktestSummary, rounds: list[Round], has_times: bool) -> Table:
    """Make the table over time: a line for each round, Recall@20/MRR@20 and CPU seconds of each method."""
    made = Table(box=SIMPLE_HEAD, caption_justify="left", caption="Recall@20/MRR@20, seconds of CPU to learn")
    made.add_column("round", justify="right")
    made.add_column("begins" if has_times else "known clicks", justify="right", no_wrap=True)
    made.add_column("predic-\ntions", justify="right")
    for name in summary.methods:
        made.add_column(name, justify="right", no_wrap=True)
    for number, (one, n_predictions) in enumerate(zip(rounds, summary.n_predictions, strict=True)):
        begins = f"{time_text(one.begin_ms)}" if has_times else f"{one.begin:,}"
        cells = [_round_cell(figures.rounds[number]) for figures in summary.methods.values()]
        made.add_row(str(number + 1), begins, f"{n_predictions:,}", *cells)
    return made


def _round_cell(figures: RoundFigures) -> str:
    recall, mrr = figures.metrics["recall@20"], figures.metrics["mrr@20"]
    return f"{share_text(recall)}/{share_text(mrr)} {figures.cost.cpu_s:,.1f}"


def _estimate(figures: MethodFigures, metric: str) -> str:
    estimate = figures.metrics[metric]
    return f"{share_text(estimate.mean)}±{share_text(estimate.half_width)}"


def _ratios(figures: MethodFigures) -> str:
    spans = (figures.times_reference, figures.times_reference_last)
    return ", ".join(share_text(of_span[1]) for of_span in spans if of_span is not None)


def _against(figures: MethodFigures, metric: str) -> str:
    found = figures.against.get(metric)
    if found is None:
        return ""
    half = (found.interval.high - found.interval.low) / 2
    text = f"{found.difference:+.4f}±{half:.4f} p {share_text(found.p)}".replace("0.", ".")
    return f"[bold]{text}[/bold]" if found.p < _SIGNIFICANT else text


def time_text(timestamp_ms: int) -> str:
    """Write an event time, in UTC, to the minute."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def backtest_document(summary: BacktestSummary, rounds: list[Round], configuration: dict[str, Any]) -> dict[str, Any]:
    """Give all figures and what they were made with, ready for JSON.

    Args:
        summary: the figures.
        rounds: that they are of.
        configuration: what the caller knows of it.
    """
    return {
        **configuration,
        "versions": {name: version(name) for name in VERSIONS},
        "machine": {"processor": processor_name()},
        "reference": REFERENCE,
        "compared_from_round": summary.first_compared + 1,
        "rounds": [
            {"known_clicks": one.begin, "until_click": one.end, "begin_ms": one.begin_ms, "predictions": n}
            for one, n in zip(rounds, summary.n_predictions, strict=True)
        ],
        "models": {name: _method(figures) for name, figures in summary.methods.items()},
    }


def _method(figures: MethodFigures) -> dict[str, Any]:
    against = {
        name: {"difference": found.difference, "low": found.interval.low, "high": found.interval.high, "p": found.p}
        for name, found in figures.against.items()
    }
    wall, cpu = figures.times_reference or (None, None)
    wall_last, cpu_last = figures.times_reference_last or (None, None)
    ratios = {
        "wall_times_reference": wall,
        "cpu_times_reference": cpu,
        "wall_times_reference_last_third": wall_last,
        "cpu_times_reference_last_third": cpu_last,
    }
    return {
        "metrics": {name: estimate_fields(estimate) for name, estimate in figures.metrics.items()},
        "known": figures.known,
        "against": against,
        "cost": {**figures.cost._asdict(), **ratios},
        "rounds": [{**one.metrics, "known": one.known, **one.cost._asdict()} for one in figures.rounds],
    }


def plot_rounds(summary: BacktestSummary, rounds: list[Round], has_times: bool, title: str, path: Path) -> None:
    """Draw Recall@20, MRR@20 and CPU seconds over time, a line per method; the format is that of the file's ending.

    Raises:
        PermanentError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    places: list[Any] = [one.begin for one in rounds]
    if has_times:
        places = [datetime.fromtimestamp(one.begin_ms / 1000, UTC) for one in rounds]
    for name, figures in summary.methods.items():
        values = (
            [one.metrics["recall@20"] for one in figures.rounds],
            [one.metrics["mrr@20"] for one in figures.rounds],
            [one.cost.cpu_s for one in figures.rounds],
        )
        for axes, line in zip(panels, values, strict=True):
            axes.plot(places, line, ".-", label=name if axes is panels[0] else None)
    for axes, name in zip(panels, ("Recall@20", "MRR@20", "seconds of CPU to learn"), strict=True):
        axes.set(title=name, xlabel="begin of the round" if has_times else "known clicks at the begin of the round")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.tick_params(axis="x", labelrotation=30)
    figure.suptitle(title)
    figure.legend(loc="outside right upper", fontsize="small")
    try:
        with rc_context({"svg.fonttype": "none"}):  # letters as letters: a quarter of the bytes
            figure.savefig(path)
    except OSError as error:
        raise PermanentError(f"--plot: {path} cannot be written: {error.strerror}") from None
