"""Logs: readable lines on a terminal, one JSON object a line elsewhere.

Fields such as partition, offset and bundle are given as `extra={"fields": {...}}` and appear in both forms. A user's
id or history is never a field.
"""

import logging
import sys
from typing import IO

import msgspec

_LEVELS = {"CRITICAL": "fatal", "ERROR": "error", "WARNING": "warn", "INFO": "info", "DEBUG": "debug"}


def set_up_logs(program: str, *, verbose: bool = False, stream: IO[str] | None = None) -> None:
    """Send all logs of this process to a stream.

    Args:
        program: names the process in every line (`worker`, `trainer`, ...).
        verbose: also the debug lines of this project and the informational ones of the libraries.
        stream: where to; standard error if not given.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Readable(program) if stream.isatty() else _JsonLines(program))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # The libraries tell their life at INFO; what matters of it is said by our own lines.
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    for name in ("nextclick", "tools", "stream", "training", "rekey", "feed", "demo"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)


class _Readable(logging.Formatter):
    def __init__(self, program: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {program}: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        fields = getattr(record, "fields", None)
        return text + "".join(f" {name}={value}" for name, value in fields.items()) if fields else text


class _JsonLines(logging.Formatter):
    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": _LEVELS.get(record.levelname, record.levelname),
            "program": self._program,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
