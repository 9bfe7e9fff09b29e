"""The page of metrics has all that a scrape can show, and every document names only metrics that there are."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contracts.metrics_page import FILE, page
from tests.unit.test_metrics import OF_A_PROCESS

_ROOT = FILE.parents[2]
_DOCS = sorted([_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")])
_NAME = re.compile(r"\bnextclick_[a-z0-9_]+(?![a-z0-9_*/.-])")
_NO_METRICS = re.compile(r"nextclick_(shop|app|key|value)\b")


def test_the_page_is_as_the_code_says() -> None:
    """Else: python -m contracts --write."""
    assert FILE.read_text() == page()


def test_every_metric_is_on_the_page() -> None:
    """Also what a scrape shows that nobody declared, as of the process."""
    named = set(re.findall(r"^\| `(\w+)`", page(), re.MULTILINE))
    suffixes = {"counter": "_total", "info": "_info"}
    for make in OF_A_PROCESS:
        registry = CollectorRegistry()
        make(registry)
        assert {family.name + suffixes.get(family.type, "") for family in registry.collect()} <= named


@pytest.mark.parametrize("path", _DOCS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_documents_name_metrics_that_there_are(path: Path) -> None:
    """A histogram also by its series, a counter also without `_total`."""
    named = set(re.findall(r"^\| `(\w+)`", page(), re.MULTILINE))
    known = {f"{name}{suffix}" for name in named for suffix in ("", "_bucket", "_sum", "_count")}
    known |= {name.removesuffix("_total") for name in named}
    names = _NAME.findall(path.read_text())
    found = {
        name for name in names if not _NO_METRICS.fullmatch(name) and not name.endswith("_")
    }  # those begin several

    assert found <= known, found - known
