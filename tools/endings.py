"""How a program ends that reads a topic: on a signal, in time, and with a status that says how it was."""

import logging
import os
import signal
import sys
import time
from threading import Event, Thread
from typing import NoReturn

from nextclick.errors import NextclickError

_LAST_RESORT_S = 8.0  # after a signal, whatever hangs; `docker stop` kills after 10 s
_log = logging.getLogger(__name__)


def stop_on_signals(stop: Event, last_words: str) -> None:
    """Let SIGTERM and SIGINT end the program, also where the loop that should answer hangs. Only for the main thread.

    Args:
        stop: is set by a signal.
        last_words: logged when the program has not ended by itself some seconds later, and is cut off with status 1.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def leave_in_time() -> None:
        os.read(reading, 1)
        time.sleep(_LAST_RESORT_S)
        _log.error(last_words)
        logging.shutdown()
        os._exit(1)

    Thread(target=leave_in_time, name="last-resort", daemon=True).start()


def leave_at_once(error: BaseException | None, why: str) -> NoReturn:
    """End the process though a thread of it hangs, where a kill does no harm; the status is the usual one.

    Args:
        error: that ends the program, if any.
        why: what hangs, for the log.
    """
    _log.warning(why)
    if isinstance(error, NextclickError):
        print(f"nextclick: {error}", file=sys.stderr)
    elif error is not None:
        _log.error("the program failed", exc_info=error)
    logging.shutdown()
    os._exit(0 if error is None else 1)
