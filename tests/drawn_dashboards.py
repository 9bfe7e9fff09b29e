"""Draws the dashboards of deploy/grafana from a running Prometheus, with their own queries: what Grafana would show.

Where no Grafana can be run, this is how they are looked at, and what docs/dashboards.md shows.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.local_prometheus import LocalPrometheus, Sample

DASHBOARDS = sorted((Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards").glob("*.json"))
RATE_INTERVAL = "1m"
_COLUMN_INCHES, _ROW_INCHES = 0.55, 0.32  # of Grafana's grid
_HEAD_ROWS = 2  # above the first of them
_POINTS = 240
_LINE = {"green": "#3a923a", "yellow": "#e0a100", "red": "#c03d3e"}


def filled(expression: str, app: str) -> str:
    """A panel's query with Grafana's variables filled in."""
    return expression.replace("$app", app).replace("$__rate_interval", RATE_INTERVAL)


def draw(prometheus: LocalPrometheus, dashboard: Path, app: str, minutes: float, file: Path) -> None:
    """Draw a dashboard.

    Args:
        prometheus: which is asked.
        dashboard: its file.
        app: whose series.
        minutes: the time until now that is drawn.
        file: gets the picture.
    """
    document = json.loads(dashboard.read_text())
    height = _HEAD_ROWS + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in document["panels"])
    figure = plt.figure(figsize=(24 * _COLUMN_INCHES, height * _ROW_INCHES))
    figure.text(0.01, 1 - 0.9 / height, document["title"], fontsize=14, weight="bold")
    end_s = time.time()
    for panel in document["panels"]:
        if panel["type"] == "row":
            figure.text(0.01, 1 - (panel["gridPos"]["y"] + 0.9 + _HEAD_ROWS) / height, panel["title"], fontsize=12)
            continue
        axes = _place(figure, panel["gridPos"], height)
        if panel["type"] == "timeseries":
            axes.set_title(panel["title"], fontsize=8, loc="left")
            _draw_lines(axes, prometheus, panel, app, (end_s - minutes * 60, end_s))
        else:
            axes.set_title(panel["title"], fontsize=8, loc="left")
            _write(axes, panel, prometheus.query(filled(panel["targets"][0]["expr"], app)))
    figure.savefig(file, dpi=64, pil_kwargs={"optimize": True})
    plt.close(figure)


def _place(figure: Figure, place: dict[str, int], height: int) -> Axes:
    """Give a panel's part of the picture: Grafana counts 24 columns, and rows from the top."""
    left, width = (place["x"] + 0.9) / 24, (place["w"] - 1.3) / 24
    bottom, tall = 1 - (_HEAD_ROWS + place["y"] + place["h"] - 1) / height, (place["h"] - 2.4) / height
    return figure.add_axes((left, bottom, width, tall))


def _draw_lines(
    axes: Axes, prometheus: LocalPrometheus, panel: dict[str, Any], app: str, span_s: tuple[float, float]
) -> None:
    start_s, end_s = span_s
    for target in panel["targets"]:
        expression = filled(target["expr"], app)
        for series in prometheus.query_range(expression, start_s, end_s, max(1.0, (end_s - start_s) / _POINTS)):
            times = [(float(at) - end_s) / 60 for at, _ in series["values"]]
            label = _legend(target.get("legendFormat", ""), series["metric"])
            axes.plot(times, [float(value) for _, value in series["values"]], label=label, linewidth=1)
    axes.set_xlim((start_s - end_s) / 60, 0)
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(0, bottom), top)
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ()):
        if step["value"] is not None and min(0, bottom) <= step["value"] <= top:
            axes.axhline(step["value"], color=_LINE[step["color"]], linestyle="--", linewidth=0.8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6, loc="upper left", frameon=False, ncols=2)
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)


def _legend(text: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def _write(axes: Axes, panel: dict[str, Any], samples: list[Sample]) -> None:
    """A number in the colour of its step; of a table, the labels of its first rows."""
    axes.axis("off")
    if panel["type"] == "table":
        rows = [", ".join(f"{k} {v}" for k, v in sorted(s["metric"].items()) if k != "app") for s in samples[:12]]
        axes.text(0, 0.95, "\n".join(rows) or "none", fontsize=6, verticalalignment="top")
        return
    value = float(samples[0]["value"][1]) if samples else math.nan
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ())
    passed = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    axes.text(0, 0.2, f"{value:.4g}", fontsize=18, color=_LINE[passed[-1]] if passed else "black")
