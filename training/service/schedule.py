"""When the last training began and how many clicks there were then, kept with the click log: it outlives a restart."""

import logging
import time
from pathlib import Path

import msgspec

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tools.files import write_whole
from training.service.decisions import Progress, training_is_due

NOTE = "last-training.json"
_log = logging.getLogger(__name__)


class LastTraining(msgspec.Struct, frozen=True):
    """The training that began last.

    Attributes:
        began_ms: when, in ms since 1970; 0 if there was none.
        n_clicks: that the log had then, as far as it still has them.
    """

    began_ms: int = 0
    n_clicks: int = 0


class Schedule:
    """Says when to train. One process at a time may use that of a click log."""

    def __init__(self, log_dir: Path, settings: Settings) -> None:
        """Read the note of the last training; without one, or with one that is damaged, there was none.

        Args:
            log_dir: the click log's folder, where the note is.
            settings: of the trainer.
        """
        self._note = log_dir / NOTE
        self._settings = settings
        self._last = self._before = last = self._read()
        # From here on by the clock that nobody sets. What began in the future began just now.
        age_s = time.time() - last.began_ms / 1000
        self._began_s = time.monotonic() - max(0.0, age_s)

    def log_has(self, n_clicks: int) -> None:
        """So many clicks are in the log that was opened. One that was restored can have fewer than the note says."""
        self._last = LastTraining(self._last.began_ms, min(self._last.n_clicks, n_clicks))
        self._before = LastTraining(self._before.began_ms, min(self._before.n_clicks, n_clicks))

    def is_due(self, n_clicks: int) -> bool:
        """Tell whether to train now, with so many clicks."""
        progress = Progress(n_clicks, self._last.n_clicks, time.monotonic() - self._began_s)
        return training_is_due(progress, self._settings)

    def begin(self, n_clicks: int) -> None:
        """Note that a training begins, before it does: one that takes the machine down is not repeated at once.

        Raises:
            PermanentError: the note cannot be written.
        """
        self._before = self._last
        self._began_s = time.monotonic()
        self._write(LastTraining(time.time_ns() // 1_000_000, n_clicks))

    def take_back(self) -> None:
        """The training that began last was stopped halfway: it is as if it had never begun.

        Raises:
            PermanentError: the note cannot be written.
        """
        self._write(self._before)

    def removed(self, n_clicks: int) -> None:
        """The log removed so many of its oldest clicks.

        Raises:
            PermanentError: the note cannot be written.
        """
        self._before = _without(self._before, n_clicks)
        self._write(_without(self._last, n_clicks))

    def _read(self) -> LastTraining:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=LastTraining)
        except FileNotFoundError:
            return LastTraining()
        except (OSError, msgspec.DecodeError) as error:
            _log.warning(
                "%s cannot be read, so the next training is made as if there had been none: %s", self._note, error
            )
            return LastTraining()

    def _write(self, last: LastTraining) -> None:
        self._last = last
        try:
            write_whole(self._note, msgspec.json.encode(last))
        except OSError as error:
            raise PermanentError(
                f"{self._note} cannot be written: {error.strerror or error}; make room or correct the permissions. No "
                "click is lost: the next start goes on where the log ends"
            ) from error


def _without(last: LastTraining, n_clicks: int) -> LastTraining:
    return LastTraining(last.began_ms, max(0, last.n_clicks - n_clicks))
