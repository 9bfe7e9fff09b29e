"""Writes docs/benchmarks.md: the text of a template, with tables and plots of a run's figures."""

import re
from pathlib import Path

from bench.figures import ROOT, Figures, read_figures
from bench.tables import compare_table, load_table, machine_line, ratio_table, steady_table, targets

DEFAULT_FIGURES = ROOT / "docs" / "benchmarks" / "figures.json"
TEMPLATE = ROOT / "bench" / "benchmarks.template.md"
PAGE = ROOT / "docs" / "benchmarks.md"
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_PLOTS = """![events/s](benchmarks/throughput.svg)
![CPU per click](benchmarks/cpu.svg)
![latency](benchmarks/latency.svg)"""
_NOT_MEASURED = "(not measured yet)"


def write_docs(file: Path) -> None:
    """Write the page and its plots from a JSON file of figures."""
    from bench.plots import write_plots

    figures = read_figures(file)
    if figures.compare is not None:
        write_plots(figures.compare, PAGE.with_suffix(""))
    PAGE.write_text(page(TEMPLATE.read_text(), figures))


def page(template: str, figures: Figures) -> str:
    """Fill in a template.

    Raises:
        KeyError: it has a place that there is nothing for.
    """
    compared = figures.compare
    places = {
        "compare_machine": "",
        "steady_machine": "",
        **{f"{part}_machine": machine_line(machine) for part, machine in figures.machines.items()},
        "compare": compare_table(compared) if compared else _NOT_MEASURED,
        "ratios": ratio_table(compared) if compared else _NOT_MEASURED,
        "targets": targets(compared) if compared else _NOT_MEASURED,
        "load": load_table(compared) if compared else _NOT_MEASURED,
        "plots": _PLOTS if compared else "",
        "rounds": str(compared.n_rounds) if compared else "0",
        "steady": steady_table(figures.steady) if figures.steady else _NOT_MEASURED,
        "idle": f"{figures.idle_cores:.3f}" if figures.idle_cores is not None else _NOT_MEASURED,
    }
    filled = _PLACE.sub(lambda place: places[place[1]], template)
    return re.sub(r"\n{3,}", "\n\n", filled)
