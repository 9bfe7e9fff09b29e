"""Packages of Node's that tests run: installed once, by the versions in a package.json, into the user's cache."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from demo.kafka_download import exclusive
from tools.files import move_whole

_CACHE = Path.home() / ".cache" / "nextclick" / "node"
_INSTALL_S = 300


def node_program(folder: Path) -> Path:
    """Give a copy of a folder with a package.json, with its packages installed; skips the test where they cannot be."""
    if missing := [tool for tool in ("node", "npm") if shutil.which(tool) is None]:
        pytest.skip(f"needs {' and '.join(missing)}, which is not installed")
    sources = sorted(path for path in folder.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in sources)).hexdigest()[:16]
    home = _CACHE / f"{folder.name}-{digest}"
    if not home.exists():
        with exclusive(_CACHE), tempfile.TemporaryDirectory(dir=_CACHE) as name:
            if not home.exists():
                staging = Path(name) / "program"
                staging.mkdir()
                for path in sources:
                    shutil.copy(path, staging)
                _install(staging)
                move_whole(staging, home)
    return home


def _install(folder: Path) -> None:
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the packages of {folder.name} within {_INSTALL_S} s")
    if done.returncode != 0:
        pytest.skip(f"npm could not install packages: {done.stderr.strip().splitlines()[:1]}")
