"""Served forms that the workers of a machine share: prepared once, never wrong, and never in the way."""

import contextlib
import errno
import logging
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nextclick.array_file import map_arrays, write_arrays
from nextclick.bundle import load_bundle, save_bundle
from nextclick.errors import BundleError
from nextclick.network_config import NetworkConfig
from nextclick.served_form import LAYOUT, ServedForm, served_form
from nextclick.user_state import with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from tools import shared_forms
from tools.files import HIDDEN_PREFIX
from tools.shared_forms import SUFFIX, SharedForms
from tools.turns import turn

ROOT = Path(__file__).parents[2]
CONFIG = NetworkConfig(40, 8, skip=True, normalised=True, n_neighbours=4)
IDS = [f"i{number}" for number in range(40)]


def form(seed: int = 1) -> ServedForm:
    return served_form(CONFIG, random_network(CONFIG, seed).arrays(), Vocabulary(IDS, np.arange(40.0)))


def name_of(bundle_id: str) -> str:
    return f"{bundle_id}-{LAYOUT}{SUFFIX}"


def must_not_be_called() -> ServedForm:
    raise AssertionError("it was prepared again")


def is_mapped(found: ServedForm) -> bool:
    array = found.items.packed
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)


def forms_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


def same(found: ServedForm, expected: ServedForm) -> bool:
    return all(
        np.array_equal(left, right) for left, right in zip(found.items[:5], expected.items[:5], strict=True)
    ) and bytes(found.texts.texts) == bytes(expected.texts.texts)


def test_what_another_process_writes_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes longer than anybody waits."""
    monkeypatch.setattr(shared_forms, "WAIT_S", 0.1)
    unfinished = tmp_path / f"{HIDDEN_PREFIX}{name_of('0')}.1"
    unfinished.touch()
    with turn(tmp_path / "lock", 0):
        SharedForms(tmp_path).form_of("1", form)
        assert unfinished.exists()
    SharedForms(tmp_path).form_of("2", form)

    assert not unfinished.exists()


def test_a_form_is_prepared_once_and_mapped_by_all(tmp_path: Path) -> None:
    """Also by whoever prepared it: the memory in which that was done is given back."""
    first = SharedForms(tmp_path / "a" / "served").form_of("1", form)
    second = SharedForms(tmp_path / "a" / "served").form_of("1", must_not_be_called)

    assert is_mapped(first)
    assert is_mapped(second)
    assert same(first, form())
    assert forms_in(tmp_path / "a" / "served") == {name_of("1")}


def test_lists_and_states_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    """Mapped, or in memory of the worker's own."""
    network = random_network(CONFIG, 3)
    manifest = save_bundle(tmp_path, network, Vocabulary(IDS, np.arange(40.0)), created_ms=1, metrics={})
    models = [load_bundle(tmp_path / manifest.bundle_id)[1]]
    for _ in range(2):  # the one that is prepared, and the one that was
        models.append(load_bundle(tmp_path / manifest.bundle_id, SharedForms(tmp_path / "served").form_of)[1])
    recent = b""
    for number, item in enumerate((3, 9, 12)):
        recent = with_recent(recent, int(Vocabulary(IDS, np.ones(40)).hashes[item]), 40 * number, 2, 20)
    hidden = [model.run([b""], [[(3, 0, 2), (9, 40, 2), (12, 80, 2)]]) for model in models]

    assert hidden[0] == hidden[1] == hidden[2]
    lists = [model.rank(hidden[0] * 2, [recent, b""], 20) for model in models]
    assert lists[0] == lists[1] == lists[2]
    assert list(models[1].item_ids) == IDS
    assert models[1].popularity.tolist() == list(range(40))


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "of another bundle"])
def test_a_damaged_form_is_made_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever maps the old file keeps it as it was: nothing is changed in place."""
    forms, path = SharedForms(tmp_path), tmp_path / name_of("1")
    forms.form_of("1", form)
    content = bytearray(path.read_bytes())
    if damage == "of another bundle":
        forms.form_of("2", lambda: form(2))
        content = bytearray((tmp_path / name_of("2")).read_bytes())
    content[len(content) // 2] ^= damage == "flipped"
    path.unlink(missing_ok=True)
    path.write_bytes(content[: {"cut": 5_000, "empty": 0}.get(damage, len(content))])

    found = forms.form_of("1", form)

    assert same(found, form())
    assert is_mapped(found)
    assert f"{path} is damaged and is made again" in caplog.text
    assert same(forms.form_of("1", must_not_be_called), form())


def test_a_form_of_another_version_or_processor_is_left_to_it(tmp_path: Path) -> None:
    """Layouts have names of their own."""
    other = tmp_path / f"1-{'0' * 16}{SUFFIX}"
    SharedForms(tmp_path).form_of("1", form)
    (tmp_path / name_of("1")).rename(other)

    assert same(SharedForms(tmp_path).form_of("1", lambda: form(2)), form(2))


def test_what_nobody_serves_any_more_is_removed_with_the_next_bundle(tmp_path: Path) -> None:
    """What a worker maps stays, and so does everything that is none of ours."""
    forms = SharedForms(tmp_path)
    served = forms.form_of("1", form)
    forms.form_of("2", form)
    (tmp_path / name_of("2")).chmod(0o664)  # as one of a worker with another umask
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / f".writing-{name_of('0')}.123").write_bytes(b"left by a process that was killed")

    forms.form_of("3", form)

    assert forms_in(tmp_path) == {name_of("1"), name_of("3"), "mine.txt"}
    assert same(served, form())
    del served
    forms.form_of("4", form)
    assert forms_in(tmp_path) == {name_of("4"), "mine.txt"}


@contextlib.contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond: what a full disk does."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_costs_memory_and_not_the_bundle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, nothing is left behind, and it is prepared once."""
    prepared = []
    with files_of_at_most(10_000):
        found = SharedForms(tmp_path).form_of("1", lambda: prepared.append(1) or form())  # type: ignore[func-returns-value]

    assert same(found, form())
    assert not is_mapped(found)
    assert len(prepared) == 1
    assert "this process has the bundle in memory of its own" in caplog.text
    assert forms_in(tmp_path) == set()


def test_where_no_folder_can_be_made_the_bundle_is_served_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """From memory of the worker's own, with a line in the log."""
    found = SharedForms(Path("/proc/nothing/served")).form_of("1", form)

    assert same(found, form())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_folder_that_is_only_to_be_read_gives_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume that another container writes; root can write everywhere, so that the folder says no here."""
    SharedForms(tmp_path).form_of("1", form)
    (tmp_path / "lock").unlink()
    really_open = Path.open

    def only_to_be_read(path: Path, mode: str = "r") -> object:
        if mode != "rb":
            raise OSError(errno.EROFS, "Read-only file system")
        return really_open(path, mode)

    monkeypatch.setattr(Path, "open", only_to_be_read)

    assert is_mapped(SharedForms(tmp_path).form_of("1", must_not_be_called))
    assert not is_mapped(SharedForms(tmp_path).form_of("2", form))


IS_ROOT = os.geteuid() == 0
SOMEBODY_ELSE = 12_345


@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize(
    "let",
    [
        lambda path: path.chmod(path.stat().st_mode | 0o020),
        lambda path: path.chmod(path.stat().st_mode | 0o002),
        pytest.param(
            lambda path: os.chown(path, SOMEBODY_ELSE, -1),
            marks=pytest.mark.skipif(not IS_ROOT, reason="only root can give files away"),
        ),
    ],
    ids=["group", "others", "owner"],
)
def test_what_somebody_else_can_change_is_not_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, let: Callable[[Path], None]
) -> None:
    """Who writes there decides what is served. The worker goes on, and one line says what to do."""
    folder = tmp_path / "served"
    SharedForms(folder).form_of("1", form)
    refused = folder if what == "folder" else folder / name_of("1")
    let(refused)
    found = SharedForms(folder).form_of("1", lambda: form(2))

    assert same(found, form(2))
    assert not is_mapped(found)
    [message] = caplog.messages
    assert str(refused) in message
    assert "chmod go-w" in message
    assert "this process has the bundle in memory of its own" in message


def test_what_is_made_belongs_to_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    """Else the worker would refuse its own folder where groups are those of users."""
    before = os.umask(0)
    try:
        found = SharedForms(tmp_path / "served").form_of("1", form)
    finally:
        os.umask(before)

    assert is_mapped(found)
    assert is_mapped(SharedForms(tmp_path / "served").form_of("1", must_not_be_called))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("counts.neighbours", lambda array: np.full_like(array, 2**30)),
        ("counts.neighbours", lambda array: np.full_like(array, -1)),
        ("counts.starts", lambda array: array + 2**40),
        ("counts.most", lambda array: array + 1),
        ("texts.starts", lambda array: array[::-1]),
        ("rows.rows", lambda array: np.zeros_like(array)),
        ("rows.rows", lambda array: np.full_like(array, 40)),
        ("rows.hashes", lambda array: array[:2]),
        ("items.exact", lambda array: array[:-1]),
        ("items.packed", lambda array: array.astype(np.int64)),
        ("weights.cell.bias_ih_l0", lambda array: array[:-1]),
        ("popularity", lambda array: array[:3]),
    ],
)
def test_a_form_with_wrong_shapes_or_indices_is_not_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Compiled code would read beside it; its digest is right, as it is for anybody who computes one."""
    manifest = save_bundle(tmp_path, random_network(CONFIG, 3), Vocabulary(IDS, np.ones(40)), created_ms=1, metrics={})
    folder, forms, path = tmp_path / manifest.bundle_id, tmp_path / "served", name_of(manifest.bundle_id)
    before = load_bundle(folder, SharedForms(forms).form_of)[1].rank([b""], [b""], 5)
    with (forms / path).open("rb") as file:
        arrays = dict(map_arrays(file, Path(path).stem))
    arrays[name] = change(arrays[name])
    (forms / path).unlink()
    with (forms / path).open("wb") as file:
        write_arrays(file, Path(path).stem, arrays)
    (forms / path).chmod(0o644)
    model = load_bundle(folder, SharedForms(forms).form_of)[1]

    assert "does not fit its configuration" in caplog.text
    assert model.rank([b""], [b""], 5) == before


def make_link(path: Path) -> None:
    target = path.with_name("target")
    if path.exists():
        path.rename(target)
    else:
        target.write_bytes(b"mine")
    path.symlink_to(target)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_link], ids=["pipe", "folder", "link"])
@pytest.mark.parametrize("name", [name_of("1"), f"other{SUFFIX}"], ids=["the form", "beside it"])
def test_what_is_no_plain_file_is_neither_waited_for_nor_touched(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    """A named pipe would be waited for, for ever."""
    make(tmp_path / name)
    found: list[ServedForm] = []
    thread = threading.Thread(target=lambda: found.append(SharedForms(tmp_path).form_of("1", form)), daemon=True)
    thread.start()
    thread.join(30)

    assert not thread.is_alive()
    assert is_mapped(found[0]) == (name != name_of("1"))
    assert (tmp_path / name).lstat()


def test_an_unusable_bundle_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """The error is that of the bundle."""

    def prepare() -> ServedForm:
        raise BundleError("damaged")

    with pytest.raises(BundleError, match="damaged"):
        SharedForms(tmp_path).form_of("1", prepare)
    assert forms_in(tmp_path) == set()
    assert is_mapped(SharedForms(tmp_path).form_of("1", form))


PROGRAM = """
import sys, time
from pathlib import Path
from tools.shared_forms import SharedForms
from tests.unit.test_shared_forms import form
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
def prepare():
    (folder / f"prepared-{time.time_ns()}").touch()
    time.sleep(seconds)
    return form()
found = SharedForms(folder / "served").form_of("1", prepare)
(folder / f"done-{time.time_ns()}").touch()
sys.stdin.read()
"""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Callable[[float], "subprocess.Popen[bytes]"]]:
    """Start processes that prepare a form, and hold it until they end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(seconds: float) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(seconds)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def wait_for(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def count(folder: Path, prefix: str) -> int:
    return len(list(folder.glob(f"{prefix}-*")))


def test_two_workers_at_once_prepare_one_form(tmp_path: Path, workers: Callable[[float], object]) -> None:
    """And map the same file: were each to write its own, they would share nothing."""
    first, second = workers(1.0), workers(1.0)
    wait_for(lambda: count(tmp_path, "done") == 2)

    assert count(tmp_path, "prepared") == 1
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in (first, second)]  # type: ignore[attr-defined]
    [inodes] = {tuple(line.split()[4] for line in text.splitlines() if SUFFIX in line)[:1] for text in maps}
    assert inodes == (str((tmp_path / "served" / name_of("1")).stat().st_ino),)


def test_a_worker_that_is_killed_while_it_prepares_holds_up_nobody(
    tmp_path: Path, workers: Callable[[float], "subprocess.Popen[bytes]"]
) -> None:
    """Its lock goes with it."""
    killed = workers(1_000.0)
    wait_for(lambda: count(tmp_path, "prepared") == 1)
    workers(0.0)
    killed.kill()
    wait_for(lambda: count(tmp_path, "done") == 1)

    assert count(tmp_path, "prepared") == 2
    assert forms_in(tmp_path / "served") == {name_of("1")}


def test_a_worker_that_hangs_holds_up_nobody_for_ever(
    tmp_path: Path, workers: Callable[[float], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the others go on without it."""
    workers(1_000.0)
    wait_for(lambda: count(tmp_path, "prepared") == 1)
    monkeypatch.setattr("tools.shared_forms.WAIT_S", 0.2)

    assert is_mapped(SharedForms(tmp_path / "served").form_of("1", form))


def test_a_worker_that_maps_a_form_loads_no_library_that_only_preparing_needs(tmp_path: Path) -> None:
    """Arrow and safetensors take 40 MB; torch, pandas and SciPy are for training."""
    manifest = save_bundle(tmp_path, random_network(CONFIG, 3), Vocabulary(IDS, np.ones(40)), created_ms=1, metrics={})
    folder = tmp_path / manifest.bundle_id
    load_bundle(folder, SharedForms(tmp_path / "served").form_of)
    program = f"""
import sys
from pathlib import Path
from stream.worker import run_worker
from nextclick.bundle import load_bundle
from tools.shared_forms import SharedForms
load_bundle(Path({str(folder)!r}), SharedForms(Path({str(tmp_path / "served")!r})).form_of)[1].warm_up()
print(*({{"torch", "pandas", "scipy", "pyarrow", "safetensors"}} & set(sys.modules)))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "\n"
