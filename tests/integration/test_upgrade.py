"""Programs are replaced one by one by those of another version, and back, under load: nothing is lost or doubled.

The other version is a commit of this repository, checked out beside it.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from demo.children import COMMAND_LINE, Child
from nextclick.setting_sources import CONFIG_VARIABLE, ENVIRONMENT_PREFIX
from tests.chaos.bundles import announce, mixed_bundle
from tests.chaos.fleet import StartChild
from tests.clicking import clicking
from tests.feeds import FeedUnderTest
from tests.trainers import NO_TRAINING, click_offsets, logged_offsets, wait_until_logged

BEFORE = "4ccc580"  # the version before: where runbooks and alerts were not there yet
ITEMS = [f"i{number}" for number in range(30)]
WORKERS = ("one", "two")
_TOP = Path(__file__).parents[2]
_STOP_S = 30.0
_PATIENCE_S = 300.0  # the other version compiles for itself
_MORE = 400  # lists between two steps
_NAMES = "import dataclasses, nextclick.settings as s; print(*(field.name for field in dataclasses.fields(s.Settings)))"

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]


@pytest.fixture
def before(tmp_path: Path) -> Iterator[StartChild]:
    """Starts programs of the version before, with the settings that it knows."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=_TOP, capture_output=True, check=False
    )
    if known.returncode:
        pytest.skip(f"the history of this checkout does not have {BEFORE}")
    tree = tmp_path / "before"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, BEFORE], cwd=_TOP, check=True)
    yield program_of(tree)
    subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=_TOP, check=True)


def program_of(tree: Path) -> StartChild:
    """Start programs of a checkout."""
    first = f"import sys; sys.path.insert(0, {str(tree)!r}); "
    names = subprocess.run([sys.executable, "-c", first + _NAMES], check=True, capture_output=True, text=True).stdout
    known = {CONFIG_VARIABLE, *(ENVIRONMENT_PREFIX + name.upper() for name in names.split())}

    def start(name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
        kept = {k: v for k, v in environment.items() if not k.startswith(ENVIRONMENT_PREFIX) or k in known}
        return Child(name, arguments, kept, log, program=first + COMMAND_LINE)

    return start


def wait_for_lists(playground: Any) -> None:
    """Wait until there are some more."""
    topic = playground.settings.recommendations_topic
    wanted = playground.count(topic) + _MORE
    playground.wait_for(lambda: playground.count(topic) >= wanted, f"{_MORE} more lists", _PATIENCE_S)


class Fleet:
    """Two workers, a feed and a trainer; whoever is replaced goes on with its predecessor's folder."""

    def __init__(self, playground: Any, start: StartChild) -> None:
        """Start all of them; the first worker alone, for it compiles."""
        self._playground, self._running = playground, {}
        for name in ("one", "feed", "two", "trainer"):
            self._start(name, "", start)
            wait_for_lists(playground)

    def replace(self, names: Sequence[str], version: str, start: StartChild) -> None:
        """Replace some of them one by one."""
        for name in names:
            self._running[name].stop(_STOP_S)
            assert self._running[name].exit_status == 0, self._running[name].log_tail
            self._start(name, f"-{version}", start)
            wait_for_lists(self._playground)

    def _start(self, name: str, suffix: str, start: StartChild) -> None:
        if name == "feed":
            self.feed = FeedUnderTest(self._playground, name, suffix=suffix, start_child=start)
            self._running[name] = self.feed.process
        elif name == "trainer":
            self._running[name] = self._playground.start(f"{name}{suffix}", "train", *NO_TRAINING, start_child=start)
        else:
            folder = ("--set", f"data_dir={self._playground.folder / name}")
            self._running[name] = self._playground.worker(f"{name}{suffix}", *folder, start_child=start)


def test_a_rolling_upgrade_and_the_way_back_lose_and_double_nothing(playground: Any, before: StartChild) -> None:
    """States, offsets, updates, bundles, lists, the click log: each version reads what the other one wrote."""
    announce(playground.settings, mixed_bundle(playground.settings.bundle_dir, ITEMS, seed=1))
    with clicking(playground.settings, ITEMS):
        fleet = Fleet(playground, before)
        fleet.replace(("feed", *WORKERS, "trainer"), "after", Child)
        announce(playground.settings, mixed_bundle(playground.settings.bundle_dir, ITEMS, seed=2))
        wait_for_lists(playground)
        fleet.replace(("trainer", *WORKERS, "feed"), "back", before)
    updates = playground.wait_until_answered()
    wait_until_logged(playground, len(playground.clicks()))
    newest = {update.user_id: update for update in updates}

    assert len(updates) == len(playground.clicks())
    playground.assert_sequences_are_right(updates)
    playground.assert_states_equal_offline(playground.settings.bundle_dir)
    assert logged_offsets(playground.settings.log_dir) == click_offsets(playground)
    assert len(newest) == 60
    for user_id, update in newest.items():
        playground.wait_for(lambda user_id=user_id, update=update: is_served(fleet.feed, user_id, update), "its list")


def is_served(feed: FeedUnderTest, user_id: str, update: Any) -> bool:
    """Tell whether a feed has a user's newest list."""
    answer = feed.ask(f"/v1/users/{user_id}/recommendations")
    return (answer.status, answer.body["sequence"]) == (200, update.sequence)
