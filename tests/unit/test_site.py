"""The documentation becomes a site without a warning: every link leads somewhere, and every page is in the menu."""

import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files

_TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    made = subprocess.run(command, cwd=_TOP, capture_output=True, text=True, timeout=200, check=False)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("index.html", "make demo"),
        ("reference/settings/index.html", "commit_interval_s"),
        ("reference/topics/index.html", "clicks-rejected"),
        ("reference/http/index.html", "/v1/sessions/recommendations"),
        ("reference/python/index.html", "AsyncFeed"),
    ],
)
def test_pages_that_are_made_say_what_they_are_for(site: Path, page: str, text: str) -> None:
    assert text in (site / page).read_text()


def test_a_page_of_the_menu_that_is_not_there_is_refused() -> None:
    """Or it would be missed by nobody: what is renamed falls out of the menu."""
    config = load_config(str(_TOP / "mkdocs.yml"))

    with pytest.raises(PluginError, match=r"no page fruit-example\.md"):  # the first that is not made here
        config.plugins.on_files(Files([]), config=config)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Scripts, styles and fonts are the site's own."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert 'src="http' not in text
        assert 'rel="stylesheet" href="http' not in text
