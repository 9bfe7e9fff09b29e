"""Reads OTTO's JSON lines: a session a line, with its events.

Source: "Data Format" in the README of the OTTO data set: {"session": 1, "events": [{"aid": 2, "ts": ms, "type": ..}]}.
"""

from collections.abc import Mapping
from itertools import repeat
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa

from tools.click_files.blocks import Block, block_parses
from tools.click_files.choices import ClickFile, refuse_chosen_columns
from tools.click_files.layouts import Layout
from tools.click_files.rows import TEXT, BadLine, Reading, Rows

_LAYOUT = Layout(
    user="session",
    item="aid",
    time="ts",
    event="type",
    event_types={"clicks": "view", "carts": "cart", "orders": "purchase"},
)
_MAX_INT = 2**63 - 1  # what a column holds
_Int = Annotated[int, msgspec.Meta(ge=-_MAX_INT, le=_MAX_INT)]


class _Event(msgspec.Struct, gc=False):
    aid: _Int
    ts: _Int
    type: str


class _Session(msgspec.Struct, gc=False):
    session: _Int
    events: list[_Event]


def read_otto(file: ClickFile, mark: Mapping[str, str]) -> Reading:
    """Read OTTO's JSON, a session a line: {"session": 1, "events": [{"aid": 2, "ts": 1661200010000, "type": "carts"}]}.

    Raises:
        PermanentError: chosen columns or rows, or a damaged file.
    """
    refuse_chosen_columns(file, mark, "OTTO's JSON has")
    return Reading(
        layout=_LAYOUT,
        place="line",
        counted="event",
        found="user from session, item from aid, time from ts, event type from type",
        has_times=True,
        has_events=True,
        parses=block_parses(file.path, _sessions),
    )


def _sessions(block: Block) -> Rows:
    decode = msgspec.json.Decoder(_Session).decode
    lines: list[int] = []
    users: list[int] = []
    items, times, types, bad = [], [], [], []
    for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
        if not line or line.isspace():
            continue
        try:
            session = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            bad.append(BadLine(number, f"expected a session of OTTO's JSON, found another ({error})"))
            continue
        lines.extend(repeat(number, len(session.events)))
        users.extend(repeat(session.session, len(session.events)))
        for event in session.events:
            items.append(event.aid)
            times.append(event.ts)
            types.append(event.type)
    return Rows(
        lines=np.array(lines, dtype=np.int64),
        user=pa.array(users, pa.int64()),
        item=pa.array(items, pa.int64()),
        time=pa.array(times, pa.int64()),
        event=pa.array(types, TEXT),
        bad=tuple(bad),
    )
