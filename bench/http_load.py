"""Asks a feed over HTTP, from a process of its own: reads at a rate, clicks that wait for their list, open streams.

A read at a rate has a time at which it is due, and its latency counts from then: a feed that is slow for a moment is
not asked less in that moment. Each connection asks one thing at a time. What the load itself used is reported.

`python -m bench.http_load reads|clicks|streams PORT CONNECTIONS RATE SECONDS N_USERS`: prints a report in JSON.
"""

import asyncio
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import uvloop

from bench.quantiles import quantile

_TICK_S = 0.001
_CONNECT_AT_ONCE = 200


class HttpReport(NamedTuple):
    """How the answers of a feed were.

    Attributes:
        n: answers, or events of streams, that count.
        n_failed: answers that were none, or another one than was wanted.
        per_s: answers a second.
        p50_ms, p99_ms, max_ms: from when a request was due to its answer; of an event, from the click's record.
        cores: CPU of the load.
        late_p99_ms: how long after it was due a request left though a connection was free.
    """

    n: int
    n_failed: int
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cores: float
    late_p99_ms: float


class _Connection(asyncio.Protocol):
    """A connection that is kept, with one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answered: Callable[[int, bytes], None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, request: bytes, answered: Callable[[int, bytes], None]) -> None:
        """Send a request; `answered` gets the status and the body."""
        assert self._transport is not None
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._buffer[:head_end]).lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        end = head_end + 4 + length
        if len(self._buffer) >= end:
            body = bytes(self._buffer[head_end + 4 : end])
            del self._buffer[:end]
            answered, self._answered = self._answered, None
            if answered is not None:
                answered(int(head[9:12]), body)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None:
            self._answered(0, b"")


class _Load:
    def __init__(self, port: int, n_connections: int, n_users: int) -> None:
        self._port, self._n_connections = port, n_connections
        self._draw, self._n_users = random.Random(1), n_users
        self._waits_s: list[float] = []
        self._late_s: list[float] = []
        self._n_failed = 0

    async def at_rate(self, per_s: float, seconds: float, request: Callable[[str], bytes]) -> HttpReport:
        """Ask at a rate; the first second does not count."""
        loop = asyncio.get_running_loop()
        free: deque[_Connection] = deque()
        for first in range(0, self._n_connections, _CONNECT_AT_ONCE):
            rest = min(_CONNECT_AT_ONCE, self._n_connections - first)
            made = await asyncio.gather(
                *(loop.create_connection(_Connection, "127.0.0.1", self._port) for _ in range(rest))
            )
            free.extend(protocol for _, protocol in made)
        n_asked, total, counted_from = 0, int(per_s * (seconds + 1.0)), int(per_s)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        while n_asked < total:
            now_s = time.perf_counter() - began_s
            while free and n_asked < total and n_asked / per_s <= now_s:
                self._ask(free, began_s + n_asked / per_s, request, is_counted=n_asked >= counted_from)
                n_asked += 1
            await asyncio.sleep(_TICK_S)
        end_s = time.perf_counter() + 10.0
        while len(free) < self._n_connections and time.perf_counter() < end_s:
            await asyncio.sleep(_TICK_S)
        took_s = time.perf_counter() - began_s
        return self._report(len(self._waits_s) / seconds, (time.process_time() - cpu_s) / took_s)

    def _ask(
        self, free: "deque[_Connection]", due_s: float, request: Callable[[str], bytes], *, is_counted: bool
    ) -> None:
        connection = free.popleft()
        if is_counted:
            self._late_s.append(time.perf_counter() - due_s)

        def answered(status: int, body: bytes) -> None:
            free.append(connection)
            if status != 200 or b'"recommendations":null' in body:
                self._n_failed += 1
            elif is_counted:
                self._waits_s.append(time.perf_counter() - due_s)

        connection.ask(request(f"user-{self._draw.randrange(self._n_users)}"), answered)

    async def streams(self, seconds: float) -> HttpReport:
        """Open a stream for each of the first users, and read events; those of the first list do not count."""
        opened = [asyncio.Event() for _ in range(self._n_connections)]
        tasks: list[asyncio.Task[None]] = []
        for number in range(self._n_connections):
            tasks.append(asyncio.create_task(self._follow(f"user-{number}", opened[number])))
            if number % _CONNECT_AT_ONCE == 0:
                await asyncio.sleep(0.1)
        await asyncio.gather(*(event.wait() for event in opened))
        self._waits_s.clear()
        print("open", flush=True)
        cpu_s = time.process_time()
        await asyncio.sleep(seconds)
        cores = (time.process_time() - cpu_s) / seconds
        for task in tasks:
            task.cancel()
        return self._report(len(self._waits_s) / seconds, cores)

    async def _follow(self, user_id: str, opened: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"GET /v1/users/%b/events HTTP/1.1\r\nHost: feed\r\n\r\n" % user_id.encode())
        while line := await reader.readline():
            if line.startswith(b"data: "):
                clicked_at = line.find(b'"clicked_at_ms":')
                clicked_ms = int(line[clicked_at + 16 :].split(b",", 1)[0])
                self._waits_s.append(time.time() - clicked_ms / 1000)
                opened.set()
        self._n_failed += 1
        opened.set()

    def _report(self, per_s: float, cores: float) -> HttpReport:
        waits, late = sorted(self._waits_s) or [0.0], sorted(self._late_s) or [0.0]
        p50, p99 = (1_000 * quantile(waits, share) for share in (0.5, 0.99))
        return HttpReport(
            len(self._waits_s), self._n_failed, per_s, p50, p99, 1_000 * waits[-1], cores, 1_000 * quantile(late, 0.99)
        )


def _read(user_id: str) -> bytes:
    return b"GET /v1/users/%b/recommendations HTTP/1.1\r\nHost: feed\r\n\r\n" % user_id.encode()


def _click(user_id: str) -> bytes:
    body = b'{"user_id":"%b","item_id":"item-1"}' % user_id.encode()
    return (
        b"POST /v1/clicks?wait=5s HTTP/1.1\r\nHost: feed\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


def main() -> None:
    """Run the process of a load."""
    kind, port, n_connections, per_s, seconds, n_users = sys.argv[1], *map(float, sys.argv[2:])
    load = _Load(int(port), int(n_connections), int(n_users))
    kinds: Mapping[str, Callable[[], Awaitable[HttpReport]]] = {
        "reads": lambda: load.at_rate(per_s, seconds, _read),
        "clicks": lambda: load.at_rate(per_s, seconds, _click),
        "streams": lambda: load.streams(seconds),
    }

    async def run() -> HttpReport:
        return await kinds[kind]()

    print(msgspec.json.encode(uvloop.run(run())).decode(), flush=True)


if __name__ == "__main__":
    main()
