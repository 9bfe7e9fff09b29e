"""What `nextclick models` prints. Pure but for the time of now."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that `--help` is instant
    from nextclick.experiment import Experiment
    from nextclick.experiment_judgement import Comparison, Difference, Standing
    from nextclick.manifest import Manifest
    from nextclick.models_state import ModelsState


def state_lines(state: "ModelsState") -> list[str]:
    """Say what is the champion, and what was done last."""
    if state.champion is None:
        return ["there is no champion: popularity answers everybody"]
    pinned = ", pinned: the trainer announces nothing" if state.pin is not None else ""
    lines = [f"champion  {state.champion_id}, made {time_text(state.champion.created_ms)}{pinned}"]
    if state.experiment is None and state.history:
        last = state.history[-1]
        reason = f": {last.reason}" if last.reason else ""
        lines.append(f"last      {time_text(last.at_ms)}  {last.bundle_id} {last.what}{reason}")
    return lines


def standing_lines(experiment: "Experiment", now: "Standing") -> list[str]:
    """Say how an experiment stands, in a table."""
    hours = max(0.0, time.time() - experiment.started_ms / 1000) / 3600
    kind, promoted = experiment.kind, experiment.promote.replace("_", " ")
    lines = [
        f"{kind:9} {experiment.bundle_id}, {percent(experiment.share)} of the users, for {hours:.1f} h",
        "",
        f"{'':9} {'judged clicks':>13}  {'hit rate':>18}  {'MRR':>18}",
        f"{'champion':9} {now.judged[0]:>13,}  {now.hits.champion:>18.4f}  {now.mrr.champion:>18.4f}",
        f"{kind:9} {now.judged[1]:>13,}  {now.hits.challenger:>18.4f}  {now.mrr.challenger:>18.4f}",
        f"{'difference':23}  {_range(now.hits):>18}  {_range(now.mrr):>18}  with 97.5% confidence, at every look",
        *(_beside_lines(now.beside) if now.beside.judged[1] else []),
        "",
        f"{now.verdict.value}; counted by {now.workers} workers"
        + (f"; promoted: {promoted}" if kind == "canary" else ""),
    ]
    if now.not_serving:
        lines.append(
            f"{now.not_serving} of the workers cannot load the bundle, see their logs: they serve the champion to "
            "everybody, and try again every minute; it is not promoted by itself meanwhile"
        )
    return lines


def _beside_lines(beside: "Comparison") -> list[str]:
    return [
        "",
        "the same clicks of the canary's users, by its lists and by those that the champion would have made:",
        f"{'champion':9} {beside.judged[0]:>13,}  {beside.hits.champion:>18.4f}  {beside.mrr.champion:>18.4f}",
        f"{'canary':9} {beside.judged[1]:>13,}  {beside.hits.challenger:>18.4f}  {beside.mrr.challenger:>18.4f}",
        f"{'difference':23}  {_range(beside.hits):>18}  {_range(beside.mrr):>18}",
    ]


def percent(share: float) -> str:
    """Write a share of the users."""
    return f"{100 * share:.3g}%"


def _range(difference: "Difference") -> str:
    return f"{difference.low:+.4f} to {difference.high:+.4f}"


def uses_of(state: "ModelsState", bundle_id: str) -> list[str]:
    """Say what a bundle is used for."""
    former = state.former_champions()
    uses = [
        ("champion", bundle_id == state.champion_id),
        ("pinned", state.pin is not None and bundle_id == state.champion_id),
        (
            state.experiment.kind if state.experiment else "",
            state.experiment is not None and state.experiment.bundle_id == bundle_id,
        ),
        ("rollback goes here", former[:1] == [bundle_id]),
    ]
    return [name for name, holds in uses if holds]


def manifest_lines(manifest: "Manifest") -> list[str]:
    """Say all that a bundle's manifest has."""
    size = sum(file.size_bytes for file in manifest.files)
    ranges = ", ".join(f"{partition}: {first} to {last}" for partition, (first, last) in manifest.log_range.items())
    return [
        f"bundle     {manifest.bundle_id}, {size / 1e6:.1f} MB",
        f"made       {time_text(manifest.created_ms)}",
        f"parent     {manifest.parent or 'none: trained from the beginning'}",
        f"clicks     {ranges or 'not said'}  (partition: first to last offset)",
        f"judgement  {manifest.judgement or 'not said'}",
        *(f"{name:30} {value:.4f}" for name, value in sorted(manifest.metrics.items())),
        *(f"{name:30} {value}" for name, value in sorted(manifest.network.items())),
        *(f"setting {name:22} {value}" for name, value in sorted(manifest.settings.items())),
        *(f"version {name:22} {value}" for name, value in sorted(manifest.versions.items())),
    ]


def time_text(at_ms: int) -> str:
    """Write a time."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
