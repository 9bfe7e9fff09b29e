"""The served forms of bundles, in files that all workers and feeds of a machine map: they have them in memory once.

The first process that needs a form prepares it; the others wait for it, and so does one that starts again. A file
appears whole, by its last name, and is never changed: one that is cut while it is mapped would end its readers. Each
reader holds a shared lock on its file for as long as it maps it, and what nobody holds is removed when the next form is
prepared. A folder that cannot be written, a full disk, or a file that is damaged cost memory or time, not the bundle.

Who can write a form decides what is served: so folder and files must belong to this process's user or to root, and
nobody else may write them.
"""

import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

from nextclick.array_file import DamagedFile, map_arrays, write_arrays
from nextclick.served_form import LAYOUT, ServedForm, arrays_of, form_of
from tools.files import HIDDEN_PREFIX, make_folder, sync, whole_file
from tools.turns import locked, turn

_log = logging.getLogger(__name__)

SUFFIX = ".form"
_LOCK_FILE = "lock"
WAIT_S = 120.0  # for another worker: twice as long as a bundle of 4 million items takes
_WRITTEN_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class SharedForms:
    """The forms below one folder, which belongs on a disk of the machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def form_of(self, bundle_id: str, prepare: Callable[[], ServedForm]) -> ServedForm:
        """Give the form of a bundle, mapped if that can be; blocks for as long as it takes to prepare it.

        Args:
            bundle_id: names one content for ever.
            prepare: makes the form, when there is none yet.

        Raises:
            BundleError: from `prepare`.
        """
        path = self._folder / f"{bundle_id}-{LAYOUT}{SUFFIX}"
        prepared = None
        try:
            self._make_folder()
            with turn(self._folder / _LOCK_FILE, WAIT_S) as is_alone:
                form = _mapped(path)
                if form is None:
                    prepared = prepare()
                    if is_alone:
                        self._remove_unused()
                    with whole_file(path) as file:
                        os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & ~_WRITTEN_BY_OTHERS)
                        write_arrays(file, path.stem, arrays_of(prepared))
                    form = _mapped(path)
                if form is not None:
                    prepared = None
                    _give_back_memory()
                    return form
        except OSError as error:
            _log.warning(
                "served_dir %s cannot be used (%s): this process has the bundle in memory of its own",
                self._folder,
                error.strerror or error,
            )
        return prepared if prepared is not None else prepare()

    def _make_folder(self) -> None:
        """Make the folder, if there is none.

        Raises:
            OSError: it cannot be made, or somebody else can write there.
        """
        if not self._folder.is_dir():
            make_folder(self._folder.parent)
            self._folder.mkdir(mode=0o777 & ~_WRITTEN_BY_OTHERS, exist_ok=True)
            sync(self._folder.parent)
        _check_owner(self._folder, self._folder.stat())

    def _remove_unused(self) -> None:
        """Remove the forms that nobody maps, and what was left half written by a process that was killed."""
        for path in self._folder.glob(f"{HIDDEN_PREFIX}*{SUFFIX}.*"):
            path.unlink(missing_ok=True)
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError, _NotOurs), _open_plain(path) as file:
                if locked(file.fileno(), fcntl.LOCK_EX):
                    path.unlink()


class _NotOurs(OSError):
    """What no worker of this user has written, or somebody else may have changed since."""


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _WRITTEN_BY_OTHERS:
        raise _NotOurs(
            f"{path} is of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}, so that somebody else can "
            f"write it; give it to user {os.geteuid()}, and `chmod go-w` it"
        )


@contextlib.contextmanager
def _open_plain(path: Path) -> Iterator[BufferedReader]:
    """Open a form for reading.

    Raises:
        FileNotFoundError: there is none.
        _NotOurs: it is no plain file.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK  # a link is not followed, a pipe not waited for
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags)))
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise _NotOurs(f"{path} is no plain file; remove it") from error
            raise
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _NotOurs(f"{path} is no plain file; remove it")
        yield file


def _mapped(path: Path) -> ServedForm | None:
    """Map a form; None if there is none that can be used.

    Raises:
        OSError: it cannot be read, or somebody else can write it.
    """
    try:
        with _open_plain(path) as file:  # the mapping keeps the lock when the file is closed
            _check_owner(path, os.fstat(file.fileno()))
            return form_of(map_arrays(file, path.stem)) if locked(file.fileno(), fcntl.LOCK_SH) else None
    except FileNotFoundError:
        return None
    except (DamagedFile, KeyError) as error:
        _log.warning("%s is damaged and is made again: %s", path, error)
        return None


def _give_back_memory() -> None:
    """Let the system have what many small objects took while a form was prepared: glibc keeps it otherwise."""
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
