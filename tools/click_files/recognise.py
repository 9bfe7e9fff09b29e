"""Finds the file of clicks in a data set's folder, and tells its format from its beginning."""

from pathlib import Path
from typing import Any

import msgspec

from nextclick.errors import PermanentError
from tools.click_files.choices import AUTO, Choices, ClickFile
from tools.click_files.heads import first_lines, read_head
from tools.click_files.layouts import (
    ADRESSA,
    CSV,
    FILE_NAMES,
    JSONL,
    MIND,
    MIND_FIRST_LINE,
    OTTO,
    PARQUET,
    layout_of_names,
)
from tools.click_files.sources import damage_as_one_line, table_kind
from tools.click_files.tables import column_names

_PACKED = ("", ".gz", ".zst", ".zip", ".bz2", ".xz")


def recognise(path: Path, file_format: str, choices: Choices) -> ClickFile:
    """Find out what is to be read.

    Args:
        path: a file, or the folder of an unpacked data set.
        file_format: one of FORMATS, or AUTO to tell it from the beginning.
        choices: what the user said.

    Raises:
        PermanentError: no file of clicks, several, or one of a format that cannot be told.
    """
    with damage_as_one_line(path):
        if path.is_dir():
            path = _file_in(path, file_format)
        if path.exists() and not path.is_file():
            raise PermanentError(f"{path} is a pipe or a device, and a file is read twice; write the clicks to a file")
    if file_format == AUTO:
        file_format = _format_of(path, choices)
    return ClickFile(path=path, file_format=file_format, choices=choices)


def _file_in(folder: Path, file_format: str) -> Path:
    names = [name for key, names in FILE_NAMES.items() if file_format in (AUTO, key) for name in names]
    found = [folder / (name + end) for name in names for end in _PACKED if (folder / (name + end)).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(path.name for path in found)
        raise PermanentError(f"{folder}: expected one file of clicks, found {several}; give the path of one")
    expected = f"one of {', '.join(names)}" if names else "a file"
    raise PermanentError(f"{folder}: expected {expected}, found none in this folder; give the path of the file")


def _format_of(path: Path, choices: Choices) -> str:
    if table_kind(path) is not None:
        file_format = layout_of_names(column_names(path))
        return PARQUET if file_format == CSV else file_format
    line = first_lines(path)[0]
    if line.lstrip()[:1] in ("{", "["):
        return _json_format(path, line)
    if choices.has_header and MIND_FIRST_LINE.match(line):
        return MIND
    return read_head(path, AUTO, choices).file_format


def _json_format(path: Path, line: str) -> str:
    """Tell the format of JSON lines; a document over several lines is none."""
    try:
        document: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        if line.strip() in ("{", "[", "[{") or line.lstrip().startswith("["):
            raise PermanentError(
                f"{path.name}: expected a JSON object a line, found one document over several lines; write a line for "
                "each click, for example with jq -c '.[]'"
            ) from None
        return JSONL
    if isinstance(document, dict):
        if isinstance(document.get("events"), list) and "session" in document:
            return OTTO
        if {"eventId", "userId", "sessionStart", "time"} <= document.keys():
            return ADRESSA
    return JSONL
