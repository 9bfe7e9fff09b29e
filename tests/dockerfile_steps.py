"""Runs the steps of deploy/Dockerfile as plain commands in a folder: no Docker engine is needed to see that they work.

What stands for the two base images is this machine's Python. Absolute paths of the image lie below the folder; else
every command is the Dockerfile's own, as `sh -c` gets it.

    python -m tests.dockerfile_steps FOLDER [TORCH_INDEX=ADDRESS]
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
# Whatever the Dockerfile names of the image's file system; what a command of this machine brings stays where it is.
OF_THE_IMAGE = re.compile(r"(?<![\w.])/(?=(opt/nextclick|src|data|tmp/sbom)\b)")
FOR_GPUS = re.compile(r"site-packages/(nvidia|cuda|triton)|lib(torch|c10)_(cuda|nvshmem)|caffe2_nvrtc")


class Instruction(NamedTuple):
    """A line of a Dockerfile, with those that continue it.

    Attributes:
        name: RUN, for example.
        text: what follows.
    """

    name: str
    text: str


@dataclass
class Image:
    """What the steps have made.

    Attributes:
        root: the folder that stands for `/`.
        environment: variables that the image sets, paths as they are on this machine.
        user: numbers of user and group.
        entrypoint: what every container runs; its arguments are added.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: tuple[int, int] = (0, 0)
    entrypoint: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """Give a text with the image's paths as they are on this machine."""
        return OF_THE_IMAGE.sub(f"{self.root}/", text)

    def command(self, *arguments: str) -> list[str]:
        """Give the command line of a container on this machine."""
        program = shutil.which(self.entrypoint[0], path=self.environment["PATH"])
        assert program is not None, f"{self.entrypoint[0]} is not in the image"
        return [program, *self.entrypoint[1:], *arguments]


def read_instructions(dockerfile: Path = DOCKERFILE) -> list[Instruction]:
    """Give the instructions of a Dockerfile in their order."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines() if line.strip()]


def build(folder: Path, arguments: Mapping[str, str]) -> Image:
    """Run all steps.

    Args:
        folder: empty; gets what the image holds.
        arguments: of the build, by name.

    Raises:
        subprocess.CalledProcessError: a step failed.
    """
    image = Image(folder)
    variables, workdir = dict(os.environ), folder
    for name, text in read_instructions():
        if name == "ARG":
            variable, _, default = text.partition("=")
            variables[variable] = arguments.get(variable, default.strip('"'))
        elif name == "WORKDIR":
            workdir = Path(image.here(text))
            workdir.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(text, image, workdir)
        elif name == "RUN":
            subprocess.run(["sh", "-c", image.here(text)], cwd=workdir, env=variables, check=True)
        elif name == "ENV":
            image.environment = {key: image.here(value) for key, value in _pairs(text, dict(os.environ))}
        elif name == "USER":
            image.user = tuple(int(number) for number in text.split(":"))  # type: ignore[assignment]
        elif name == "ENTRYPOINT":
            image.entrypoint = json.loads(text)
    return image


def _copy(text: str, image: Image, workdir: Path) -> None:
    """Copy from the checkout; what is copied from another stage lies there already."""
    *sources, target = text.split()
    if sources[0].startswith("--from"):
        return
    for source in (ROOT / source for source in sources):
        if source.is_dir():
            shutil.copytree(source, workdir / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, workdir / target)


def _pairs(text: str, before: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for pair in text.split():
        name, _, value = pair.partition("=")
        yield name, value.replace("$PATH", before["PATH"])


def main() -> None:
    """Build into a folder and say how large it is."""
    parser = argparse.ArgumentParser(description="run the steps of deploy/Dockerfile in a folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("argument", nargs="*", help="NAME=VALUE, of the build", default=[])
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    build(options.folder.resolve(), dict(argument.split("=", 1) for argument in options.argument))
    sizes = {
        str(path): path.stat().st_size
        for path in (options.folder / "opt").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    for_gpus = sum(size for path, size in sizes.items() if FOR_GPUS.search(path))
    sys.stdout.write(f"{sum(sizes.values()) / 1e6:.0f} MB beside the base image, {for_gpus / 1e6:.0f} MB for GPUs\n")


if __name__ == "__main__":
    main()
