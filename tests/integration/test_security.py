"""TLS and SASL: one settings object reaches every client."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from demo.kafka_process import free_port
from demo.local_kafka import LocalKafka
from nextclick.settings import Settings
from stream.topics.topics import Topics

PASSWORD = "s3cret-of-this-test"


@pytest.fixture(scope="module")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker with a SASL_SSL listener; settings that can use it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test and is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    both.write_text(key.read_text() + certificate.read_text())
    port, secure, controller = free_port(), free_port(), free_port()
    listener = "listener.name.sasl_ssl"
    config = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        f"{listener}.sasl.enabled.mechanisms": "PLAIN",
        f"{listener}.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_nextclick="{PASSWORD}";',
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": str(both),
    }
    with LocalKafka(port=port, config=config):
        yield Settings(
            broker=f"127.0.0.1:{secure}",
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username="nextclick",
            sasl_password=PASSWORD,
            tls_ca_file=str(certificate),
        )


@pytest.fixture
def secure_playground(secure_broker: Settings, playground: Any) -> Any:
    """The usual playground, on the secure broker."""
    mine = playground.settings
    names = {
        field: getattr(mine, field) for field in Settings.__dataclass_fields__ if field.endswith(("_topic", "_dir"))
    }
    playground.settings = replace(secure_broker, app=mine.app, worker_port=0, trainer_port=0, **names)
    Topics(playground.settings).create()
    return playground


@pytest.mark.release
def test_worker_and_tools_work_over_tls_with_a_password(secure_playground: Any) -> None:
    """The worker's consumer and producer, the follower of models, and the tools' clients."""
    secure_playground.worker()
    sent = secure_playground.start("send", "send", "user-1", "item-1", "--timeout", "50")
    sent.wait(60)

    assert sent.exit_status == 0, sent.log_tail
    assert "item-1" in sent.log_tail
    assert PASSWORD not in secure_playground.log("worker").read_text()


def test_a_wrong_password_is_said_in_one_line(secure_playground: Any) -> None:
    """The reason is in the message, the password is not."""
    worker = secure_playground.worker("worker", "--set", "sasl_password=wrong-password")
    worker.wait(60)
    log = secure_playground.log("worker").read_text()

    assert worker.exit_status == 1
    assert "uthentication failed" in log
    assert "wrong-password" not in log
    assert "Traceback" not in log


def test_doctor_says_what_is_wrong_with_the_login(secure_playground: Any) -> None:
    """As its first finding; with the right password it says who it is."""
    wrong = secure_playground.start("wrong", "doctor", "--set", "sasl_password=wrong-password")
    right = secure_playground.start("right", "doctor")
    for doctor in (wrong, right):
        doctor.wait(60)

    assert wrong.exit_status == 1
    assert "uthentication failed" in secure_playground.log("wrong").read_text().splitlines()[0]
    assert "wrong-password" not in secure_playground.log("wrong").read_text()
    assert right.exit_status == 0, right.log_tail
    assert "as user nextclick" in secure_playground.log("right").read_text()


@pytest.mark.parametrize("program", ["stream", "train"])
def test_a_session_timeout_that_the_broker_does_not_take_is_said_in_one_line(
    secure_playground: Any, program: str
) -> None:
    """The setting allows what some brokers do: this one takes 6 s at least, as Kafka does by default."""
    child = secure_playground.start(program, program, "--set", "session_timeout_s=5")
    child.wait(30)
    log = secure_playground.log(program).read_text()

    assert child.exit_status == 1
    assert "session_timeout_s" in log.splitlines()[-1]
    assert "nvalid session timeout" in log.splitlines()[-1]
    assert "Traceback" not in log
