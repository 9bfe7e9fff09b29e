"""Plots of a comparison, as small SVG files."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figures import Comparison, ProgramFigures
from bench.tables import SHARES


def write_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw throughput, CPU and latency; gives the files."""
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and ids the same from one run to the next: files are small, and a change in git shows figures.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "nextclick", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    ran = [each for each in comparison.programs if not each.not_run]
    return [
        _draw(folder / "throughput.svg", "events/s", ran, _bars(lambda each: each.events_per_s)),
        _draw(folder / "cpu.svg", "us of CPU per click", ran, _bars(lambda each: each.cpu_us_per_event)),
        _draw(folder / "latency.svg", "p99 in ms, at a share of the program's own capacity in %", ran, _lines),
    ]


def _draw(path: Path, label: str, ran: list[ProgramFigures], draw: Callable[[Any, list[ProgramFigures]], None]) -> Path:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    draw(axes, ran)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _bars(figure: Callable[[Any], float]) -> Callable[[Any, list[ProgramFigures]], None]:
    """Draw the median of the rounds, with a line from the lowest to the highest."""

    def draw(axes: Any, ran: list[ProgramFigures]) -> None:
        rounds = [[figure(each) for each in program.throughput] for program in ran]
        medians = [statistics.median(values) for values in rounds]
        below = [median - min(values) for median, values in zip(medians, rounds, strict=True)]
        above = [max(values) - median for median, values in zip(medians, rounds, strict=True)]
        bars = axes.barh([program.name for program in ran], medians, xerr=[below, above], color=_colours(ran))
        axes.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=6)
        axes.invert_yaxis()
        axes.margins(x=0.25)  # room for the labels

    return draw


def _colours(ran: list[ProgramFigures]) -> list[str]:
    return ["#1b6ca8" if program.name.startswith("worker") else "#9fb4c4" for program in ran]


def _lines(axes: Any, ran: list[ProgramFigures]) -> None:
    for program in ran:
        held = [
            share for share in SHARES if (found := program.rates.get(share)) and all(each.keeps_up for each in found)
        ]
        p99 = [statistics.median(each.latency.p99_ms for each in program.rates[share]) for share in held]
        width = 2.5 if program.name.startswith("worker") else 1.2
        axes.plot(held, p99, marker="o", linewidth=width, label=program.name)
    axes.set_yscale("log")
    axes.set_xticks(SHARES)
    axes.legend(fontsize=7, bbox_to_anchor=(1.0, 1.0), loc="upper left", frameon=False)
