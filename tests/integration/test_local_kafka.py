"""The local Apache Kafka, as a library and as `nextclick kafka`: real processes, real jars, real TCP."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from demo.class_archives import with_class_archives
from demo.kafka_download import locked_jars
from demo.kafka_runtime import find_distribution
from demo.local_kafka import LocalKafka, default_cache
from nextclick.errors import PermanentError, TemporaryError

pytestmark = pytest.mark.release

DEADLINE_S = 90.0
READY = "Kafka is ready at "
ROOT = Path(__file__).parents[2]
_PREPARE = """
import sys
from pathlib import Path
from demo.class_archives import with_class_archives
from demo.kafka_runtime import find_distribution

cache = Path(sys.argv[1])
print(*with_class_archives(find_distribution(cache, None), cache).flags, sep="\\n")
"""


@pytest.fixture
def kafka(broker_to_stop: LocalKafka) -> Iterator[LocalKafka]:
    """A broker that a test may stop and pause; it is there again at the end."""
    yield broker_to_stop
    broker_to_stop.resume()
    broker_to_stop.start()


@pytest.fixture
def own_cache(tmp_path: Path) -> Path:
    """A copy of the downloaded jars, to be damaged; without class archives."""
    find_distribution(default_cache(), None)
    shutil.copytree(default_cache() / "jars", tmp_path / "cache" / "jars")
    return tmp_path / "cache"


def test_record_goes_through_the_broker(broker: str, topic_prefix: str) -> None:
    """What a client produces over TCP, another one consumes."""
    _create_topic(broker, topic_prefix)

    _produce(broker, topic_prefix, b"a click")

    assert _consume(broker, topic_prefix) == b"a click"


def test_topics_are_never_made_by_accident(kafka: LocalKafka, topic_prefix: str) -> None:
    """A topic that nobody created does not exist, also after a client asked for it."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})

    client.list_topics(topic_prefix, timeout=DEADLINE_S)

    assert topic_prefix not in client.list_topics(timeout=DEADLINE_S).topics


def test_restarted_broker_has_its_data_and_its_port(kafka: LocalKafka, topic_prefix: str) -> None:
    """`restart` is what a broker's crash and return look like to its clients: same address, same records."""
    address, pid = kafka.bootstrap, kafka.pid
    _create_topic(address, topic_prefix)
    _produce(address, topic_prefix, b"kept")

    kafka.restart()

    assert kafka.bootstrap == address
    assert kafka.pid != pid
    assert _consume(address, topic_prefix) == b"kept"


def test_killed_broker_can_be_started_again(kafka: LocalKafka, topic_prefix: str) -> None:
    """After SIGKILL, `start` alone brings the broker and its records back."""
    _create_topic(kafka.bootstrap, topic_prefix)
    _produce(kafka.bootstrap, topic_prefix, b"kept")
    os.kill(kafka.pid, signal.SIGKILL)
    assert kafka.wait() == -signal.SIGKILL

    kafka.start()

    assert _consume(kafka.bootstrap, topic_prefix) == b"kept"


def test_paused_broker_hangs_until_it_is_resumed(kafka: LocalKafka) -> None:
    """A pause is silence, not an end: no answer during it, an answer after it."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    client.list_topics(timeout=DEADLINE_S)

    kafka.pause()
    try:
        with pytest.raises(KafkaException):
            client.list_topics(timeout=1.0)
    finally:
        kafka.resume()

    assert client.list_topics(timeout=DEADLINE_S).brokers


def test_stop_leaves_no_process_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary folder goes with the broker, even with a paused one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kafka = LocalKafka()
    kafka.start()
    pid = kafka.pid
    assert list(tmp_path.iterdir())
    kafka.pause()

    kafka.stop()

    assert not _is_alive(pid)
    assert not list(tmp_path.iterdir())


def test_unusable_broker_setting_is_told_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When Kafka refuses to run, the error carries Kafka's own words, and nothing is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kafka = LocalKafka(config={"num.network.threads": "none"})

    with pytest.raises(PermanentError, match=r"num\.network\.threads"):
        kafka.start()

    assert not list(tmp_path.iterdir())


def test_damaged_and_missing_jars_are_fetched_again(own_cache: Path) -> None:
    """Before each start every jar is checked, and one that differs is replaced by the right one."""
    damaged, missing = sorted(locked_jars(), key=lambda jar: jar.n_bytes)[:2]
    with (own_cache / "jars" / damaged.file_name).open("r+b") as file:
        file.write(b"damaged")
    (own_cache / "jars" / missing.file_name).unlink()

    try:
        find_distribution(own_cache, None)
    except TemporaryError as error:
        pytest.skip(f"needs a network: {error}")

    for jar in (damaged, missing):
        assert hashlib.sha256((own_cache / "jars" / jar.file_name).read_bytes()).hexdigest() == jar.sha256


def test_missing_network_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    """A first start without a network ends at once, with status 1 and no stack trace."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}

    with _command("kafka", home=tmp_path, more=nowhere) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert not output
    last_line = errors.splitlines()[-1]
    assert last_line.startswith("nextclick: Apache Kafka is downloaded once")
    assert "KAFKA_HOME" in last_line
    assert "Traceback" not in errors


def test_lock_file_holds_no_address() -> None:
    """The lock names jars by coordinate and checksum, never by a server."""
    jars = locked_jars()

    assert any(jar.coordinate == "org.apache.kafka:kafka_2.13:4.3.1" for jar in jars)
    assert all(jar.coordinate.count(":") == 2 and "/" not in jar.coordinate for jar in jars)
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert len({jar.file_name for jar in jars}) == len(jars)


def test_class_archives_are_used() -> None:
    """Java really takes Kafka's classes from the archive; it would go on silently if it could not."""
    distribution = with_class_archives(find_distribution(default_cache(), None), default_cache())

    loaded = subprocess.run(
        distribution.command("kafka.tools.StorageTool", ["--help"], ["-Xlog:class+load"]),
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    ).stdout

    assert loaded.count("source: shared objects file (top)") > 1_000


def test_each_checkout_keeps_its_class_archives(own_cache: Path, tmp_path: Path) -> None:
    """Two that are used in turn prepare once each; what fits no more goes, and so does that of a gone one."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    for checkout in (ours, other):
        for package in ("demo", "nextclick", "tools"):
            shutil.copytree(ROOT / package, checkout / package)
    in_turn = [_prepared(checkout, own_cache) for checkout in (ours, other, ours, other)]
    both = list(own_cache.glob("classes-*/kafka.jsa"))
    shutil.rmtree(other)
    os.utime(own_cache / "jars" / locked_jars()[0].file_name)
    old, new = own_cache / "classes-old", own_cache / "classes-new"  # of versions that did not say whose they are
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))

    anew = _prepared(ours, own_cache)

    assert [made for _, made in in_turn] == [True, True, False, False]
    assert {archive for archive, _ in in_turn} == set(both)
    assert len(both) == 2
    assert anew[1]
    assert list(own_cache.glob("classes-*/kafka.jsa")) == [anew[0]]
    assert (old.exists(), new.exists()) == (False, True)


def test_what_java_unpacks_and_measures_stays_in_the_brokers_folder(tmp_path: Path, topic_prefix: str) -> None:
    """Nothing would remove it after SIGKILL; a compressed record makes the broker unpack a library."""
    with LocalKafka(data_dir=tmp_path / "data") as kafka:
        _create_topic(kafka.bootstrap, topic_prefix)
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": "zstd"})
        producer.produce(topic_prefix, b"a click" * 1_000)
        assert producer.flush(DEADLINE_S) == 0
        libraries = [entry.path for entry in psutil.Process(kafka.pid).memory_maps() if "libzstd" in entry.path]
        measured = list(Path("/tmp").glob(f"hsperfdata_*/{kafka.pid}"))

    assert libraries
    assert all(Path(path).is_relative_to(tmp_path / "data") for path in libraries)
    assert measured == []


def test_unpacked_distribution_is_run_as_it_is(tmp_path: Path) -> None:
    """KAFKA_HOME's jars are used, and no cache is needed or made."""
    find_distribution(default_cache(), None)
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "libs").symlink_to(default_cache() / "jars")

    with LocalKafka(kafka_home=tmp_path / "kafka", cache=tmp_path / "cache") as from_home:
        assert AdminClient({"bootstrap.servers": from_home.bootstrap}).list_topics(timeout=DEADLINE_S).brokers

    assert not (tmp_path / "cache").exists()


def test_folder_without_kafka_is_refused_as_kafka_home(tmp_path: Path) -> None:
    """A wrong KAFKA_HOME is named, instead of a failure of Java."""
    with pytest.raises(PermanentError, match="KAFKA_HOME is no unpacked Apache Kafka"):
        LocalKafka(kafka_home=tmp_path).start()


def test_two_first_starts_at_once_do_not_collide(own_cache: Path, tmp_path: Path) -> None:
    """Two commands that find the same unprepared cache both get a broker, each its own, and leave nothing."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    (home / ".cache" / "nextclick").mkdir(parents=True)
    temporary.mkdir()
    own_cache.rename(home / ".cache" / "nextclick" / "kafka")
    place = {"TMPDIR": str(temporary), "PATH": "/nonexistent"}  # where there is no java

    with ExitStack() as stack:
        processes = [stack.enter_context(_command("kafka", home=home, more=place)) for _ in range(2)]
        addresses = [_ready_address(process) for process in processes]
        assert len(set(addresses)) == 2
        assert len(list((home / ".cache" / "nextclick" / "kafka").glob("classes-*/kafka.jsa"))) == 1
        brokers = [child for process in processes for child in _children(process.pid)]
        assert len(brokers) == 2
        for process, number in zip(processes, (signal.SIGINT, signal.SIGTERM), strict=True):
            process.send_signal(number)
        said = "".join(process.communicate(timeout=DEADLINE_S)[1] for process in processes)

    assert [process.returncode for process in processes] == [0, 0]
    assert said.count("Preparing Apache Kafka") == 1
    assert not any(_is_alive(pid) for pid in brokers)
    assert not list(temporary.iterdir())


def test_killed_parent_leaves_no_broker(tmp_path: Path) -> None:
    """SIGKILL of the command ends the broker too: nobody else would stop it."""
    with _command("kafka", "--data-dir", str(tmp_path / "data")) as process:
        _ready_address(process)
        (pid,) = _children(process.pid)

        process.kill()
        process.wait(DEADLINE_S)

        _wait_until(lambda: not _is_alive(pid))


def test_broker_that_dies_by_itself_ends_the_command(tmp_path: Path) -> None:
    """Whoever runs `nextclick kafka` learns that it is gone, by the exit status and in words."""
    with _command("kafka", "--data-dir", str(tmp_path / "data")) as process:
        _ready_address(process)
        (pid,) = _children(process.pid)

        os.kill(pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert "ended by itself with status -9" in errors
    assert "Traceback" not in errors


def test_port_in_use_is_one_line() -> None:
    """A taken port is named, with what to do, before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _command("kafka", "--port", str(port)) as process:
            output, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert not output
    assert errors.splitlines() == [
        f"nextclick: the local Apache Kafka cannot use port {port} of 127.0.0.1: something listens there already; "
        "choose another port, or stop it"
    ]


@contextmanager
def _command(
    *words: str, home: Path | None = None, more: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """`nextclick WORDS` as a process of its own, which has ended when the body has."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    environment |= {"HOME": str(home)} if home else {}
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | (more or {}),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _prepared(checkout: Path, cache: Path) -> tuple[Path, bool]:
    """Give the class archive that a checkout uses, and whether it has just been made."""
    before = set(cache.glob("classes-*/kafka.jsa"))
    flags = subprocess.run(
        [sys.executable, "-c", _PREPARE, str(cache)],
        env=os.environ | {"PYTHONPATH": str(checkout)},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    ).stdout.splitlines()
    [archive] = [Path(flag.partition("=")[2]) for flag in flags if flag.startswith("-XX:SharedArchiveFile=")]
    return archive, archive not in before


def _ready_address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith(READY):
        pytest.fail(f"expected {READY!r}, found {line!r} and {process.communicate()[1]}")
    return line.removeprefix(READY).split()[0]


def _children(pid: int) -> list[int]:
    """Ids of the running processes whose parent is `pid`."""
    return [child.pid for child in psutil.Process(pid).children() if _is_alive(child.pid)]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _create_topic(address: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(DEADLINE_S)


def _produce(address: str, topic: str, value: bytes) -> None:
    failures = []
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(DEADLINE_S) == 0
    assert not failures


def _consume(address: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(DEADLINE_S)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()
