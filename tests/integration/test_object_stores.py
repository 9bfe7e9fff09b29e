"""Bundles in an object store: a folder and an S3 API keep the same contract, also over a network that goes wrong."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from doctor.findings import Level
from doctor.places import check_bundles
from nextclick.bundle import MODEL_FILE, VOCABULARY_FILE, save_bundle, verify_bundle
from nextclick.errors import BundleError, PermanentError
from nextclick.manifest import MANIFEST_FILE, Manifest, encode_manifest
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from stream.metrics import WorkerMetrics
from stream.served_bundle import ServedBundle
from tests.azure_server import CONTAINER, azure_server
from tests.networks import random_network
from tests.s3_server import BUCKET, FAULTS, FaultyNetwork, environment_of
from tools import stored_bundles
from tools.bundle_copies import BundleCopies
from tools.object_store import ObjectMissing, ObjectStore, StoreAway
from tools.stored_bundles import StoredBundles
from tools.turns import turn
from training.service.bundle_store import BundleStore

pytestmark = pytest.mark.xdist_group("whole")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a client reads to find an Azure Blob API."""
    with azure_server(tmp_path_factory.mktemp("azure")) as variables:
        yield variables


@pytest.fixture(params=["folder", "s3", "s3 with faults", pytest.param("azure", marks=pytest.mark.release)])
def address(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, network: FaultyNetwork, tmp_path: Path
) -> str:
    """Where objects of this test alone are."""
    if request.param == "folder":
        return f"file://{tmp_path}/objects"
    if request.param == "azure":
        for name, value in request.getfixturevalue("azure").items():
            monkeypatch.setenv(name, value)
        return f"az://{CONTAINER}/{tmp_path.name}"
    if request.param == "s3 with faults":
        network.share = {kind: share for kind, share in FAULTS.items() if kind != "short"}
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def store(address: str) -> ObjectStore:
    return ObjectStore(address, patience_s=PATIENCE_S)


@pytest.fixture
def s3_address(tmp_path: Path) -> str:
    return f"s3://{BUCKET}/{tmp_path.name}"


def bundle(folder: Path, number: int) -> Manifest:
    """Save a small bundle."""
    vocabulary = Vocabulary([f"i{item}" for item in range(5)], np.ones(5))
    return save_bundle(folder, random_network(NetworkConfig(5, 4), number), vocabulary, created_ms=number, metrics={})


def published(store: ObjectStore, folder: Path, number: int) -> Manifest:
    """Save a small bundle and upload it."""
    manifest = bundle(folder / "made", number)
    StoredBundles(store).upload(folder / "made" / manifest.bundle_id)
    return manifest


def test_objects_are_listed_and_read_as_they_were_written(store: ObjectStore) -> None:
    """Names with folders and equal signs, as the click log's; none is not there, and removing it is no error."""
    before_s = time.time()
    store.write("partition=3/000-412.parquet", b"rows" * 10)
    store.write("note.json", b"")
    store.write("note.json", b"{}")

    found = store.list()
    assert {name: each.n_bytes for name, each in found.items()} == {"partition=3/000-412.parquet": 40, "note.json": 2}
    assert all(before_s - 2 < each.modified_s < time.time() + 2 for each in found.values())
    assert store.read("partition=3/000-412.parquet") == b"rows" * 10
    store.remove(["note.json"])
    store.remove(["note.json"])
    with pytest.raises(ObjectMissing):
        store.read("note.json")
    assert list(store.list()) == ["partition=3/000-412.parquet"]
    store.write("third", b"")
    store.remove(["not-there", "partition=3/000-412.parquet", "nor-this", "third"])
    store.remove([])
    assert store.list() == {}


def test_of_two_that_create_an_object_one_wins(store: ObjectStore) -> None:
    """The same content again is no other: the answer to the first try may have been lost."""
    assert all(store.create(f"object-{number}", b"first") for number in range(20))

    assert not any(store.create(f"object-{number}", b"second") for number in range(20))
    assert all(store.create(f"object-{number}", b"first") for number in range(20))
    assert {store.read(f"object-{number}") for number in range(20)} == {b"first"}


def test_what_is_removed_while_it_is_created_is_created_again(address: str) -> None:
    """Somebody else has written it, and removes it before it is compared."""

    class RemovedMeanwhile(ObjectStore):
        def _content(self, name: str) -> bytes:
            self.remove([name])
            return super()._content(name)

    store = RemovedMeanwhile(address, patience_s=PATIENCE_S)
    store.write("object", b"first")

    assert store.create("object", b"second")
    assert ObjectStore(address, patience_s=PATIENCE_S).read("object") == b"second"


def test_a_large_object_comes_and_goes_in_pieces(store: ObjectStore, tmp_path: Path) -> None:
    """A cut connection costs a piece of it, not all."""
    content = np.random.default_rng(1).bytes(12_000_000)
    (tmp_path / "large").write_bytes(content)
    store.write("large", tmp_path / "large")
    copy = BytesIO()
    store.download("large", len(content), copy)

    assert copy.getvalue() == content


def test_a_slow_line_has_time_for_much(network: FaultyNetwork, s3_address: str, tmp_path: Path) -> None:
    """An upload goes part by part, each within its time; what is created by one request has time for its size."""
    store = ObjectStore(s3_address, patience_s=5, request_s=2)
    content = bytes(20_000_000)
    (tmp_path / "bundle").write_bytes(content)
    network.bytes_per_s = 6e6
    store.write("bundle", tmp_path / "bundle")
    network.bytes_per_s = 2e6

    assert store.create("click log", content[:8_000_000])
    assert {name: found.n_bytes for name, found in store.list().items()} == {
        "bundle": 20_000_000,
        "click log": 8_000_000,
    }


def test_whoever_makes_many_requests_hears_of_each(store: ObjectStore, address: str) -> None:
    """A trainer's loop is not taken for stuck while many old files are removed, for example."""
    asked: list[None] = []
    counting = ObjectStore(address, patience_s=PATIENCE_S, is_over=lambda: bool(asked.append(None)))
    for number in range(10):
        counting.create(f"object-{number}", b"")
    n_created = len(asked)
    for number in range(10):
        counting.remove([f"object-{number}"])

    assert n_created >= 10
    assert len(asked) >= n_created + 10


class Metadata(BaseHTTPRequestHandler):
    """What a machine of a cloud asks for credentials, which are soon too old.

    Attributes:
        status: what it answers.
        n_asked: how often it was asked.
    """

    status, n_asked = 200, 0

    def do_GET(self) -> None:
        type(self).n_asked += 1
        answer = b"role"
        if self.path.endswith("/role"):
            soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
            keys = {"AccessKeyId": "a", "SecretAccessKey": "b", "Token": "c", "Expiration": soon}
            answer = msgspec.json.encode(keys | {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": soon})
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata(network: FaultyNetwork, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    """A machine with a role, and no variables."""

    class OfThisTest(Metadata):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OfThisTest) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        yield OfThisTest
        server.shutdown()


def test_credentials_that_do_not_come_for_a_while_are_waited_for(metadata: type[Metadata], s3_address: str) -> None:
    """The service that gives them has much to do; and once there were some, whatever it says can pass."""
    store = ObjectStore(s3_address, patience_s=1)
    metadata.status = 503
    with pytest.raises(StoreAway, match="credentials"):
        store.list()
    assert metadata.n_asked > 2
    metadata.status = 200
    assert store.list() == {}
    metadata.status = 404
    with pytest.raises(StoreAway, match="credentials"):
        list_on_and_on(store)


def list_on_and_on(store: ObjectStore) -> None:
    """The client uses what it has for a moment, whatever is said of its age."""
    while True:
        store.list()


def test_where_nothing_gives_credentials_it_is_said_at_once(metadata: type[Metadata], s3_address: str) -> None:
    """A machine without a role."""
    metadata.status = 404

    with pytest.raises(PermanentError, match="no credentials for"):
        ObjectStore(s3_address, patience_s=60).list()


def test_a_bundle_is_fetched_as_it_was_uploaded(store: ObjectStore, tmp_path: Path) -> None:
    """Whole, verified, and with nothing beside it."""
    manifest = published(store, tmp_path, 1)
    bundles = StoredBundles(store)
    bundles.fetch(manifest, tmp_path / "here")

    assert verify_bundle(tmp_path / "here" / manifest.bundle_id) == manifest == bundles.manifest(manifest.bundle_id)
    assert [path.name for path in (tmp_path / "here").iterdir() if path.is_dir()] == [manifest.bundle_id]
    assert bundles.manifests() == [manifest]


def test_a_bundle_that_is_damaged_on_this_machine_is_fetched_again(store: ObjectStore, tmp_path: Path) -> None:
    """The store has the right one."""
    manifest = published(store, tmp_path, 1)
    StoredBundles(store).fetch(manifest, tmp_path / "here")
    model = tmp_path / "here" / manifest.bundle_id / MODEL_FILE
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    StoredBundles(store).fetch(manifest, tmp_path / "here")

    assert verify_bundle(tmp_path / "here" / manifest.bundle_id) == manifest


def test_a_machine_has_room_for_two_copies(address: str, tmp_path: Path) -> None:
    """The one before goes only when a new one comes, but the one before that goes first; the store has all of them."""
    before: list[int] = []

    class Watched(ObjectStore):
        def download(self, name: str, n_bytes: int, file: BinaryIO) -> None:
            before.append(len(list((tmp_path / "here").glob("[0-9a-f]*"))))
            super().download(name, n_bytes, file)

    store = Watched(address, patience_s=PATIENCE_S)
    manifests = [published(store, tmp_path, number) for number in range(4)]
    for manifest in manifests:
        StoredBundles(store).fetch(manifest, tmp_path / "here")

    assert max(before) == 1
    left = {path.name for path in (tmp_path / "here").glob("[0-9a-f]*")}
    assert left == {manifest.bundle_id for manifest in manifests[-2:]}
    assert len(StoredBundles(store).manifests()) == 4


def test_what_another_process_fetches_stays(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes longer than anybody waits; what it has fetched so far is removed when it was killed."""
    monkeypatch.setattr(stored_bundles, "_WAIT_S", 0.1)
    manifests = [published(store, tmp_path, number) for number in (1, 2)]
    unfinished = tmp_path / "here" / ".fetching-0"
    unfinished.mkdir(parents=True)
    with turn(tmp_path / "here" / ".fetching.lock", 0) as is_alone:
        StoredBundles(store).fetch(manifests[0], tmp_path / "here")
        assert is_alone
        assert unfinished.exists()
    StoredBundles(store).fetch(manifests[1], tmp_path / "here")

    assert not unfinished.exists()
    assert all(verify_bundle(tmp_path / "here" / manifest.bundle_id) == manifest for manifest in manifests)


def test_half_objects_are_noticed_by_size_and_by_digest(
    network: FaultyNetwork, s3_address: str, tmp_path: Path
) -> None:
    """A third of all objects come cut, as if they were whole: what is kept is right."""
    store = ObjectStore(s3_address, patience_s=PATIENCE_S)
    manifest = published(store, tmp_path, 1)
    network.share = {"short": 0.3, "half": 0.2}
    for number in range(20):
        StoredBundles(store).fetch(manifest, tmp_path / f"machine-{number}")

    assert network.n_faults["short"] > 3
    assert network.n_faults["half"] > 3
    assert all(verify_bundle(tmp_path / f"machine-{n}" / manifest.bundle_id) == manifest for n in range(20))


def test_a_cut_answer_that_looks_whole_is_noticed(network: FaultyNetwork, s3_address: str) -> None:
    """Of notes, which have no digest, too: the size is known from elsewhere."""
    store = ObjectStore(s3_address, patience_s=PATIENCE_S)
    store.write("note.json", b"[1,2,3,4]")
    network.share = {"short": 0.5}
    contents = [store.read("note.json") for _ in range(10)]
    pieces = BytesIO()
    for _ in range(10):
        store.download("note.json", 9, pieces)

    assert network.n_faults["short"] > 3
    assert contents == [b"[1,2,3,4]"] * 10
    assert pieces.getvalue() == b"[1,2,3,4]" * 10


def test_another_content_of_the_same_size_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    """After a few tries; nothing of it stays."""
    manifest = published(store, tmp_path, 1)
    name = f"{manifest.bundle_id}/{VOCABULARY_FILE}"
    store.write(name, store.read(name)[:-1] + b"?")

    with pytest.raises(BundleError, match="is not what was announced"):
        StoredBundles(store).fetch(manifest, tmp_path / "here")
    assert not [path for path in (tmp_path / "here").iterdir() if path.is_dir()]


def test_a_bundle_without_a_manifest_is_none(store: ObjectStore, tmp_path: Path) -> None:
    """It is being written, or its trainer was killed. One that is not there at all is a line, too."""
    manifest = published(store, tmp_path, 1)
    store.remove([f"{manifest.bundle_id}/{MANIFEST_FILE}"])

    assert StoredBundles(store).manifests() == []
    with pytest.raises(BundleError, match="is not in"):
        StoredBundles(store).manifest(manifest.bundle_id)
    store.remove([f"{manifest.bundle_id}/{MODEL_FILE}"])
    with pytest.raises(BundleError, match=f"{MODEL_FILE} is not in"):
        StoredBundles(store).fetch(manifest, tmp_path / "here")


def test_old_bundles_go_but_never_one_in_use(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest few stay, and what any application uses; the folder of this machine is kept small by the same rule."""
    monkeypatch.setattr(stored_bundles, "KEPT_BUNDLES", 2)
    mine = BundleStore(tmp_path / "here", "shop", StoredBundles(store))
    other = BundleStore(tmp_path / "there", "another/shop", StoredBundles(store))
    manifests = []
    for number in range(1, 6):
        with mine.draft() as draft:
            manifests.append(bundle(draft, number))
            mine.keep(draft, manifests[-1].bundle_id)
        time.sleep(1.05)  # the clock of the S3 API has no more than seconds
    ids = [manifest.bundle_id for manifest in manifests]
    mine.note_in_use({ids[0], ids[-1]})
    other.note_in_use({ids[1]})
    mine.remove_old()

    assert mine.manifests().keys() == other.manifests().keys() == {ids[0], ids[1], *ids[-2:]}
    assert not [name for name in store.list() if name.startswith(ids[2])]
    assert {path.name for path in (tmp_path / "here").iterdir() if path.is_dir()} == {ids[0], *ids[-2:]}
    other.fetch(manifests[1])
    assert verify_bundle(tmp_path / "there" / ids[1]) == manifests[1]


_FETCHER = """
import sys
from pathlib import Path
import msgspec
from nextclick.manifest import decode_manifest
from tools.object_store import ObjectStore
from tools.stored_bundles import StoredBundles

print("ready", flush=True)
sys.stdin.readline()
StoredBundles(ObjectStore(sys.argv[1])).fetch(decode_manifest(Path(sys.argv[2]).read_bytes()), Path(sys.argv[3]))
"""


def test_a_machine_fetches_a_bundle_once(network: FaultyNetwork, s3_address: str, tmp_path: Path) -> None:
    """However many workers it has, and though they begin at once."""
    manifest = published(ObjectStore(s3_address), tmp_path, 1)
    path = tmp_path / "made" / manifest.bundle_id / MANIFEST_FILE
    arguments = [sys.executable, "-c", _FETCHER, s3_address, str(path), str(tmp_path / "here")]
    environment = os.environ | environment_of(network.port)
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(arguments, env=environment, stdin=pipe, stdout=pipe) for _ in range(3)]
    assert [worker.stdout.readline() for worker in workers if worker.stdout is not None] == [b"ready\n"] * 3
    network.delay_s = 0.2  # all begin before one is done
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=PATIENCE_S)
    network.delay_s = 0.0

    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert verify_bundle(tmp_path / "here" / manifest.bundle_id) == manifest
    asked = {path.rpartition("/")[2]: count for path, count in network.n_objects.items() if tmp_path.name in path}
    assert (asked[MODEL_FILE], asked[VOCABULARY_FILE]) == (1, 1)


def test_a_store_that_is_away_is_said_and_what_is_here_is_served(
    network: FaultyNetwork, s3_address: str, tmp_path: Path
) -> None:
    """The worker's copies: the one before is still the last; when the store is back, the new one is."""
    first = published(ObjectStore(s3_address), tmp_path, 1)
    second = published(ObjectStore(s3_address), tmp_path, 2)
    settings = Settings(bundle_store=s3_address, bundle_dir=tmp_path / "here", served_dir=tmp_path / "served")
    copies = BundleCopies(settings, tmp_path / "own")
    copies._stored = StoredBundles(ObjectStore(s3_address, patience_s=0.5))  # a test does not wait for 20 s
    copies.fetch(first)
    network.is_away = True

    with pytest.raises(BundleError, match="does not answer") as away:
        copies.fetch(second)
    assert "\n" not in str(away.value)
    assert copies.last() == first.bundle_id
    network.is_away = False
    assert copies.fetch(second)[0] == second
    assert copies.last() == second.bundle_id


def test_a_worker_tries_again_what_the_store_did_not_give(
    network: FaultyNetwork, s3_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It serves what it has meanwhile, and says so once."""
    first, second = (published(ObjectStore(s3_address), tmp_path, number) for number in (1, 2))
    settings = Settings(
        bundle_store=s3_address,
        bundle_dir=tmp_path / "here",
        served_dir=tmp_path / "served",
        data_dir=tmp_path / "worker",
    )
    served = ServedBundle(settings, WorkerMetrics(CollectorRegistry()), lambda popularity: None)
    served._copies._stored = StoredBundles(ObjectStore(s3_address, patience_s=0.2))  # a test does not wait for 20 s
    asyncio.run(served.announced(encode_manifest(first)))
    network.is_away = True
    asyncio.run(served.announced(encode_manifest(second)))
    time.sleep(served.again_in_s())
    asyncio.run(served.try_again())

    assert served.current is not None
    assert served.current.bundle_id == first.bundle_id
    assert [message.count("does not answer") for message in caplog.messages if "refused" in message] == [1]
    network.is_away = False
    time.sleep(served.again_in_s())
    asyncio.run(served.try_again())
    assert served.current.bundle_id == second.bundle_id


def test_the_doctor_looks_into_the_store(network: FaultyNetwork, s3_address: str, tmp_path: Path) -> None:
    """Whether what was announced is there; a folder of this machine is no question then."""
    manifest = published(ObjectStore(s3_address), tmp_path, 1)
    settings = Settings(bundle_store=s3_address, bundle_dir=tmp_path / "here")

    assert [finding.level for finding in check_bundles(settings, manifest)] == [Level.OK]
    missing = msgspec.structs.replace(manifest, bundle_id="0123456789abcdef")
    assert [finding.level for finding in check_bundles(settings, missing)] == [Level.ERROR]


@pytest.mark.parametrize(
    ("address", "variables", "words"),
    [
        ("s3://no-such-bucket/x", {}, "there is no bucket for s3://no-such-bucket/x: create it"),
        ("s3://shop/x", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials for s3://shop/x"),
        (
            "s3://shop/x",
            {"AWS_ACCESS_KEY_ID": "key-of-a-test\n"},
            "no request for s3://shop/x can be made: look for line",
        ),
        ("az://container/x", {}, "cannot be used"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    network: FaultyNetwork, monkeypatch: pytest.MonkeyPatch, address: str, variables: dict[str, str], words: str
) -> None:
    """At once, and without a secret."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")  # no test asks what is outside of this machine
    with pytest.raises(PermanentError, match=words) as error:
        ObjectStore(address, patience_s=1).list()

    assert "\n" not in str(error.value)
    assert "secret-of-a-test" not in str(error.value)


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where an address is set: nobody else needs it."""
    monkeypatch.setitem(sys.modules, "obstore", None)

    with pytest.raises(PermanentError, match=r"nextclick\[object-store\]"):
        ObjectStore(f"s3://{BUCKET}/x")
