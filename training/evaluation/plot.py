"""Recall by position in the session, as a picture. Needs matplotlib, which only the extra `evaluate` brings."""

from pathlib import Path

from nextclick.errors import PermanentError
from training.evaluation.figures import LAST_POSITION
from training.evaluation.summary import Summary

_MIN_PREDICTIONS = 30  # of fewer predictions a recall says little


def require_matplotlib() -> None:
    """See that a plot can be made, before hours of work.

    Raises:
        PermanentError: it cannot.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise PermanentError(
            "--plot expects matplotlib, found that it is not installed; run pip install 'nextclick[evaluate]'"
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
        raise PermanentError(f"--plot expects a file that can be written, found {path}: {error.strerror}") from None
