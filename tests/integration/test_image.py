"""The steps of deploy/Dockerfile, and what they make: a worker runs in it as the image's user, who may write little.

torch is this machine's: an index in a folder has a package that leads to it, for the real one is some GB to fetch.
"""

import base64
import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.dockerfile_steps import Image, build
from tests.integration.test_composition import environment_of

pytestmark = [
    pytest.mark.release,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("image"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the image's folders to its user, and becomes it"),
]


def write_index(folder: Path) -> str:
    """Make an index with one package, torch, which leads to this machine's; gives its address."""
    version, packages = metadata.version("torch"), Path(metadata.distribution("torch").locate_file("."))
    led_to = folder / "led-to"
    led_to.mkdir(parents=True)
    for path in packages.iterdir():
        if path.name in ("torch", "torchgen", "functorch", "triton", "nvidia", "cuda"):
            (led_to / path.name).symlink_to(path)
    info = f"torch-{version}.dist-info"
    files = {
        "torch-of-this-machine.pth": f"{led_to}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(text)])
    rows.writerow([f"{info}/RECORD", "", ""])
    wheel = folder / "simple" / "torch" / f"torch-{version}-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (files | {f"{info}/RECORD": record.getvalue()}).items():
            archive.writestr(name, text)
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return (folder / "simple").as_uri()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """What the steps make, in a folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="nextclick-image-") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "root").mkdir()
        yield build(Path(folder) / "root", {"TORCH_INDEX": write_index(Path(folder) / "index")})


def run(image: Image, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a container's command as the image's user, in a folder that is not this one.

    The user may read everything, for this machine's Python can lie where only root looks, and write what is its own.
    """
    user, group = image.user
    as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return subprocess.Popen(
        [*as_user, *may_read, *image.command(*arguments)],
        env={"HOME": "/nonexistent"} | image.environment | variables,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_image_says_what_is_in_it(image: Image) -> None:
    """In CycloneDX: nextclick and what it was installed with, at the versions that are tested together."""
    inventory = json.loads(Path(image.here("/opt/nextclick/sbom.cdx.json")).read_text())
    versions = {component["name"]: component["version"] for component in inventory["components"]}

    assert inventory["bomFormat"] == "CycloneDX"
    for name in ("nextclick", "numpy", "aiokafka", "confluent-kafka", "torch", "dumb-init"):
        installed = "1.2.5.post1" if name == "dumb-init" else metadata.version(name)
        assert versions[name] == installed


def test_the_image_has_no_installer_and_no_tests_of_others(image: Image) -> None:
    """All that is there runs. Without torch it is small enough for an image of 1.2 GB with torch's CPU build."""
    files = [path for path in Path(image.here("/opt/nextclick")).rglob("*") if not path.is_symlink()]
    size = sum(path.stat().st_size for path in files if path.is_file())

    assert [path for path in files if path.name in ("pip", "tests")] == []
    assert size < 550e6


def test_a_worker_of_the_image_answers_a_click_and_ends_when_it_is_told(image: Image, playground: Any) -> None:
    """With the composition's variables; its first process passes SIGTERM on."""
    mine = playground.settings.as_environment()
    own = {k: v for k, v in mine.items() if k.endswith(("_TOPIC", "_APP", "_BROKER", "_PORT"))}
    variables = {name: image.here(value) for name, value in environment_of("worker").items()} | own
    worker = run(image, "stream", **variables)
    try:
        playground.send([("user-1", "item-1", 1_700_000_000_000)])
        updates = playground.wait_until_answered()
        written = {path.stat().st_uid for path in Path(image.here("/data")).rglob("*")}
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=15)
    finally:
        worker.kill()

    assert worker.returncode == 0, said
    assert updates[0].items[0].item_id == "item-1"
    assert written == {image.user[0]}
