"""Reads all clicks of a file, whatever its format."""

from collections.abc import Mapping

from nextclick.errors import PermanentError
from tools.click_files.delimited import read_delimited
from tools.click_files.layouts import OTTO, ClickFile
from tools.click_files.otto import read_otto
from tools.click_files.recorded import RecordedClicks


def read_clicks(file: ClickFile, mark: Mapping[str, str] | None = None) -> RecordedClicks:
    """Read all clicks of a file and sort them by time; the sort is stable.

    Args:
        file: what to read.
        mark: column to value; rows that have all of these values are marked, the others are not.

    Raises:
        PermanentError: a missing column, a line that cannot be read, a damaged file, or no click that is taken.
    """
    if file.file_format == OTTO:
        if mark:
            raise PermanentError(f"{file.path.name}: OTTO's JSON has no columns to test; leave --test-where away")
        clicks = read_otto(file)
    else:
        clicks = read_delimited(file, mark or {})
    if not len(clicks):
        conditions = " and ".join(f"{name}={value}" for name, value in file.where.items())
        which = f" with {conditions}; correct --where" if conditions else "; correct the path"
        raise PermanentError(f"{file.path.name} has no clicks{which}")
    return clicks.by_time()
