"""Presets: parameters of models in a TOML file, a table for each model."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.offline.models import MODELS, Parameters, Value

FOLDER = Path(__file__).parents[1] / "presets"  # those that come with the program, and where --tune writes


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
            f"--preset expects a file that ends with .toml or one of these names: {known}; found {name_or_file!r}"
        ) from None
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"preset {path}: expected a TOML file that can be read, found: {error}; correct it"
        ) from None
    for model, parameters in tables.items():
        _check(path, model, parameters)
    return tables


def save_preset(path: Path, comment: str, preset: Mapping[str, Parameters]) -> None:
    """Write a preset; a file that is there is replaced.

    Raises:
        PermanentError: it cannot be written.
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    for model, parameters in preset.items():
        lines += ["", f"[{model}]", *(f"{name} = {json.dumps(value)}" for name, value in parameters.items())]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise PermanentError(
            f"expected to write the preset {path}, found: {error.strerror}; give another place with --preset-out"
        ) from None


def _check(path: Path, model: str, parameters: object) -> None:
    if model not in MODELS or not isinstance(parameters, dict):
        raise PermanentError(
            f"preset {path} expects tables that are named {', '.join(MODELS)}, found {model!r}; correct it"
        )
    defaults = MODELS[model].parameters(Settings())
    for name, value in parameters.items():
        if name not in defaults:
            raise PermanentError(
                f"preset {path}, table {model}, expects some of {', '.join(defaults) or 'nothing'}, "
                f"found {name!r}; correct it"
            )
        if not _is_like(value, defaults[name]):
            raise PermanentError(
                f"preset {path}, table {model}, expects {name} like {json.dumps(defaults[name])} and not negative, "
                f"found {json.dumps(value, default=str)}; correct it"
            )


def _is_like(value: object, default: Value) -> bool:
    """Whether a value has the type of the default; a float, or nothing, also takes a whole number."""
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    kinds = int if isinstance(default, int) else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
