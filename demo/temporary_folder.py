"""A folder for what goes at the end, whatever happens: its name is known before it is there."""

import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

_PATIENCE_S = 5.0  # for processes that the kernel is ending, and that write until then
_POLL_S = 0.05


def temporary_name(prefix: str) -> Path:
    """Give the path of a folder that does not exist; `mkdtemp` makes one before anybody can know its name."""
    return Path(tempfile.gettempdir(), f"{prefix}{secrets.token_hex(8)}")


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there, and end the children of this process that use it.

    They have been stopped before, all but one whose start was cut off by an interrupt, so that nobody has its handle.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it ends just now
            if _uses(child, folder):
                child.kill()
                child.wait(_PATIENCE_S)
    end_s = time.monotonic() + _PATIENCE_S
    while folder.exists() and time.monotonic() < end_s:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(_POLL_S)


def _uses(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in word for word in (*process.cmdline(), *process.environ().values()))
