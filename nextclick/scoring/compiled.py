"""How functions of scoring are compiled: at first use, and kept on disk for the next start.

Machine code is kept in a folder that is named by what it was made from, all files of this package: numba would notice
a change of the function's own file only.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
_DIGEST = hashlib.blake2b(b"".join(path.read_bytes() for path in _SOURCES), digest_size=8).hexdigest()
with suppress(RuntimeError):  # a user without a home
    _CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Read by the import below.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHE / "nextclick" / "compiled" / _DIGEST))

from numba import njit  # noqa: E402


def jit(function: Any) -> Any:
    """Compile a function that holds no lock of the interpreter while it runs; numba publishes no types."""
    return _compiled(function, fastmath=False)


def jit_sums(function: Any) -> Any:
    """Compile a function whose sums may be added up in any order, and so many numbers at a time."""
    return _compiled(function, fastmath={"reassoc", "contract", "nsz"})


def _compiled(function: Any, fastmath: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that can be written: it is compiled at every start
        return njit(**options)(function)
