"""The jars of Apache Kafka: which ones, their checksums, and how they come into the user's cache.

The list with a sha256 for each jar is part of this package; a jar that does not match it is never handed out.
Jars appear in the cache whole or not at all, and two processes that find it empty do the work once.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from demo.download_progress import DownloadProgress
from nextclick.errors import PermanentError, TemporaryError
from tools.files import move_whole

_log = logging.getLogger(__name__)

LOCK_FILE = Path(__file__).with_name("kafka.lock.toml")
_CONNECTIONS = 6  # at once; more gain nothing, as three jars are half of the bytes
_REQUEST_TIMEOUT_S = 10
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
            f"expected to keep Apache Kafka in {folder}, found: {error.strerror}; make the folder writable"
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
            found: Path = repository.project(group, artifact).at_version(version).artifact().resolve()
            if not jar.matches(found):
                raise PermanentError(
                    f"{jar.file_name} expects sha256 {jar.sha256}, found another one in what the network gave; "
                    f"something on the way alters downloads: use another network, {_OTHER_BROKERS}"
                )
            move_whole(found, folder / jar.file_name)  # nobody ever sees half a jar

        try:
            for _ in pool.map(fetch, jars):
                pass
        except (OSError, RuntimeError) as error:
            pool.shutdown(cancel_futures=True)
            raise _fetch_error(error, folder) from error


def _fetch_error(error: Exception, folder: Path) -> PermanentError | TemporaryError:
    # What requests raises is an OSError too, but without a number of the operating system.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return PermanentError(
            f"expected to keep Apache Kafka in {folder}, found: {error.strerror}; make room or make it writable"
        )
    return TemporaryError(
        "Apache Kafka is downloaded once (45 MB) and expects a network, found none that gives it "
        f"({type(error).__name__}); connect and start again, {_OTHER_BROKERS}"
    )


def missing_extra(package: str) -> PermanentError:
    """Say that a package of the extra `local` is not installed."""
    return PermanentError(
        f"the local Apache Kafka expects the package {package}, found it not installed; "
        f"install `nextclick[local]`, {_OTHER_BROKERS}"
    )
