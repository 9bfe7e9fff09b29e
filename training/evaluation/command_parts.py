"""What the command lines of `nextclick evaluate` and `nextclick backtest` share."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nextclick.errors import PermanentError

if TYPE_CHECKING:
    from rich.table import Table

    from training.evaluation.models import Value

_WIDTH = 200  # columns of a table where no terminal says how wide it is


def read_seeds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> list[int] | None:
    """Read the option `--seeds`."""
    try:
        seeds = None if text is None else [int(number) for number in text.split(",")]
    except ValueError:
        seeds = []
    if seeds is not None and (not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds)):
        raise click.BadParameter(
            f"{text!r} is not a list of different whole numbers with commas between them, like 0,1,2"
        )
    return seeds


def picture(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Read the option `--plot`."""
    if path is not None and path.suffix not in (".png", ".svg"):
        raise click.BadParameter(f"{str(path)!r} does not end with .png or .svg")
    return path


def require_place(option: str, path: Path) -> None:
    """See that what an option names can be written, before hours of work.

    Raises:
        PermanentError: it cannot.
    """
    folder, is_bundle = path.absolute().parent, option == "--save-bundle"
    if not folder.is_dir():
        raise PermanentError(f"{option} {path}: the folder {folder} does not exist; make it, or give another place")
    if path.exists() and path.is_dir() != is_bundle:
        found, wanted = ("a file", "a folder") if is_bundle else ("a folder", "a file")
        raise PermanentError(f"{option} {path}: this is {found}, and {wanted} is to be written; give another name")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise PermanentError(f"{option} {path}: there is no right to write there; give another place")


def require_devices(parameters: "Mapping[str, Mapping[str, Value]]") -> None:
    """See that the networks, if there are any, have where to compute, before the data are read.

    Args:
        parameters: of each model, by its name.

    Raises:
        PermanentError: a GPU is asked for and there is none.
    """
    devices = {str(of_model["device"]) for of_model in parameters.values() if "device" in of_model}
    if devices:
        from training.learning.device import chosen_device  # torch takes seconds to load

        for device in devices:
            chosen_device(device)


def print_tables(*tables: "Table") -> None:
    """Print tables; where no terminal says how wide it is, they are wide."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    for table in tables:
        console.print(table)
