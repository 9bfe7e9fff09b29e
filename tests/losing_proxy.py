"""A network between clients and a broker that can lose a request without a word."""

import socket
import time
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Self

_FIND_COORDINATOR = (10).to_bytes(2, "big")


class LosingProxy:
    """Forwards connections; a context manager, from start to stop.

    Attributes:
        port: where it listens.
        loses: the group of which all questions who coordinates it are lost; empty: of none.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.loses = ""
        self._target = 0
        self._open: set[socket.socket] = set()
        self._lock = Lock()

    def forward_to(self, port: int) -> None:
        """Start to forward."""
        self._target = port
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut all connections; the clients make new ones."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._open:
            self.cut()
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # it has not started yet
                client.close()
                continue
            Thread(target=self._connect, args=(client, broker), daemon=True).start()

    def _connect(self, client: socket.socket, broker: socket.socket) -> None:
        with client, broker:
            with self._lock:
                self._open |= {client, broker}
            back = Thread(target=self._forward, args=(broker, client, False), daemon=True)
            back.start()
            self._forward(client, broker, True)
            back.join()
            with self._lock:
                self._open -= {client, broker}

    def _forward(self, source: socket.socket, target: socket.socket, has_questions: bool) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            while len(size := stream.read(4)) == 4:
                frame = stream.read(int.from_bytes(size, "big"))
                if not (has_questions and self._is_lost(frame)):
                    target.sendall(size + frame)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _is_lost(self, request: bytes) -> bool:
        group = self.loses.encode()  # a string follows its length
        return bool(group) and request[:2] == _FIND_COORDINATOR and len(group).to_bytes(2, "big") + group in request
