"""A feed answers as its description says, whatever is asked: without Kafka, all but clicks."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from feed.hub import Hub, Watch
from tests.described import assert_answers_as_described
from tests.served_feed import ITEMS, ServedFeed, serve_bundle, update

KNOWN = "sku-4711"  # in the description's examples
STREAM_S = 0.05
TOKEN = "0123456789abcdef"


class BriefHub(Hub):
    """Ends a stream soon: who asks here reads an answer to its end."""

    @contextmanager
    def watch(self, user: bytes) -> Iterator[Watch]:
        with super().watch(user) as watch:
            asyncio.get_running_loop().call_later(STREAM_S, watch.end)
            yield watch


@pytest.mark.release
@pytest.mark.parametrize("with_token", [False, True])
def test_a_feed_answers_as_it_is_described(tmp_path: Path, with_token: bool) -> None:
    """Statuses, types, headers and bodies; whoever has no token gets nothing."""
    settings: dict[str, Any] = {}
    if with_token:
        (tmp_path / "tokens").write_text(TOKEN)
        settings["feed_tokens_file"] = str(tmp_path / "tokens")
    with ServedFeed(tmp_path / "feed", **settings) as feed:
        feed.parts.hub = BriefHub(100)
        serve_bundle(feed, [KNOWN, *ITEMS])
        feed.store(update("u-17", 3), update("ben", 1, ["top"], "popular"))
        arguments = ["--exclude-path", "/v1/clicks", *(["-H", f"Authorization: Bearer {TOKEN}"] if with_token else [])]

        assert_answers_as_described(feed.url, tmp_path, *arguments, max_examples=5 if with_token else 20)
