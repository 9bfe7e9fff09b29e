"""What can be wrong with a schema registry, or with a record that needs one."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.schema.registry import Undecodable
from nextclick.settings import Settings
from tests.local_registry import PASSWORD, LocalRegistry
from tools.schema_registry.client import ANSWER_S, RegistryClient
from tools.schema_registry.decoder import ASK_AGAIN_S, RegistryDecoder

SCHEMA = {"type": "record", "name": "Click", "fields": [{"name": "user_id", "type": "string"}]}
ANN = b"\x06ann"  # as Avro has it
PATIENCE = 5  # questions to a registry on a busy machine


@pytest.fixture
def registry_to_stop(tmp_path: Path) -> Iterator[LocalRegistry]:
    """A registry of this test's own."""
    with LocalRegistry(tmp_path) as registry:
        yield registry
        registry.resume()


def frame(number: int, data: bytes = ANN) -> bytes:
    """Put a schema's number in front."""
    return b"\0" + number.to_bytes(4) + data


def avro(registry: LocalRegistry, subject: str, **more: Any) -> int:
    """Register a schema; gives its number."""
    return registry.register(subject, Schema(json.dumps(SCHEMA | more), "AVRO"))


def error_of(settings: Settings, *, kind: type[NextclickError]) -> str:
    """Say what a program says that asks for a schema; a registry that is only slow to answer is asked again."""
    client = RegistryClient(settings)
    try:
        for _ in range(PATIENCE):
            with pytest.raises((kind, TemporaryError)) as caught:
                client.fetch(1)
            if caught.errisinstance(kind):
                break
        assert caught.errisinstance(kind), str(caught.value)
    finally:
        client.close()
    return str(caught.value)


def test_a_schema_that_the_registry_does_not_know(schema_registry: LocalRegistry, topic_prefix: str) -> None:
    """Its records are said to be undecodable; after a minute the registry is asked again."""
    now_s = [0.0]
    decoder = RegistryDecoder(RegistryClient(schema_registry.settings), clock=lambda: now_s[0])
    # The next number of the registry: nobody else registers meanwhile.
    unknown = avro(schema_registry, topic_prefix) + 1
    decoder.load(decoder.missing_schemas(frame(unknown)))

    with pytest.raises(Undecodable, match=f"does not know schema {unknown}"):
        decoder.decode(frame(unknown))
    now_s[0] = ASK_AGAIN_S - 1
    assert decoder.missing_schemas(frame(unknown)) == set()
    now_s[0] = ASK_AGAIN_S
    assert decoder.missing_schemas(frame(unknown)) == {unknown}
    assert avro(schema_registry, f"{topic_prefix}-later", doc="another") == unknown
    decoder.load({unknown})
    assert decoder.decode(frame(unknown)) == {"user_id": "ann"}
    decoder.close()


def test_records_that_do_not_fit(schema_registry: LocalRegistry, topic_prefix: str) -> None:
    """The reason names the schema, and holds nothing of the record."""
    decoder = RegistryDecoder(RegistryClient(schema_registry.settings))
    number = avro(schema_registry, topic_prefix)
    decoder.load({number})

    with pytest.raises(Undecodable) as cut_off:
        decoder.decode(frame(number, ANN[:-1]))
    with pytest.raises(Undecodable) as not_in_the_format:
        decoder.decode(b'{"user_id": "ann"')
    assert str(cut_off.value) == f"the bytes do not fit schema {number} (EOFError)"
    assert str(not_in_the_format.value).startswith("expected Confluent's wire format, found text that begins as JSON")
    decoder.close()


def test_a_schema_without_a_number(schema_registry: LocalRegistry) -> None:
    """A UUID that a registry does not know, or a registry that knows no UUIDs, costs the record, not the worker."""
    decoder = RegistryDecoder(RegistryClient(schema_registry.settings))
    headers = [("__value_schema_id", b"\1" + bytes(range(16)))]
    decoder.load(decoder.missing_schemas(ANN, headers))

    with pytest.raises(Undecodable, match="does not know schema 00010203-"):
        decoder.decode(ANN, headers)
    decoder.close()


@pytest.mark.release
def test_a_registry_that_is_away_and_comes_back(registry_to_stop: LocalRegistry) -> None:
    """Nothing is rejected meanwhile: what is loaded is read on, and the rest can be loaded later."""
    decoder = RegistryDecoder(RegistryClient(registry_to_stop.settings))
    known, wanted = avro(registry_to_stop, "known"), avro(registry_to_stop, "wanted", doc="another")
    decoder.load({known})
    registry_to_stop.stop()

    with pytest.raises(TemporaryError, match="does not answer") as away:
        decoder.load({wanted})
    assert PASSWORD not in str(away.value)
    assert decoder.missing_schemas(frame(wanted)) == {wanted}
    assert decoder.decode(frame(known)) == {"user_id": "ann"}
    registry_to_stop.start()
    decoder.load({wanted})
    assert decoder.decode(frame(wanted)) == {"user_id": "ann"}
    decoder.close()


@pytest.mark.release
def test_a_registry_that_hangs_is_given_up(registry_to_stop: LocalRegistry) -> None:
    """Within the time that the docstring says."""
    decoder = RegistryDecoder(RegistryClient(registry_to_stop.settings))
    wanted = avro(registry_to_stop, "wanted")
    registry_to_stop.pause()
    began_s = time.monotonic()

    with pytest.raises(TemporaryError, match="does not answer"):
        decoder.load({wanted})
    assert time.monotonic() - began_s < 2 * ANSWER_S
    registry_to_stop.resume()
    decoder.load({wanted})
    assert decoder.decode(frame(wanted)) == {"user_id": "ann"}
    decoder.close()


def test_a_wrong_password_is_said_and_not_repeated(schema_registry: LocalRegistry) -> None:
    """Trying again would lock the account."""
    said = error_of(replace(schema_registry.settings, schema_registry_password="wrong-password"), kind=PermanentError)

    assert "refuses us (status 401); correct schema_registry_username and schema_registry_password" in said
    assert "wrong-password" not in said


@pytest.mark.parametrize("path", ["", "/apis/registry/v3", "/apis/ccompat"])
def test_an_address_of_something_else_is_said(schema_registry: LocalRegistry, path: str) -> None:
    """No schema is called unknown because the address is wrong: all clicks would be rejected."""
    address = schema_registry.address.removesuffix("/apis/ccompat/v7") + path
    said = error_of(replace(schema_registry.settings, schema_registry=address), kind=PermanentError)

    assert "expected a schema registry with Confluent's API" in said
    assert "/apis/ccompat/v7" in said


def test_a_second_address_is_tried(schema_registry: LocalRegistry, topic_prefix: str) -> None:
    """One of several registries may be away."""
    settings = replace(schema_registry.settings, schema_registry=f"http://127.0.0.1:1, {schema_registry.address}")
    decoder = RegistryDecoder(RegistryClient(settings))
    number = avro(schema_registry, topic_prefix)
    decoder.load({number})

    assert decoder.decode(frame(number)) == {"user_id": "ann"}
    decoder.close()


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer every question with the same page, as what stands in front of a registry does."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>please log in</html>")


@pytest.fixture
def https_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTPS server that is no registry: its address, and its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test and is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", certificate
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_that_is_not_trusted(https_server: tuple[str, Path]) -> None:
    """It is wrong for good; with the CA file, the server is spoken to."""
    address, certificate = https_server

    said = error_of(Settings(schema_registry=address), kind=PermanentError)
    assert "is not trusted (self-signed certificate); correct tls_ca_file" in said
    said = error_of(Settings(schema_registry=address, tls_ca_file=str(certificate)), kind=PermanentError)
    assert "found something else (what it says is not a registry's JSON)" in said


def test_a_ca_file_that_is_not_there() -> None:
    """Said before anything is asked."""
    with pytest.raises(PermanentError, match="tls_ca_file"):
        RegistryClient(Settings(schema_registry="https://127.0.0.1:1", tls_ca_file="/no/such/file"))
