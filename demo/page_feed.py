"""The feed of the demo, which serves the page too: where it listens, and how it gets the demo's figures."""

import http.client
import secrets
import threading
from typing import NamedTuple

import msgspec

from demo.kafka_process import free_port, is_free
from demo.page_figures import PageFigures

FIGURES_PATH = "/demo/figures"
SECRET_HEADER = "X-Demo-Secret"
SECRET_VARIABLE = "DEMO_PAGE_SECRET"
PROGRAM = "from demo.page_server import main; main()"
_ANSWER_S = 2.0  # of a server on this machine


class PageAddress(NamedTuple):
    """Where the page's server listens, and what tells it that figures are the demo's."""

    port: int
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


def choose_address(wanted_port: int) -> PageAddress:
    """Give the wanted port, or any where it is taken or 0."""
    port = wanted_port if wanted_port and is_free(wanted_port) else free_port()
    return PageAddress(port, secrets.token_hex(16))


class FiguresSender:
    """Hands the newest figures to the page's server, in a thread of its own: nobody waits for it.

    Attributes:
        has_answered: whether the server has taken figures yet, so that the page is there.
    """

    def __init__(self, address: PageAddress) -> None:
        self.has_answered = False
        self._address = address
        self._newest = b""
        self._changed = threading.Condition()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)
        self._thread.start()

    def send(self, figures: PageFigures) -> None:
        """Hand figures over; those that have not been sent yet are dropped."""
        with self._changed:
            self._newest = msgspec.json.encode(figures)
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (body := self._next()) is not None:
            connection = http.client.HTTPConnection("127.0.0.1", self._address.port, timeout=_ANSWER_S)
            try:
                headers = {SECRET_HEADER: self._address.secret, "Content-Type": "application/json"}
                connection.request("POST", FIGURES_PATH, body, headers)
                if connection.getresponse().status == 204:
                    self.has_answered = True
            except (OSError, http.client.HTTPException):
                pass  # it is starting, or being started again: the next figures come in a second
            finally:
                connection.close()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._is_ending)
            body, self._newest = self._newest, b""
            return None if self._is_ending else body
