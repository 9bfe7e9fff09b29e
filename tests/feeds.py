"""What tests of a running feed share: asking it, and following its streams."""

import http.client
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from demo.children import Child
from tests.chaos.fleet import StartChild

_STARTED = re.compile(r'"message":"lists are served","port":(\d+)')


class Answer(NamedTuple):
    """What a feed answers.

    Attributes:
        status: of HTTP.
        headers: by name.
        body: parsed, if it is JSON; else the text.
    """

    status: int
    headers: Mapping[str, str]
    body: Any


class FeedUnderTest:
    """A feed as a process, which is asked over HTTP."""

    def __init__(
        self,
        playground: Any,
        name: str = "feed",
        port: int = 0,
        *,
        suffix: str = "",
        start_child: StartChild = Child,
        **environment: str,
    ) -> None:
        """Start it, and wait until it answers; whoever has the same name has the same folder, by suffix its own log."""
        self.process: Child = playground.start(
            name + suffix,
            "feed",
            "--set",
            f"feed_dir={playground.folder / name}",
            "--set",
            f"feed_port={port}",
            start_child=start_child,
            **environment,
        )
        log = playground.log(name + suffix)
        found = playground.wait_for(lambda: _STARTED.search(log.read_text()), f"{name} answers")
        self.port = int(found.group(1))

    def ask(self, path: str, body: Any = None, timeout_s: float = 15.0, **headers: str) -> Answer:
        """Ask for a path; with a body, send it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            if body is None:
                connection.request("GET", path, headers=named)
            else:
                named |= {"Content-Type": "application/json"}
                connection.request("POST", path, json.dumps(body).encode(), named)
            answer = connection.getresponse()
            text = answer.read()
            found = dict(answer.getheaders())
            is_json = "json" in found.get("content-type", "")
            return Answer(answer.status, found, json.loads(text) if is_json else text.decode())
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Whether it says that requests should come."""
        return self.ask("/readyz").status == 200


@dataclass
class StreamReader:
    """Follows a user's events in a thread, as a browser does: connects again with the last event's id.

    Attributes:
        events: the ids and lists so far.
        n_connected: how often it has connected.
    """

    port: int
    user_id: str
    events: list[tuple[str, Any]] = field(default_factory=list)
    n_connected: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def sequences(self) -> list[int]:
        """Of the lists so far, without those of a user nobody knows yet."""
        return [listed["sequence"] for _, listed in self.events if listed["sequence"]]

    def stop(self) -> None:
        """Read no more."""
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        last = next((event_id for event_id, _ in reversed(self.events) if event_id), "")
        try:
            connection.request(
                "GET", f"/v1/users/{self.user_id}/events", headers={"Last-Event-ID": last} if last else {}
            )
            answer = connection.getresponse()
            self.n_connected += 1
            event_id = ""
            while not self._stop.is_set() and (line := answer.readline()):
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    event_id = value
                elif name == "data":
                    self.events.append((event_id, json.loads(value)))
                    event_id = ""
        finally:
            connection.close()
