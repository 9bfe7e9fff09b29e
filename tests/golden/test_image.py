"""What is installed and what the image is built from: a folder that is forgotten in a list is missing only there."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def packages() -> set[str]:
    """The packages that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return set(project["tool"]["setuptools"]["packages"])


def test_every_package_is_installed() -> None:
    """An installation from the checkout, as developers have it, would not notice."""
    top = {name.split(".")[0] for name in packages()}
    found = {path.parent.relative_to(ROOT) for name in top for path in (ROOT / name).rglob("__init__.py")}

    assert {".".join(path.parts) for path in found} == packages()


def test_the_image_holds_every_package() -> None:
    """Each top-level folder is copied."""
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY")}

    assert {name.split(".")[0] for name in packages()} - copied == set()
