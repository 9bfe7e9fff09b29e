"""The trainer as a process: its signals, the lock of its click log, and an end that nothing can hold up."""

import logging
import os
import signal
import sys
import time
from threading import Event, Thread

from nextclick.errors import NextclickError, TemporaryError
from nextclick.settings import Settings
from training.service.log_owner import lock_of
from training.service.trainer import Trainer

_LAST_RESORT_S = 8.0  # after a signal, whatever hangs; `docker stop` kills after 10 s
_log = logging.getLogger(__name__)


def run_trainer(settings: Settings, *, once: bool, skip_lost: bool, given_up: str) -> None:
    """Log clicks and train until SIGTERM or SIGINT. Only for the main thread.

    Args:
        settings: of the trainer.
        once: read the topic to its present end, train once if there are enough clicks, and return.
        skip_lost: go on past clicks that the topic's retention removed before they were logged.
        given_up: id of a champion that is replaced as if there were none; or empty.

    Raises:
        NextclickError: it cannot start, or had to stop; and with `once` also that the training failed or was stopped.
            Every click that was read is in the log or is read again.
    """
    stop = Event()
    _stop_on_signals(stop)
    with lock_of(settings.log_dir, settings.app, stop) as held:
        if not held and once:
            raise TemporaryError("stopped while another trainer wrote the click log")
        if held:
            trainer = Trainer(settings, stop, skip_lost=skip_lost, given_up=given_up)
            try:
                trainer.run(once=once)
            finally:
                if not trainer.close():
                    _leave_at_once(sys.exception())


def _stop_on_signals(stop: Event) -> None:
    """Let SIGTERM and SIGINT end the trainer, also where the loop that should answer hangs in a write."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def leave_in_time() -> None:
        os.read(reading, 1)
        time.sleep(_LAST_RESORT_S)
        _log.error("the trainer hangs and cannot end: cut off. Clicks that were not written are read again")
        logging.shutdown()
        os._exit(1)

    Thread(target=leave_in_time, name="last-resort", daemon=True).start()


def _leave_at_once(error: BaseException | None) -> None:
    """End the process though a thread of it hangs. A kill at any moment does no harm; the status is the usual one."""
    _log.warning("a training, or leaving the group, takes too long: cut off")
    if isinstance(error, NextclickError):
        print(f"nextclick: {error}", file=sys.stderr)
    elif error is not None:
        _log.error("the trainer failed", exc_info=error)
    logging.shutdown()
    os._exit(0 if error is None else 1)
