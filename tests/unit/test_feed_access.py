"""Who may ask a feed: tokens, web pages of other origins, TLS."""

import datetime
import ipaddress
import logging
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import feed.access
from feed.access import Tokens
from feed.server import tls_files
from nextclick.client import Feed, FeedError
from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tests.served_feed import ServedFeed, update

TOKEN, OTHER, NEW = "0123456789abcdef", "schlüssel-zum-glück", "fedcba9876543210"
ANN = "/v1/users/ann/recommendations"
SHOP = "https://shop.example"
CLICK = {"user_id": "ann", "item_id": "lamp"}


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"# of the shop\n{TOKEN}\n\n  {OTHER}  \n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tokens_file: Path) -> Iterator[httpx2.Client]:
    """Asks a feed that wants tokens, and lets the pages of a shop ask."""
    settings = {"feed_tokens_file": str(tokens_file), "feed_origins": f"{SHOP},http://localhost:3000"}
    with ServedFeed(tmp_path_factory.mktemp("feed"), **settings) as served:
        served.store(update("ann", 3))
        with httpx2.Client(base_url=served.url, timeout=20) as client:
            yield client


# Tokens


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"BEARER   {TOKEN}",
        f"Bearer {OTHER}".encode(),
    ],
)
def test_who_has_a_token_may_ask(client: httpx2.Client, authorization: str | bytes) -> None:
    """The scheme may be written in any case (RFC 9110, 11.1)."""
    raw = authorization if isinstance(authorization, bytes) else authorization.encode()

    assert client.get(ANN, headers=[(b"Authorization", raw)]).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong-but-long-enough",
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer " + TOKEN.encode() + b"0",
        b"Bearer " + TOKEN.upper().encode(),
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer # of the shop",
        b"Bearer " + OTHER.encode("latin-1"),
        b"Bearer \xff\xfe\x80",
        b"Bearer " + b"x" * 20_000,
    ],
)
def test_who_has_none_is_told_what_to_send(client: httpx2.Client, authorization: bytes | None) -> None:
    """Not what is wrong with what was sent."""
    headers = [(b"Authorization", authorization)] if authorization is not None else []
    answer = client.get(ANN, headers=headers)

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["type"] == "urn:nextclick:problem:unauthorized"
    assert "Authorization: Bearer TOKEN" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/users/ann/events", 401),
        ("POST", "/v1/clicks", 401),
        ("DELETE", ANN, 401),
        ("GET", "/v1/", 401),
        ("GET", "/v1/what/is/here", 401),  # what there is, is nobody's business
        ("GET", "//v1/popular", 404),
        ("GET", "/V1/popular", 404),
        ("GET", "/%761/popular", 401),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
    ],
)
def test_everything_below_v1_asks_for_a_token(client: httpx2.Client, method: str, path: str, status: int) -> None:
    """What supervisors and Prometheus ask does not, and holds nothing of users."""
    assert client.request(method, path).status_code == status


def test_the_file_is_read_again_when_it_changes(
    client: httpx2.Client, tokens_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unusable one changes nothing, and is said once, without a token."""
    monkeypatch.setattr(feed.access, "_LOOK_EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    before = tokens_file.read_text(encoding="utf-8")

    def statuses() -> list[int]:
        return [client.get(ANN, headers={"Authorization": f"Bearer {token}"}).status_code for token in (TOKEN, NEW)]

    found = [statuses()]
    end_s = time.monotonic() + 10.0
    for text in (NEW, "too-short", "", b"\xff" * 40, None, before):
        if text is None:
            tokens_file.unlink()
        else:
            new = tokens_file.with_name("new")
            new.write_bytes(text if isinstance(text, bytes) else text.encode())
            new.rename(tokens_file)
            os.utime(tokens_file, ns=(len(found), len(found)))  # the clock of a file system can stand still meanwhile
        while len(found) == 1 and statuses() == found[0] and time.monotonic() < end_s:
            time.sleep(0.05)  # the next look was set before it was moved forward
        found.append(statuses())

    assert found == [[200, 401], [401, 200], *[[401, 200]] * 4, [200, 401]]
    assert caplog.text.count("the tokens of before hold") == 1
    assert caplog.text.count("was read again") == 2
    assert not any(token in caplog.text for token in (TOKEN, NEW, "too-short"))


@pytest.mark.parametrize(
    ("text", "said"), [("", "no token"), ("# only this", "no token"), (f"{TOKEN}\nshort", "16"), (None, "No such file")]
)
def test_a_file_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, text: str | None, said: str) -> None:
    """With what to do."""
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text)

    with pytest.raises(PermanentError, match=f"{said}.*openssl rand -hex 32"):
        Tokens(path)


def test_a_token_that_is_taken_from_the_file_loses_its_open_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other tokens stay."""
    monkeypatch.setattr(feed.access, "_LOOK_EVERY_S", 0.0)
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n{NEW}\n")
    with (
        ServedFeed(tmp_path / "feed", feed_tokens_file=str(path)) as served,
        httpx2.Client(base_url=served.url, timeout=10) as client,
        client.stream("GET", "/v1/users/ann/events", headers={"Authorization": f"Bearer {TOKEN}"}) as taken,
        client.stream("GET", "/v1/users/ann/events", headers={"Authorization": f"Bearer {NEW}"}) as kept,
    ):
        lines = kept.iter_lines()
        assert next(lines).startswith("retry")
        path.with_name("new").write_text(NEW)
        path.with_name("new").rename(path)
        os.utime(path, ns=(1, 1))
        served.store(update("ann", 3))

        assert 'sequence":3' not in taken.read().decode()
        assert any('sequence":3' in line for line in lines)


def test_the_client_sends_its_token(client: httpx2.Client) -> None:
    """And says when it has a wrong one."""
    url = str(client.base_url)
    with Feed(url, token=TOKEN) as right, Feed(url, token=NEW) as wrong:
        assert right.recommendations("ann").sequence == 3
        assert next(right.events("ann")).sequence == 3
        for ask in (lambda: wrong.popular(), lambda: next(wrong.events("ann"))):
            with pytest.raises(FeedError, match="A token is needed"):
                ask()


# Web pages of other origins


def test_a_page_of_the_shop_may_ask_and_read(client: httpx2.Client) -> None:
    """Also the tag of a list, and when to come again; caches keep the origins apart."""
    answer = client.get(ANN, headers={"Origin": SHOP, "Authorization": f"Bearer {TOKEN}"})

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert answer.headers["access-control-expose-headers"] == "ETag, Retry-After"
    assert "Origin" in answer.headers["vary"]


def test_a_page_of_the_shop_is_told_why_it_was_refused(client: httpx2.Client) -> None:
    """Without the headers of CORS a browser would say only that it failed."""
    answer = client.post("/v1/clicks", json=CLICK, headers={"Origin": SHOP})

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, SHOP)


@pytest.mark.parametrize("origin", ["https://shop.example.evil", "http://shop.example", "null", f"{SHOP}:8443"])
def test_another_page_is_not_let_read(client: httpx2.Client, origin: str) -> None:
    """Nor does it learn from a preflight that it might."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = client.options("/v1/clicks", headers=headers)
    answer = client.get(ANN, headers={"Origin": origin, "Authorization": f"Bearer {TOKEN}"})

    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in {**preflight.headers, **answer.headers}


def test_a_preflight_needs_no_token(client: httpx2.Client) -> None:
    """A browser sends none with it."""
    asked = "authorization,content-type,idempotency-key,if-none-match,last-event-id"
    headers = {"Origin": SHOP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    answer = client.options("/v1/clicks", headers=headers)

    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert {"GET", "POST"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert set(asked.split(",")) <= set(answer.headers["access-control-allow-headers"].lower().split(", "))
    assert int(answer.headers["access-control-max-age"]) > 0


def test_without_origins_no_page_may_read(tmp_path: Path) -> None:
    """With a star, all may."""
    with ServedFeed(tmp_path / "closed") as served:
        closed = httpx2.get(f"{served.url}{ANN}", headers={"Origin": SHOP})
    with ServedFeed(tmp_path / "open", feed_origins="*") as served:
        all_may = httpx2.get(f"{served.url}{ANN}", headers={"Origin": SHOP})

    assert "access-control-allow-origin" not in closed.headers
    assert all_may.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origins", ["shop.example", f"{SHOP}/", f"{SHOP},", "https://*", "https://a b", "null"])
def test_what_is_no_origin_is_refused_at_the_start(tmp_path: Path, origins: str) -> None:
    """No page would ever match it."""
    with (
        pytest.raises(PermanentError, match=r"no origin.*https://shop\.example"),
        ServedFeed(tmp_path, feed_origins=origins),
    ):
        pass


# TLS


def certificate_in(folder: Path, password: bytes | None = None) -> dict[str, str]:
    """Make a certificate of 127.0.0.1, signed by itself; gives the settings that name it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    return {
        "feed_tls_certificate_file": str(folder / "certificate.pem"),
        "feed_tls_key_file": str(folder / "key.pem"),
    }


def test_lists_over_https(tmp_path: Path) -> None:
    """To those who trust the certificate; streams as well."""
    files = certificate_in(tmp_path)
    trusting = ssl.create_default_context(cafile=files["feed_tls_certificate_file"])
    with ServedFeed(tmp_path / "feed", **files) as served:
        served.store(update("ann", 3))
        with Feed(served.url, verify=trusting) as client:
            assert client.recommendations("ann").sequence == 3
            assert next(client.events("ann")).sequence == 3
        with Feed(served.url, retries=0) as client, pytest.raises(FeedError, match="CERTIFICATE_VERIFY_FAILED"):
            client.recommendations("ann")
        with Feed(served.url.replace("https", "http"), retries=0) as client, pytest.raises(FeedError):
            client.recommendations("ann")


@pytest.mark.parametrize("trouble", ["alone", "missing", "another key", "no certificate", "password"])
def test_files_that_cannot_be_used_for_https_are_refused_at_the_start(tmp_path: Path, trouble: str) -> None:
    """Also a key with a password, for which OpenSSL would ask at the terminal."""
    files = certificate_in(tmp_path, b"secret" if trouble == "password" else None)
    if trouble == "alone":
        del files["feed_tls_key_file"]
    elif trouble == "missing":
        files["feed_tls_key_file"] += "x"
    elif trouble == "another key":
        (tmp_path / "other").mkdir()
        files["feed_tls_key_file"] = certificate_in(tmp_path / "other")["feed_tls_key_file"]
    elif trouble == "no certificate":
        Path(files["feed_tls_certificate_file"]).write_text("nothing")

    with pytest.raises(PermanentError, match=r"feed_tls_key_file belong together|cannot be used: .*PEM files"):
        tls_files(Settings(**files))
