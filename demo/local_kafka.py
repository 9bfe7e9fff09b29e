"""A local Apache Kafka: one process that is broker and controller, bound to 127.0.0.1, its data in one folder.

The process ends with its parent, however the parent ends.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.class_archives import with_class_archives
from demo.kafka_process import HOST, KafkaProcess, free_port, is_free
from demo.kafka_runtime import find_distribution
from demo.temporary_folder import remove_folder, temporary_name
from nextclick.errors import PermanentError

_STOP_PATIENCE_S = 15.0  # killed in the middle of a stop, a broker takes long to start again
_PORT_ATTEMPTS = 3
_PORT_TAKEN = "Address already in use"  # what Kafka's log says then


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
            remove_folder(self._temporary)
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
            self._temporary = temporary_name("nextclick-kafka-")
            self._temporary.mkdir(mode=0o700)
        folder = self._data_dir or self._temporary
        assert folder is not None
        self._process = KafkaProcess(distribution, folder, port, free_port(but=port), self._config)
        self._process.wait_until_it_answers()
        self._port = port
