"""Kafka's classes in the form in which Java maps them into memory, which halves the time that a broker takes to start.

Such an archive is made once per checkout, Java runtime and jars, by watching a broker start. Java compares it with what
it was made from, and with its own checksum, and goes on without it when something differs. Checkouts share the jars and
each has an archive of its own, side by side: it fits one runtime only, and that is the one in a checkout's `.venv`.
"""

import hashlib
import logging
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from demo.kafka_download import exclusive
from demo.kafka_process import KafkaProcess, free_port
from demo.kafka_runtime import Distribution
from nextclick.errors import NextclickError
from tools.files import move_whole

_log = logging.getLogger(__name__)

_DEADLINE_S = 60.0
_QUIET = "-Xlog:cds=off,cds+dynamic=off"  # a test sees that archives are used
_FORGOTTEN_S = 30 * 86_400  # an archive that does not say whose it is: of a version that did not write it yet
_OWNER = "checkout.txt"  # the paths that an archive is for, a line each: without one of them it is of no use


def with_class_archives(distribution: Distribution, cache: Path) -> Distribution:
    """Give the distribution with flags that use its archives; make them when they are not there.

    A broker without them is only slower to start, so a failure to make them is logged and nothing else.
    """
    if distribution.fingerprint is None:
        return distribution
    folder = cache / f"classes-{_owner_digest(distribution)}-{distribution.fingerprint}"
    archive = folder / "kafka.jsa"
    try:
        if not archive.exists():
            with exclusive(cache):
                if not archive.exists():
                    _remove_outdated(distribution, cache)
                    _make_archives(distribution, folder, archive)
    except (NextclickError, OSError, subprocess.SubprocessError) as error:
        _log.warning("Kafka will start without class archives: %s", error)
        return distribution
    return _plus(distribution, f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces", _QUIET)


def _owner(distribution: Distribution) -> list[str]:
    return [str(Path(__file__).resolve().parent), str(distribution.java.resolve())]


def _owner_digest(distribution: Distribution) -> str:
    return hashlib.sha256("\n".join(_owner(distribution)).encode()).hexdigest()[:8]


def _remove_outdated(distribution: Distribution, cache: Path) -> None:
    """Remove what this checkout has made before, the archives of checkouts that are gone, and old ones of nobody."""
    for folder in cache.glob("classes-*"):
        if not (folder / _OWNER).exists() and folder.stat().st_mtime < time.time() - _FORGOTTEN_S:
            shutil.rmtree(folder)
    for owner in cache.glob(f"classes-*/{_OWNER}"):
        paths = owner.read_text().splitlines()
        if paths == _owner(distribution) or not all(Path(path).exists() for path in paths):
            shutil.rmtree(owner.parent)


def _make_archives(distribution: Distribution, folder: Path, archive: Path) -> None:
    _log.info("Preparing Apache Kafka to start faster from now on; this is done once and takes about 10 s")
    shutil.rmtree(folder, ignore_errors=True)  # one that was cut off
    folder.mkdir()
    (folder / _OWNER).write_text("\n".join(_owner(distribution)))
    # The runtime from pip comes without the archive of Java's own classes that Kafka's builds upon, and by its path.
    runtime = folder / "runtime.jsa"
    with_runtime = _plus(distribution, f"-XX:SharedArchiveFile={runtime}", _QUIET)
    subprocess.run(
        [distribution.java, *with_runtime.flags, "-Xshare:dump"],
        check=True,
        capture_output=True,
        timeout=_DEADLINE_S,
    )
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as staging:
        made = Path(staging, archive.name)
        flags = [f"-XX:ArchiveClassesAtExit={made}"]
        port = free_port()
        broker = KafkaProcess(with_runtime, Path(staging, "broker"), port, free_port(but=port), {}, flags)
        try:
            broker.wait_until_it_answers()
        finally:
            broker.end(_DEADLINE_S)
        # In one step, and last: who sees Kafka's archive sees a whole one, and the one that it builds upon.
        move_whole(made, archive)


def _plus(distribution: Distribution, *flags: str) -> Distribution:
    return distribution._replace(flags=(*distribution.flags, *flags))
