"""What the documentation names is there: tests, settings, files, commands."""

import re
from pathlib import Path

import pytest

from cli.main import COMMANDS
from nextclick.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_every_test_that_holds_a_promise_is_there() -> None:
    """A promise whose test was renamed or removed would be held by nothing."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    promises = page.partition("## What it promises")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", promises))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))

    assert len(named) > 20
    assert named - set(re.findall(r"def (test_\w+)", tests)) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_nothing_that_is_not_there(page: Path) -> None:
    """Links between pages, and the commands and settings of what is to be typed."""
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#:]+)[)#]", text) if not (page.parent / link).exists()]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    typed = "".join(block for language, block in blocks if not language)
    settings = {name for name, *_ in Settings.describe()}

    assert links == []
    assert set(re.findall(r"--set (\w+)=", typed)) - settings == set()
    assert set(re.findall(r"^nextclick (\w+)", typed, re.MULTILINE)) - COMMANDS.keys() == set()
