"""Finds the file of clicks in a data set's folder, and tells its format from its first line."""

from pathlib import Path

from nextclick.errors import PermanentError
from tools.click_files.files import first_line
from tools.click_files.layouts import FILE_NAMES, FORMATS, LAYOUTS, OTTO, OTTO_FIRST_LINE, ChosenColumns, ClickFile

AUTO = "auto"
_SHOWN = 60  # characters of a first line in a message


def recognise(path: Path, file_format: str, columns: ChosenColumns, where: dict[str, str]) -> ClickFile:
    """Find out what is to be read.

    Args:
        path: a file, or the folder of an unpacked data set.
        file_format: one of FORMATS, or AUTO to tell it from the first line.
        columns: those that the user named.
        where: the values that a row must have.

    Raises:
        PermanentError: no file of clicks, several, or one of a format that cannot be told.
    """
    if path.is_dir():
        path = _file_in(path, file_format)
    if file_format == AUTO:
        file_format = _format_of(path)
    return ClickFile(path=path, file_format=file_format, columns=columns, where=where)


def _file_in(folder: Path, file_format: str) -> Path:
    names = [name for key, names in FILE_NAMES.items() if file_format in (AUTO, key) for name in names]
    found = [folder / (name + end) for name in names for end in ("", ".gz") if (folder / (name + end)).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(path.name for path in found)
        raise PermanentError(f"{folder}: expected one file of clicks, found {several}; give the path of one")
    expected = f"one of {', '.join(names)}" if names else "a file"
    raise PermanentError(f"{folder}: expected {expected}, found none in this folder; give the path of the file")


def _format_of(path: Path) -> str:
    line = first_line(path)
    if OTTO_FIRST_LINE.match(line):
        return OTTO
    for file_format, layouts in LAYOUTS.items():
        if any(layout.first_line.match(line) for layout in layouts):
            return file_format
    if not line:
        raise PermanentError(f"{path.name} is empty; correct the path")
    shown = repr(line.rstrip("\r\n")[:_SHOWN])
    raise PermanentError(
        f"{path.name}, line 1: expected the first line of one of {', '.join(FORMATS)}, found {shown}; "
        "name the format with --format"
    )
