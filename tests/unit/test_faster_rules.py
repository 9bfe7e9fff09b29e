"""Rules whose time passes faster, for the game day."""

from pathlib import Path

import pytest

from tests.game_day.faster import RULES, faster, write_faster
from tests.local_prometheus import MISSING, PROMTOOL
from tests.promtool import promtool


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("for: 2m", "for: 20s"),
        ("rate(clicks_total[1h])", "rate(clicks_total[600s])"),
        ("ratio offset 1w", "ratio offset 100800s"),
        ("predict_linear(free_bytes[1h], 4 * 3600) < 0", "predict_linear(free_bytes[600s], 4 * 3600 / 6) < 0"),
        ("rate(clicks_total[5s])", "rate(clicks_total[2s])"),
        ("oldest_seconds > 30", "oldest_seconds > 30"),
    ],
)
def test_durations_are_divided_and_thresholds_stay(rule: str, expected: str) -> None:
    """A window that would hold one scrape is made longer."""
    assert faster(rule, 6) == expected


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
def test_all_rules_are_valid_then_too(tmp_path: Path) -> None:
    """And none is left as it was that has a duration."""
    files = write_faster(tmp_path, 6)

    promtool("check", "rules", *files)
    assert [path.name for path in files] == [path.name for path in RULES]
    assert not any("[5m]" in path.read_text() or "for: 10m" in path.read_text() for path in files)
