"""One run of a broker process, from the format of its folder to its end, and free ports for one."""

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from demo.kafka_runtime import Distribution
from nextclick.errors import PermanentError, TemporaryError
from tools.processes import dying_with_parent

HOST = "127.0.0.1"
# Below the range that Linux gives to outgoing connections: nothing takes a stopped broker's port before it is back.
_PORTS = range(20_000, 32_000)
_START_DEADLINE_S = 60.0
_POLL_S = 0.02
_ANSWER_TIMEOUT_S = 2.0
_TAIL_LINES = 12
_CLUSTER_ID = "bmV4dGNsaWNrLWxvY2FsIQ"  # any 16 bytes in base64; these say nextclick-local!
_SERVER_CONFIG = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # Kafka's defaults for its own topics are made for three brokers and many groups.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
}


class KafkaProcess:
    """A running broker.

    The thread that makes it must live as long as the broker shall: the kernel kills the broker with that thread.
    """

    def __init__(
        self,
        distribution: Distribution,
        folder: Path,
        port: int,
        controller_port: int,
        config: Mapping[str, str],
        broker_flags: Sequence[str] = (),
    ) -> None:
        """Start the broker; `wait_until_it_answers` says when it can be used.

        Args:
            distribution: what to run.
            folder: has or gets its data, settings and log.
            port: what clients connect to.
            controller_port: what the broker itself connects to.
            config: Kafka's own settings; they win over those here.
            broker_flags: more flags for the broker's JVM, which the format before it does not get.

        Raises:
            PermanentError: the folder cannot be written, or Kafka does not accept it.
        """
        self._bootstrap = f"{HOST}:{port}"
        self._log_file = folder / "kafka.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            settings = folder / "server.properties"
            _write_settings(settings, folder / "data", port, controller_port, config)
            self._log_file.write_bytes(b"")
            # What Java unpacks for itself goes with the folder, also when the broker is killed.
            shutil.rmtree(temporary := folder / "tmp", ignore_errors=True)
            temporary.mkdir()
        except OSError as error:
            raise PermanentError(
                f"the local Apache Kafka cannot write to {folder}: {error.strerror}; "
                "make room or make it writable, or choose another folder"
            ) from error
        own_flags = [f"-Djava.io.tmpdir={temporary}"]
        if not (folder / "data" / "meta.properties").exists():
            self._format(distribution, settings, own_flags)
        self._process = self._run(distribution.command("kafka.Kafka", [str(settings)], [*own_flags, *broker_flags]))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended (minus the signal's number if by one); None while it runs."""
        return self._process.poll()

    @property
    def log_tail(self) -> str:
        """The last lines that Kafka printed, without Java's stack frames."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith("\tat ")][-_TAIL_LINES:])

    def wait_until_it_answers(self) -> None:
        """Return when a client gets an answer.

        Raises:
            PermanentError: the broker ended.
            TemporaryError: no answer before the deadline.
        """
        deadline_s = time.monotonic() + _START_DEADLINE_S
        while not self._answers():
            if self.exit_status is not None:
                raise PermanentError(
                    f"the local Apache Kafka ended with status {self.exit_status}; the end of its log:\n{self.log_tail}"
                )
            if time.monotonic() > deadline_s:
                raise TemporaryError(
                    f"the local Apache Kafka did not answer at {self._bootstrap} within {_START_DEADLINE_S:.0f} s; "
                    f"try again on a less busy machine; the end of its log:\n{self.log_tail}"
                )
            time.sleep(_POLL_S)

    def wait(self) -> int:
        """Return when the broker ends, with its status."""
        return self._process.wait()

    def end(self, patience_s: float) -> None:
        """Ask the broker to stop, and kill it when it has not after that time."""
        if self.exit_status is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)  # a paused one could not hear
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def _format(self, distribution: Distribution, settings: Path, flags: Sequence[str]) -> None:
        arguments = ["format", "--standalone", "--cluster-id", _CLUSTER_ID, "--config", str(settings)]
        process = self._run(distribution.command("kafka.tools.StorageTool", arguments, flags))
        try:
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        if status != 0:
            raise PermanentError(
                f"the local Apache Kafka could not prepare {settings.parent} and ended with status {status}; "
                f"the end of its log:\n{self.log_tail}"
            )

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log_file.open("ab") as log:
            # A session of its own: Ctrl-C is for the clients first, and whoever started the broker stops it.
            return subprocess.Popen(
                dying_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        host, _, port = self._bootstrap.partition(":")
        try:
            # Before the port is open, a Kafka client would only log that it is not.
            socket.create_connection((host, int(port)), _ANSWER_TIMEOUT_S).close()
            client = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
            return bool(client.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers)
        except (OSError, KafkaException):
            return False


def _write_settings(path: Path, data: Path, port: int, controller_port: int, config: Mapping[str, str]) -> None:
    addresses = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
        "log.dirs": str(data),
    }
    settings = _SERVER_CONFIG | addresses | dict(config)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def is_free(port: int) -> bool:
    """Tell whether a server could listen there now; nothing reserves it."""
    with socket.socket() as probe:
        # As Java's servers do: connections that are only winding down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(but: int = 0) -> int:
    """Pick one at random, so that two programs that pick at the same time hardly ever pick the same.

    Args:
        but: a port that is spoken for, though nobody listens there yet.
    """
    pick = random.SystemRandom().choice  # not to be foreseen: whoever seeds `random` would get others' ports
    return next(port for port in iter(lambda: pick(_PORTS), None) if port != but and is_free(port))
