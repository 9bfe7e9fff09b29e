"""What librdkafka gives of a record that others would expect nothing odd in."""

import re
from pathlib import Path

import tools.records

ROOT = Path(tools.records.__file__).parents[1]
PROGRAMS = ("nextclick", "tools", "stream", "training", "demo", "cli", "bench")


def test_headers_are_asked_for_in_one_place_only() -> None:
    """Anywhere else a record with an odd header would end the process without a word."""
    sources = [path for program in PROGRAMS for path in (ROOT / program).rglob("*.py")]
    asking = [path.name for path in sources if re.search(r"\.headers\(\)", _code_of(path))]

    assert asking == []
    assert len(sources) > 100


def _code_of(path: Path) -> str:
    """The source without what is said in backquotes."""
    return re.sub(r"`[^`]*`", "", path.read_text())
