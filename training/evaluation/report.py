"""The figures of an evaluation as a table for the terminal, as one JSON document, and as a plot.

The plot needs matplotlib, which only the extra `evaluate` brings.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nextclick.errors import PermanentError
from training.evaluation.figures import CUTS, LAST_POSITION, Estimate, ModelFigures, Position, Summary

_NAMES = {"recall": "Recall", "mrr": "MRR", "ndcg": "NDCG"}
# Clicks before a prediction: from the second number on, below the third.
_HISTORIES = (("1", 1, 2), ("2", 2, 3), ("3 to 5", 3, 6), ("6 or more", 6, LAST_POSITION + 1))
_MIN_PREDICTIONS = 30  # of a point of the plot: of fewer predictions a recall says little
VERSIONS = ("nextclick", "torch", "numpy")


def table(summary: Summary, title: str) -> Table:
    """Make the table; the best model of each metric is bold."""
    cuts = " ".join(f"@{cut}" for cut in CUTS)
    n_seeds = max(len(figures.metrics["recall@20"].by_seed) for figures in summary.models.values())
    best = summary.best("recall@20")
    made = Table(
        box=SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left", caption=_caption(best, n_seeds)
    )
    made.add_column("model", no_wrap=True)
    for name in _NAMES.values():
        made.add_column(f"{name}\n{cuts}")
    for name in ("coverage", "popu-\nlarity", "training\nclicks/s", "predic-\ntions/s", f"p against\n{best}"):
        made.add_column(name, justify="right")
    if n_seeds > 1:
        made.add_column("spread")
    for name, figures in summary.models.items():
        cells = [name]
        for metric in _NAMES:
            text = _estimates(figures, metric)
            cells.append(f"[bold]{text}[/bold]" if summary.best(f"{metric}@20") == name else text)
        cells += [share_text(figures.coverage), share_text(figures.popularity)]
        cells += [f"{figures.training_clicks_per_s:,.0f}", f"{figures.predictions_per_s:,.0f}"]
        cells.append(_p_values(summary, name, best))
        if n_seeds > 1:
            cells.append(_spread(figures))
        made.add_row(*cells)
    return made


def history_table(summary: Summary) -> Table:
    """Make the table of Recall@20 / MRR@20 by how much is known of a user."""
    positions = next(iter(summary.models.values())).positions
    made = Table(
        box=SIMPLE_HEAD,
        title="Recall@20 / MRR@20 by the clicks of the session before the predicted one",
        title_justify="left",
    )
    made.add_column("model", no_wrap=True)
    for title, first, end in _HISTORIES:
        n = sum(position.predictions for position in positions if first <= position.clicks_before < end)
        made.add_column(f"{title}\n({n:,})", justify="right")
    for name, figures in summary.models.items():
        made.add_row(name, *(_mean_of(figures.positions, first, end) for _, first, end in _HISTORIES))
    return made


def _mean_of(positions: list[Position], first: int, end: int) -> str:
    chosen = [position for position in positions if first <= position.clicks_before < end]
    n = sum(position.predictions for position in chosen)
    if not n:
        return ""
    recall, mrr = (
        sum(position.predictions * value for position, value in zip(chosen, values, strict=True)) / n
        for values in ([position.recall for position in chosen], [position.mrr for position in chosen])
    )
    return f"{share_text(recall)} / {share_text(mrr)}"


def _caption(best: str, n_seeds: int) -> str:
    text = (
        "± half of the 95% interval over test sessions; ties count against the model; "
        f"p: of Recall@20 / MRR@20 being as far from {best}'s by chance; popularity: of the lists' items, the most "
        "clicked item's being 1"
    )
    return text + (f"; spread: standard deviation of Recall@20 / MRR@20 over {n_seeds} seeds" if n_seeds > 1 else "")


def _estimates(figures: ModelFigures, metric: str) -> str:
    small = " ".join(share_text(figures.metrics[f"{metric}@{cut}"].mean) for cut in CUTS)
    return f"{small}±{share_text(figures.metrics[f'{metric}@{CUTS[-1]}'].half_width)}"


def _p_values(summary: Summary, model: str, best: str) -> str:
    found = [
        share_text(comparison.p)
        for comparison in summary.comparisons
        if {comparison.model, comparison.other} == {model, best}
    ]
    return " / ".join(found)


def _spread(figures: ModelFigures) -> str:
    spreads = [figures.metrics[f"{metric}@20"].spread for metric in ("recall", "mrr")]
    return " / ".join(f"{spread:.4f}".lstrip("0") for spread in spreads if spread is not None)


def share_text(value: float) -> str:
    """Write a number between 0 and 1 with three places: .531."""
    return f"{value:.3f}".removeprefix("0")


def document(summary: Summary, configuration: dict[str, Any]) -> dict[str, Any]:
    """Give all figures and what they were made with, ready for JSON.

    Args:
        summary: the figures.
        configuration: what the caller knows of it; `parameters` holds those of each model by its name.
    """
    return {
        **configuration,
        "versions": {name: version(name) for name in VERSIONS},
        "machine": {"processor": processor_name()},
        "models": {name: _model(figures) for name, figures in summary.models.items()},
        "comparisons": [
            {**comparison._asdict(), "interval": list(comparison.interval)} for comparison in summary.comparisons
        ],
    }


def _model(figures: ModelFigures) -> dict[str, Any]:
    return {
        **figures._asdict(),
        "metrics": {name: estimate_fields(estimate) for name, estimate in figures.metrics.items()},
        "positions": [position._asdict() for position in figures.positions],
    }


def estimate_fields(estimate: Estimate) -> dict[str, Any]:
    """Give an estimate, ready for JSON."""
    return {
        "mean": estimate.mean,
        "low": estimate.interval.low,
        "high": estimate.interval.high,
        "by_seed": estimate.by_seed,
        "spread": estimate.spread,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a document.

    Raises:
        PermanentError: it cannot be written.
    """
    try:
        path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise PermanentError(f"--json: {path} cannot be written: {error.strerror}") from None


def processor_name() -> str:
    """Name the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} threads" if names else "unknown"


def require_matplotlib() -> None:
    """See that a plot can be made, before hours of work.

    Raises:
        PermanentError: it cannot.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise PermanentError(
            "--plot needs matplotlib, which is not installed; run pip install 'nextclick[evaluate]'"
        ) from None


def plot_recall_by_position(summary: Summary, title: str, path: Path) -> None:
    """Draw a line per model; the format is that of the file's ending.

    Raises:
        PermanentError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, figures in summary.models.items():
        shown = [position for position in figures.positions if position.predictions >= _MIN_PREDICTIONS]
        axes.plot(
            [position.clicks_before for position in shown], [position.recall for position in shown], ".-", label=name
        )
    axes.set(
        xlabel=f"clicks of the session before the predicted one ({LAST_POSITION}: or more)",
        ylabel="Recall@20",
        title=title,
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", fontsize="small")
    try:
        figure.savefig(path)
    except OSError as error:
        raise PermanentError(f"--plot: {path} cannot be written: {error.strerror}") from None
