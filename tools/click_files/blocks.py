"""Cuts a file into blocks of whole lines, so that its beginning is read while its end is still on the disk."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from nextclick.errors import PermanentError
from tools.click_files.lines import MOST_LINES
from tools.click_files.rows import Parse, Rows
from tools.click_files.sources import open_text

_BLOCK_BYTES = 8 << 20
_LONGEST_LINE = 64 << 20  # bytes; more is no line


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whole lines of a file."""

    content: bytes  # ends with a new line
    first_line: int  # its number, from 1 on


def block_parses(path: Path, read: Callable[[Block], Rows]) -> Iterator[Parse]:
    """Give functions that read the blocks of a file, one each."""
    with open_text(path) as stream:
        for block in blocks(path.name, stream):
            yield partial(read, block)


def blocks(name: str, stream: BinaryIO) -> Iterator[Block]:
    """Cut a file into blocks at the ends of lines. A carriage return alone ends a line where it ends the first one."""
    rest, line, old_ends = b"", 1, False
    while more := stream.read(_BLOCK_BYTES):
        while more.endswith(b"\r") and (next_bytes := stream.read(1)):  # both letters of an end in one block
            more += next_bytes
        if line == 1 and not rest.strip():
            old_ends = _has_old_ends(more)
        if old_ends:
            more = more.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = _end_of_lines(rest, more)
        if not end:
            rest += more
            if len(rest) > _LONGEST_LINE:
                raise PermanentError(
                    f"{name}, line {line}: expected lines of at most {_LONGEST_LINE >> 20} MB, found a longer one; "
                    "this is no file with one click a line"
                )
            continue
        content = b"".join((rest, memoryview(more)[:end]))
        rest = more[end:]
        yield Block(content=content, first_line=line)
        line += content.count(b"\n")
    if rest:
        yield Block(content=rest if rest.endswith(b"\n") else rest + b"\n", first_line=line)


def _has_old_ends(start: bytes) -> bool:
    """Say whether the first line that is not empty has a carriage return inside it: then lines after it do, too."""
    line, _, _ = start.lstrip().partition(b"\n")
    return b"\r" in line.removesuffix(b"\r")


def _end_of_lines(rest: bytes, more: bytes) -> int:
    """Give where the last line ends, or one of the last before it that is not inside a quoted value."""
    last = end = more.rfind(b"\n") + 1
    n_quotes = rest.count(b'"') + more.count(b'"', 0, end)
    for _ in range(MOST_LINES):
        if n_quotes % 2 == 0 or not end:
            return end or last
        before = more.rfind(b"\n", 0, end - 1) + 1
        n_quotes -= more.count(b'"', before, end)
        end = before
    return last  # quotes are odd somewhere before, and say nothing
