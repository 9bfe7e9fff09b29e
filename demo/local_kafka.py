"""A local Apache Kafka: one process that is broker and controller, bound to 127.0.0.1, its data in one folder.

The process ends with its parent, however the parent ends.

Kafka's classes are kept in the form in which Java maps them into memory, which halves the time that a broker takes to
start. Such an archive is made once per combination of runtime and jars, by watching a broker start. Java compares it
with the jars that it was made from, and with its own checksum, and goes on without it when something differs.
"""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.kafka_download import exclusive
from demo.kafka_process import HOST, KafkaProcess, free_port, is_free
from demo.kafka_runtime import Distribution, find_distribution
from nextclick.errors import NextclickError, PermanentError
from tools.files import move_whole

_log = logging.getLogger(__name__)

_STOP_PATIENCE_S = 15.0  # killed in the middle of a stop, a broker takes long to start again
_PORT_ATTEMPTS = 3
_PORT_TAKEN = "Address already in use"  # what Kafka's log says then
_ARCHIVE_DEADLINE_S = 60.0
_QUIET = "-Xlog:cds=off,cds+dynamic=off"  # a test sees that archives are used


def default_cache() -> Path:
    """Where downloaded jars are kept: a folder in the user's cache."""
    return Path.home() / ".cache" / "nextclick" / "kafka"


class LocalKafka:
    """A broker that is started, paused, stopped and started again; as a context manager, from start to stop.

    Start it in the main thread, or in one that lives as long as the broker shall: it ends with the thread that
    started it.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        data_dir: Path | None = None,
        config: Mapping[str, str] | None = None,
        kafka_home: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        """Choose where and how; nothing starts yet.

        Args:
            port: what clients connect to; 0 picks a free one at the first start.
            data_dir: is used, and kept; without it, a temporary folder that goes with the broker.
            config: Kafka's own settings; they win over those here.
            kafka_home: an unpacked distribution to run instead of the downloaded jars.
            cache: where downloaded jars are kept; in the user's cache if not given.
        """
        self._port = port
        self._data_dir = data_dir
        self._config = dict(config or {})
        self._kafka_home = kafka_home
        self._cache = cache or default_cache()
        self._temporary: Path | None = None
        self._process: KafkaProcess | None = None

    @property
    def bootstrap(self) -> str:
        """host:port; the port is known, and stays, from the first start on."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def exit_status(self) -> int | None:
        """How the broker ended (minus the signal's number if by one); None while it runs."""
        return self._started.exit_status

    @property
    def log_tail(self) -> str:
        """The last lines that Kafka printed."""
        return self._started.log_tail

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and return when it answers clients; a running one is left as it is.

        Raises:
            TemporaryError: it does not answer in time, or Kafka has to be downloaded and the network does not give it.
            PermanentError: the port is taken, a folder cannot be written, or Kafka ended; with the end of its log.
        """
        if self._process is not None and self._process.exit_status is None:
            return
        has_data = self._temporary is not None
        try:
            for attempts_left in reversed(range(_PORT_ATTEMPTS)):
                try:
                    return self._launch(self._port or free_port())
                except PermanentError as error:
                    # Somebody took a port between our look and Kafka's start.
                    if _PORT_TAKEN not in str(error) or not attempts_left:
                        raise
        except BaseException:
            self.stop(keep_data=has_data)
            raise

    def stop(self, *, keep_data: bool = False) -> None:
        """Stop the broker, by force if it does not listen, and remove its temporary folder.

        Args:
            keep_data: leave the folder, so that the next `start` goes on with the data, at the same port.
        """
        if self._process is not None:
            self._process.end(_STOP_PATIENCE_S)
        if self._temporary is not None and not keep_data:
            shutil.rmtree(self._temporary)
            self._temporary = None

    def restart(self) -> None:
        """Stop and start with the same data, at the same port."""
        self.stop(keep_data=True)
        self.start()

    def wait(self) -> int:
        """Return when the broker ends by itself, with how it ended (minus the signal's number if by one)."""
        return self._started.wait()

    def pause(self) -> None:
        """Let the broker hang: its connections stay open and nothing answers."""
        self._started.send_signal(signal.SIGSTOP)
        # On a busy machine its threads go on for a moment, and answer.
        os.waitid(os.P_PID, self._started.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused broker go on."""
        self._started.send_signal(signal.SIGCONT)

    @property
    def _started(self) -> KafkaProcess:
        if self._process is None:
            raise RuntimeError("there is no broker yet; call start() first")
        return self._process

    def _launch(self, port: int) -> None:
        if not is_free(port):
            raise PermanentError(
                f"the local Apache Kafka cannot use port {port} of {HOST}: something listens there already; "
                "choose another port, or stop it"
            )
        distribution = with_class_archives(find_distribution(self._cache, self._kafka_home), self._cache)
        if self._data_dir is None and self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="nextclick-kafka-"))
        folder = self._data_dir or self._temporary
        assert folder is not None
        self._process = KafkaProcess(distribution, folder, port, free_port(but=port), self._config)
        self._process.wait_until_it_answers()
        self._port = port


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
                    _make_archives(distribution, folder, archive)
    except (NextclickError, OSError, subprocess.SubprocessError) as error:
        _log.warning("Kafka will start without class archives: %s", error)
        return distribution
    return _plus(distribution, f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces", _QUIET)


def _make_archives(distribution: Distribution, folder: Path, archive: Path) -> None:
    _log.info("Preparing Apache Kafka to start faster from now on; this is done once and takes about 10 s")
    for outdated in folder.parent.glob("classes-*"):
        shutil.rmtree(outdated)
    folder.mkdir()
    # The runtime from pip comes without the archive of Java's own classes that Kafka's builds upon, and by its path.
    runtime = folder / "runtime.jsa"
    with_runtime = _plus(distribution, f"-XX:SharedArchiveFile={runtime}", _QUIET)
    subprocess.run(
        [distribution.java, *with_runtime.flags, "-Xshare:dump"],
        check=True,
        capture_output=True,
        timeout=_ARCHIVE_DEADLINE_S,
    )
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as staging:
        made = Path(staging, archive.name)
        flags = [f"-XX:ArchiveClassesAtExit={made}"]
        port = free_port()
        broker = KafkaProcess(with_runtime, Path(staging, "broker"), port, free_port(but=port), {}, flags)
        try:
            broker.wait_until_it_answers()
        finally:
            broker.end(_ARCHIVE_DEADLINE_S)
        # In one step, and last: who sees Kafka's archive sees a whole one, and the one that it builds upon.
        move_whole(made, archive)


def _plus(distribution: Distribution, *flags: str) -> Distribution:
    return distribution._replace(flags=(*distribution.flags, *flags))
