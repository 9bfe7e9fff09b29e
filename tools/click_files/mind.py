"""Reads MIND's behaviors.tsv: a line for each list of news that a user was shown, with what was clicked in it.

Source: the description of the data set: impression, user, time as 11/11/2019 9:05:58 AM, history, and shown news as
`N1-1 N2-0`, where 1 is a click. The history has no times and is not read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from tools.click_files.blocks import Block, block_parses
from tools.click_files.choices import ClickFile, refuse_chosen_columns
from tools.click_files.layouts import Layout
from tools.click_files.rows import TEXT, BadLine, Reading, Rows

_LAYOUT = Layout(user="user", item="news", time="time")
_N_VALUES = 5
_CLICKED = "-1"


def read_mind(file: ClickFile, mark: Mapping[str, str]) -> Reading:
    """Read the clicks.

    Raises:
        PermanentError: chosen columns or rows, or a damaged file.
    """
    refuse_chosen_columns(file, mark, "MIND's behaviors have")
    return Reading(
        layout=_LAYOUT,
        place="line",
        counted="event",
        found="user from the second value, time from the third, item from the news that were clicked",
        has_times=True,
        has_events=False,
        parses=block_parses(file.path, _behaviours),
    )


def _behaviours(block: Block) -> Rows:
    lines, users, items, times, bad = [], [], [], [], []
    n_other = 0
    for number, line in enumerate(block.content.decode(errors="replace").split("\n"), start=block.first_line):
        if not line.strip():
            continue
        values = line.removesuffix("\r").split("\t")
        if len(values) != _N_VALUES:
            bad.append(BadLine(number, f"expected {_N_VALUES} values, found {len(values)}"))
            continue
        try:
            moment = datetime.strptime(values[2], "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=UTC)
        except ValueError:
            bad.append(BadLine(number, f"expected a time like 11/11/2019 9:05:58 AM, found {values[2]!r:.60}"))
            continue
        shown = values[4].split()
        clicked = [news.removesuffix(_CLICKED) for news in shown if news.endswith(_CLICKED)]
        n_other += len(shown) - len(clicked)
        for news in clicked:
            lines.append(number)
            users.append(values[1])
            items.append(news)
            times.append(int(moment.timestamp()) * 1000)
    return Rows(
        lines=np.array(lines, dtype=np.int64),
        user=pa.array(users, TEXT),
        item=pa.array(items, TEXT),
        time=pa.array(times, pa.timestamp("ms")),
        bad=tuple(bad),
        n_other=n_other,
    )
