"""The trainer as a process: its signals, the lock of its click log, and an end that nothing can hold up."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event

from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.app_registry import AppRegistry
from tools.endings import leave_at_once, stop_on_signals
from tools.http_endpoint import start_http
from tools.process_metrics import ProcessMetrics
from training.service.log_owner import lock_of
from training.service.metrics import TrainerMetrics
from training.service.trainer import Trainer


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
    stop_on_signals(stop, "the trainer hangs and cannot end: cut off. Clicks that were not written are read again")
    with lock_of(settings.log_dir, settings.app, stop, _shown_as_waiting(settings)) as held:
        if not held and once:
            raise TemporaryError("stopped while another trainer wrote the click log")
        if held:
            trainer = Trainer(settings, stop, skip_lost=skip_lost, given_up=given_up)
            try:
                trainer.run(once=once)
            finally:
                if not trainer.close():
                    leave_at_once(sys.exception(), "a training, or leaving the group, takes too long: cut off")


@contextmanager
def _shown_as_waiting(settings: Settings) -> Iterator[None]:
    """Answer probes and scrapes: a trainer that stands by is not down.

    Not where the port is that of the trainer that is waited for, on the same machine: it is free when the log is.
    """
    registry = AppRegistry(settings.app)
    TrainerMetrics(registry)

    def ready() -> tuple[bool, str]:
        return False, "waiting for the trainer that writes the click log to end"

    folders = {"log_dir": settings.log_dir, "bundle_dir": settings.bundle_dir}
    ProcessMetrics(registry).follow(ready, lambda: True, folders)
    http = None
    with suppress(PermanentError):
        http = start_http(settings.trainer_port, registry, lambda: (True, ready()[1]), ready)
    try:
        yield
    finally:
        if http is not None:
            http.close()
