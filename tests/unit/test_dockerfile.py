"""deploy/Dockerfile: clean by hadolint, small rights, nothing left out. tests/dockerfile_steps.py runs its steps."""

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.dockerfile_steps import DOCKERFILE, Instruction, read_instructions

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = read_instructions()


def texts(name: str, instructions: list[Instruction] = INSTRUCTIONS) -> list[str]:
    """What all instructions of a name say."""
    return [instruction.text for instruction in instructions if instruction.name == name]


def copied() -> set[str]:
    """What the image takes from the checkout."""
    return {source for text in texts("COPY") if "--from" not in text for source in text.split()[:-1]}


def last_stage() -> list[Instruction]:
    """The instructions that make the image itself."""
    start = max(number for number, instruction in enumerate(INSTRUCTIONS) if instruction.name == "FROM")
    return INSTRUCTIONS[start:]


def test_hadolint_finds_nothing() -> None:
    """With all of its rules, and no exception in the file."""
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run(
        [hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )

    assert (found.stdout, found.returncode) == ("", 0)
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_every_package_is_in_the_image() -> None:
    """A package that is not copied would be missing in a container only."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]

    assert {package.partition(".")[0] for package in packages} <= copied()


def test_the_builder_sees_what_is_copied_and_nothing_else() -> None:
    """.dockerignore leaves everything out but for that: no shared data, no environment, no history."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]

    assert first == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == copied()
    assert any(fnmatch("nextclick/__pycache__", line) for line in rest)


@pytest.mark.parametrize("index", ["", "default"])
def test_where_torch_comes_from_must_be_said(index: str) -> None:
    """Or one would get some GB for GPUs unasked; the line names both ways out."""
    first = texts("RUN")[0]
    step = subprocess.run(["sh", "-c", first], env={"TORCH_INDEX": index}, capture_output=True, text=True, check=False)

    assert step.returncode == (0 if index else 1)
    assert ("TORCH_INDEX=ADDRESS" in step.stderr and "TORCH_INDEX=default" in step.stderr) == (not index)


def test_the_image_runs_as_a_number_and_passes_signals_on() -> None:
    """Kubernetes cannot tell whether a user that has a name is root."""
    assert texts("USER", last_stage()) == ["10001:10001"]
    assert texts("ENTRYPOINT", last_stage()) == ['["dumb-init", "--single-child", "--", "nextclick"]']


def test_nothing_is_installed_in_the_image_itself() -> None:
    """It is what the first stage has made, on a base without a compiler."""
    [base] = [text for text in texts("ARG") if text.startswith("BASE_IMAGE=")]

    assert "-slim" in base
    assert [text for text in texts("RUN", last_stage()) if "pip" in text or "apt" in text] == []
    assert texts("COPY", last_stage()) == ["--from=build /opt/nextclick /opt/nextclick"]
