"""What the README says of lists over HTTP is what a feed does, beside a worker and with a bundle."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chaos.bundles import announce, mixed_bundle
from tests.described import assert_answers_as_described
from tests.feeds import FeedUnderTest
from tests.scrapes import value_of, without_app

README = (
    (Path(__file__).parents[2] / "README.md").read_text().partition("\n## Lists over HTTP")[2].partition("\n## ")[0]
)
ADDRESS = "http://127.0.0.1:9470"
STREAM_S = 5  # what is open for ever is read for so long
COMPILED_S = 150.0  # numba compiles at the first bundle of a checkout, and other tests have the cores meanwhile
ENDED_BY_TIME = 28  # curl's status


class Example(NamedTuple):
    """A command of the README, and the answer beside it."""

    command: str
    answer: str


def examples() -> list[Example]:
    """All commands, in their order."""
    found = re.findall(r"^\$ (curl (?:.*\\\n)*.*)\n((?:(?!\$ |```).*\n)*)", README, re.MULTILINE)
    return [Example(command, answer.strip()) for command, answer in found]


def form_of(value: Any) -> Any:
    """What of an answer is the same each time: its fields and the types of their values."""
    if isinstance(value, dict):
        return {name: form_of(part) for name, part in value.items()}
    if isinstance(value, list):
        return [form_of(value[0])] if value else []
    return type(value).__name__


def fields_of_events(text: str) -> list[str]:
    """The names of the fields of a stream's events."""
    return [line.partition(": ")[0] for line in text.splitlines() if line and not line.startswith(":")]


@pytest.fixture
def feed(playground: Any) -> FeedUnderTest:
    """A feed beside a worker, both with a bundle that knows the README's items."""
    items = [f"sku-{4700 + number}" for number in range(20)]
    announce(playground.settings, mixed_bundle(playground.settings.bundle_dir, items, seed=1))
    feed = FeedUnderTest(playground)
    playground.wait_for(lambda: feed.ask("/v1/popular").status == 200, "the feed has a bundle", COMPILED_S)
    playground.worker()  # after the feed: what numba has compiled for one, the other need not
    playground.wait_for_log("worker", "serving a new bundle")
    click = {"user_id": "first", "item_id": "sku-4701"}
    playground.wait_for(
        lambda: feed.ask("/v1/clicks?wait=10s", click).body.get("recommendations"), "clicks are answered"
    )
    return feed


def patient(example: str, feed: FeedUnderTest) -> str:
    """An example for this feed, on a machine that has other tests to run."""
    return (
        example.replace(ADDRESS, f"http://127.0.0.1:{feed.port}")
        .replace("wait=2s", "wait=10s")
        .replace("wait_s=2.0", "wait_s=10.0")
    )


def test_every_command_of_the_readme_gives_what_stands_beside_it(feed: FeedUnderTest) -> None:
    """Routes, parameters, and the fields of the answers."""
    found = examples()
    for example in found:
        options = f"-sS --max-time {STREAM_S if 'curl -N' in example.command else 20}"
        command = patient(example.command, feed).replace("curl", f"curl {options}", 1)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)

        assert done.returncode in (0, ENDED_BY_TIME), done.stderr
        print(f"$ {example.command}\n{done.stdout}")
        if "curl -N" in example.command:
            assert fields_of_events(done.stdout) == fields_of_events(example.answer)
        else:
            assert form_of(json.loads(done.stdout)) == form_of(json.loads(example.answer))

    routes = {re.sub(r"u-17|sku-4711", "ID", path) for path in re.findall(r"9470(/v1/[^?']*)", README)}
    assert routes == {
        "/v1/users/ID/recommendations",
        "/v1/users/ID/events",
        "/v1/items/ID/neighbours",
        "/v1/popular",
        "/v1/clicks",
        "/v1/sessions/recommendations",
    }


def test_the_python_of_the_readme_runs(feed: FeedUnderTest, capsys: pytest.CaptureFixture[str]) -> None:
    """Until the first list of the stream, which is the one that contains the click."""
    [program] = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    stopping = patient(program, feed).rstrip() + "\n        break\n"
    exec(compile(stopping, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()

    assert printed[0].startswith("UserList(user_id='u-17', items=[ListedItem(item_id='sku-")
    assert printed[1].startswith("1 ['sku-")


@pytest.mark.release
def test_clicks_are_answered_as_they_are_described(feed: FeedUnderTest, playground: Any, tmp_path: Path) -> None:
    """By the broker's word, whatever is sent; and the worker takes all that the feed has taken."""
    url = f"http://127.0.0.1:{feed.port}"
    assert_answers_as_described(url, tmp_path, "--include-path", "/v1/clicks", max_examples=30)

    playground.wait_until_answered()
    metrics = without_app(feed.ask("/metrics").body)
    assert (value_of(metrics, 'nextclick_feed_clicks_total{result="taken"}') or 0) > 10
    assert value_of(metrics, 'nextclick_feed_clicks_total{result="failed"}') == 0
    assert playground.count(playground.settings.rejected_topic) == 0
