"""How functions of scoring are compiled: at first use, and kept on disk for the next start.

Machine code is kept in a folder that is named by what it was made from, all files of this package: numba would notice
a change of the function's own file only. Where it cannot be kept, or what is kept is damaged, functions are compiled:
a disk decides how long a start takes, not whether there is one.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt
from numba import njit
from numba.core import config

_SOURCES = sorted(Path(__file__).parent.glob("*.py"))


def _folder() -> Path | None:
    """Give the folder for machine code; None where there is none that can be written."""
    digest = hashlib.blake2b(b"".join(path.read_bytes() for path in _SOURCES), digest_size=8).hexdigest()
    try:
        if config.CACHE_DIR:  # NUMBA_CACHE_DIR
            folder = Path(config.CACHE_DIR) / digest
        else:
            folder = (
                Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextclick" / "compiled" / digest
            )
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # nothing can be written there; a user without a home
        return None
    return folder if os.access(folder, os.W_OK) else None


_FOLDER = _folder()
if _FOLDER is not None:
    config.CACHE_DIR = str(_FOLDER)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give the array as one that nobody writes to.

    For compiled code that is another type: all that a bundle's form is made of has it, so that what is made of it later
    must have it, too. Else all would be compiled once more, for seconds, while clicks wait.
    """
    view = array.view()
    view.flags.writeable = False
    return view


def jit(function: Any) -> Any:
    """Compile a function that holds no lock of the interpreter while it runs; numba publishes no types."""
    return _compiled(function, fastmath=False)


def jit_inner(function: Any) -> Any:
    """Compile a function that only compiled ones call, in half of the time: a call from Python would be a crash."""
    return _compiled(function, fastmath=False, no_cpython_wrapper=True)


def jit_fused(function: Any) -> Any:
    """Compile an inner function that may multiply and add in one instruction, but keeps the order of every sum."""
    return _compiled(function, fastmath={"contract"}, no_cpython_wrapper=True)


def jit_sums(function: Any) -> Any:
    """Compile a function whose sums may be added up in any order, and so many numbers at a time."""
    return _compiled(function, fastmath={"reassoc", "contract", "nsz"})


def _compiled(function: Any, **options: Any) -> Any:
    compiled = njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)
    if _FOLDER is not None:
        compiled.enable_caching()
        compiled._cache = _ForgivingCache(compiled._cache)
    return compiled


class _ForgivingCache:
    """numba's cache of a function, but for what it raises: a damaged file, or a disk that is full."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # of whatever was in the file: it is unpickled
            with suppress(Exception):
                self._cache.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        with suppress(Exception):
            self._cache.save_overload(*arguments)
