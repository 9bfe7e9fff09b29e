"""What a scrape of the trainer says of a round: what it took, what was decided of its bundle and why."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from nextclick.ranking_metrics import Quality
from nextclick.settings import Settings
from tests.experiments import MANIFEST
from training.learning.cancellation import TrainingCancelled
from training.learning.judgement import Comparison, Difference, Judgement, Lists
from training.learning.lead import Lead, leads_after
from training.service.metrics import TrainerMetrics
from training.service.models_changes import Held
from training.service.publication import judge
from training.service.round_process import Trained
from training.service.rounds import Ended, Result, Rounds

QUALITY = Quality(0.6, 0.3, 0.35, 5_000)
SAME, WORSE = Difference(0.0, -0.01, 0.01), Difference(-0.1, -0.2, -0.05)
LISTS = Lists(2_000, 900, 1_000, popular_share=0.2, expected_hits=700.0, hits=650, step_ms=0.4)
BETTER = Judgement(
    new=QUALITY,
    champion=QUALITY,
    popularity=Quality(0.1, 0.03, 0.05, 5_000),
    counts=None,
    over_champion=Comparison(SAME, SAME),
    lists=LISTS,
    champion_lists=LISTS,
    leads=None,
)
REFUSED = BETTER._replace(over_champion=Comparison(WORSE, WORSE), lists=LISTS._replace(step_ms=9.0))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def rounds(registry: CollectorRegistry, tmp_path: Path) -> Rounds:
    settings = Settings(log_dir=tmp_path / "log", bundle_dir=tmp_path / "bundles")
    return Rounds(settings, None, TrainerMetrics(registry), "")  # type: ignore[arg-type] # none is asked for a role


def trained(judgement: Judgement) -> Trained:
    manifest = msgspec.structs.replace(MANIFEST, network={"cell": "gru"})
    return Trained(manifest, 40_000, 700, 2, 9_000.0, judgement, "cuda", "Some GPU")


def test_a_refusal_is_shown_with_all_that_it_is_for(rounds: Rounds, registry: CollectorRegistry) -> None:
    """In a few words that stay the same; what they mean in figures is in the log."""
    rounds._count(trained(REFUSED), judge(REFUSED), 12.0)
    labels = {"decision": "refused", "reason": "worse_than_champion,slow"}

    assert registry.get_sample_value("nextclick_trainer_decision_info", labels) == 1
    assert _value(registry, "refusals_total", reason="slow") == _value(
        registry, "refusals_total", reason="worse_than_champion"
    )
    assert _value(registry, "refusals_total", reason="slow") == 1
    assert _value(registry, "refusals_total", reason="covers_little") == 0
    assert abs(_value(registry, "decision_timestamp_seconds") - time.time()) < 60
    assert _value(registry, "bundle_created_timestamp_seconds") == 0


def test_a_bundle_that_is_published_is_named(rounds: Rounds, registry: CollectorRegistry) -> None:
    """And what its round took, where."""
    rounds._count(trained(BETTER), judge(BETTER), 12.0)
    labels = {"decision": "published", "reason": "better", "bundle": MANIFEST.bundle_id}

    assert registry.get_sample_value("nextclick_trainer_decision_info", labels) == 1
    assert _value(registry, "last_round_seconds") == _value(registry, "round_seconds_sum") == 12.0
    assert _value(registry, "last_round_clicks") == _value(registry, "round_clicks_total") == 40_000
    assert _value(registry, "bundle_items") == 700
    assert registry.get_sample_value("nextclick_trainer_device_info", {"device": "cuda", "name": "Some GPU"}) == 1


def test_a_quality_has_a_series_while_it_is_known(rounds: Rounds, registry: CollectorRegistry) -> None:
    """A recall, or a lead, of 0 would be taken for what a training has found."""
    names = [f"nextclick_trainer_{each}_at_20_ratio" for each in ("recall", "mrr")]
    lead = "nextclick_trainer_lead_over_counts_ratio"

    def shown() -> list[float | None]:
        return [registry.get_sample_value(name, {"model": "current"}) for name in names]

    assert (shown(), registry.get_sample_value(lead)) == ([None, None], None)
    ahead = leads_after(Lead(-0.1, 0.01), None)
    rounds._count(trained(BETTER._replace(leads=ahead)), judge(BETTER), 12.0)
    assert (shown(), registry.get_sample_value(lead)) == ([0.6, 0.3], -0.1)
    first = BETTER._replace(champion=None, over_champion=None)
    rounds._count(trained(first), judge(first), 12.0)
    assert (shown(), registry.get_sample_value(lead)) == ([None, None], None)


def test_refused_and_failed_rounds_are_counted_in_a_row(rounds: Rounds, registry: CollectorRegistry) -> None:
    """Whatever ends otherwise ends the row, but for a stop: it says nothing of the training."""
    ends: list[Any] = [Result.REFUSED, RuntimeError("no"), TrainingCancelled("stop"), Held("pinned"), Result.REFUSED]
    seen = []
    for end in ends:
        rounds._round = lambda files, end=end: _ending(end)  # type: ignore[method-assign,misc]
        rounds._run([])
        seen.append(_value(registry, "refused_in_a_row"))

    assert seen == [1, 2, 2, 0, 1]
    assert _value(registry, "rounds_total", result="failed") == 1
    assert _value(registry, "rounds_total", result="stopped") == 1


def test_what_the_processes_of_rounds_took_is_read_from_the_system(rounds: Rounds, registry: CollectorRegistry) -> None:
    """Those that have ended."""
    before_s = _value(registry, "rounds_cpu_seconds_total")
    work = "data = bytes(60_000_000)\nimport time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", work], check=True)

    assert _value(registry, "rounds_cpu_seconds_total") - before_s > 0.25
    assert _value(registry, "rounds_peak_memory_bytes") > 60_000_000
    assert _value(registry, "round_running") == 0


def _ending(end: Any) -> Ended:
    if isinstance(end, Exception):
        raise end
    return Ended(end, "")


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(f"nextclick_trainer_{name}", labels)
    assert found is not None, name
    return found
