"""Presets: parameters of models in a TOML file, a table for each model."""

import dataclasses
import json
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tools.files import write_whole
from training.evaluation.models import MODELS, Parameters, Value

FOLDER = Path(__file__).parent / "presets"  # those that come with the program, and where --tune writes
# Parameters of the baselines that divide, or that count neighbours.
_ABOVE_ZERO = ("half_life", "k", "sample_size", "place_decay", "age_decay", "distance_decay")


def load_preset(name_or_file: str) -> dict[str, Parameters]:
    """Read a preset.

    Args:
        name_or_file: one that comes with the program, or a path that ends with `.toml`.

    Returns:
        Model name to its parameters.

    Raises:
        PermanentError: no such preset, or one that is not right.
    """
    path = Path(name_or_file) if name_or_file.endswith(".toml") else FOLDER / f"{name_or_file}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml"))) or "none yet"
        raise PermanentError(
            f"--preset: there is no preset {name_or_file!r}; give a file that ends with .toml, or one of: {known}"
        ) from None
    except (OSError, ValueError) as error:
        raise PermanentError(f"the preset {path} cannot be read: {error}; correct it") from None
    for model, parameters in tables.items():
        _check(path, model, parameters)
    return tables


def without_settings(preset: Mapping[str, Parameters], given: Collection[str]) -> dict[str, Parameters]:
    """Leave out of the networks' tables what the user gave as a setting, which wins."""
    return {
        model: {name: value for name, value in parameters.items() if not (MODELS[model].is_seeded and name in given)}
        for model, parameters in preset.items()
    }


def make_place(path: Path) -> None:
    """Make the folder of a preset, and see that the preset can be written, before hours of work.

    Raises:
        PermanentError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(path, str(error.strerror)) from None
    if not all(os.access(place, os.W_OK) for place in (path.parent, path) if place.exists()):
        raise _not_written(path, "no right to write there")


def save_preset(path: Path, comment: str, preset: Mapping[str, Parameters]) -> None:
    """Write a preset; a file that is there is replaced as a whole: who ends the program has the old or the new one.

    Raises:
        PermanentError: it cannot be written.
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    for model, parameters in preset.items():
        lines += ["", f"[{model}]", *(f"{name} = {json.dumps(value)}" for name, value in parameters.items())]
    make_place(path)
    path = path.resolve()  # a link stays one
    try:
        write_whole(path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise _not_written(path, str(error.strerror)) from None


def _not_written(path: Path, found: str) -> PermanentError:
    return PermanentError(f"the preset {path} cannot be written: {found}; give another place with --preset-out")


def _check(path: Path, model: str, parameters: object) -> None:
    if model not in MODELS or not isinstance(parameters, dict):
        raise PermanentError(f"preset {path}: {model!r} is no table of parameters; the models are {', '.join(MODELS)}")
    defaults, fixed = MODELS[model].parameters(Settings()), MODELS[model].fixed
    for name, value in parameters.items():
        if name in fixed:
            raise PermanentError(
                f"preset {path}, table {model}: {name} cannot be set, it is always {json.dumps(defaults[name])} in "
                "this model; remove it"
            )
        if name == "seed" and MODELS[model].is_seeded:
            raise PermanentError(
                f"preset {path}, table {model}: a preset has no seed; remove it and give --seeds or --set seed=N"
            )
        if name not in defaults:
            known = ", ".join(known for known in defaults if known not in fixed)
            raise PermanentError(
                f"preset {path}, table {model}: {name!r} is no parameter of this model; it has {known or 'none'}"
            )
        if not _is_like(value, defaults[name]):
            raise PermanentError(
                f"preset {path}, table {model}: {name} is {json.dumps(value, default=str)}; give a value like "
                f"{json.dumps(defaults[name])}, and no negative one"
            )
        if name in _ABOVE_ZERO and not value:
            raise PermanentError(f"preset {path}, table {model}: {name} is {value}; give a value above 0")
    if MODELS[model].is_seeded:
        _check_ranges(path, model, parameters)


def _check_ranges(path: Path, model: str, parameters: dict[str, Any]) -> None:
    """See that the settings take the values of a network."""
    try:
        dataclasses.replace(Settings(), **parameters)
    except PermanentError as error:
        raise PermanentError(f"preset {path}, table {model}: {error}") from None


def _is_like(value: object, default: Value) -> bool:
    """Whether a value has the type of the default; a float, or nothing, also takes a whole number."""
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    kinds = int if isinstance(default, int) else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
