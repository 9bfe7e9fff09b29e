"""Kafka's classes in the form in which Java maps them into memory, which halves the time that a broker takes to start.

Made once per combination of runtime and jars, by watching a broker start. Java compares an archive with the jars
that it was made from, and with its own checksum, and goes on without it when something differs.
"""

import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

from demo.kafka_distribution import Distribution
from demo.kafka_jars import exclusive
from demo.kafka_process import KafkaProcess
from demo.ports import free_port
from nextclick.errors import NextclickError
from tools.files import move_whole

_log = logging.getLogger(__name__)

_DEADLINE_S = 60.0
_QUIET = "-Xlog:cds=off,cds+dynamic=off"  # a test sees that archives are used


def with_class_archives(distribution: Distribution, cache: Path) -> Distribution:
    """Give the distribution with flags that use its archives; make them when they are not there.

    A broker without them is only slower to start, so a failure to make them is logged and nothing else.
    """
    if distribution.fingerprint is None:
        return distribution
    folder = cache / f"classes-{distribution.fingerprint}"
    archive = folder / "kafka.jsa"
    try:
        if not archive.exists():
            with exclusive(cache):
                if not archive.exists():
                    _make(distribution, folder, archive)
    except (NextclickError, OSError, subprocess.SubprocessError) as error:
        _log.warning("Kafka will start without class archives: %s", error)
        return distribution
    return _plus(distribution, f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces", _QUIET)


def _make(distribution: Distribution, folder: Path, archive: Path) -> None:
    _log.info("Preparing Apache Kafka to start faster from now on; this is done once and takes about 10 s")
    for outdated in folder.parent.glob("classes-*"):
        shutil.rmtree(outdated)
    folder.mkdir()
    # The runtime from pip comes without the archive of Java's own classes that Kafka's builds upon, and by its path.
    runtime = folder / "runtime.jsa"
    with_runtime = _plus(distribution, f"-XX:SharedArchiveFile={runtime}", _QUIET)
    subprocess.run(
        [distribution.java, *with_runtime.flags, "-Xshare:dump"], check=True, capture_output=True, timeout=_DEADLINE_S
    )
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as staging:
        made = Path(staging, archive.name)
        flags = [f"-XX:ArchiveClassesAtExit={made}"]
        broker = KafkaProcess(with_runtime, Path(staging, "broker"), free_port(), free_port(), {}, flags)
        try:
            broker.wait_until_it_answers()
        finally:
            broker.end(_DEADLINE_S)
        # In one step, and last: who sees Kafka's archive sees a whole one, and the one that it builds upon.
        move_whole(made, archive)


def _plus(distribution: Distribution, *flags: str) -> Distribution:
    return distribution._replace(flags=(*distribution.flags, *flags))
