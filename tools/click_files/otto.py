"""Reads the OTTO data set: a session a line, as JSON with its events.

Source: "Data Format" in the README of the OTTO data set: {"session": 1, "events": [{"aid": 2, "ts": ms, "type": ..}]}.
"""

from array import array

import msgspec
import numpy as np

from nextclick.errors import PermanentError
from tools.click_files.files import bad_line, damage_as_one_line, open_bytes
from tools.click_files.layouts import OTTO_EVENT_TYPES, ChosenColumns, ClickFile
from tools.click_files.recorded import RecordedClicks
from tools.click_files.times import is_ms


class _Event(msgspec.Struct, gc=False):
    aid: int
    ts: int
    type: str


class _Session(msgspec.Struct, gc=False):
    session: int
    events: list[_Event]


def read_otto(file: ClickFile) -> RecordedClicks:
    """Read all clicks, in the order of the file. A session is a user.

    Raises:
        PermanentError: chosen columns or rows, a line that cannot be read, or a damaged file.
    """
    if file.columns != ChosenColumns() or file.where:
        raise PermanentError(
            f"{file.path.name}: OTTO's JSON has no columns to choose or to test; "
            "leave --user, --item, --time, --event and --where away"
        )
    decoder = msgspec.json.Decoder(_Session)
    event_numbers = {word: number for number, word in enumerate(OTTO_EVENT_TYPES)}
    item_numbers: dict[int, int] = {}
    sessions, n_events = array("q"), array("i")
    items, times, events = array("i"), array("q"), array("B")
    line_number = 0
    try:
        with damage_as_one_line(file.path), open_bytes(file.path) as lines:
            for line_number, line in enumerate(lines, start=1):
                if line.isspace():
                    continue
                session = decoder.decode(line)
                sessions.append(session.session)
                n_events.append(len(session.events))
                for event in session.events:
                    if not is_ms(event.ts):
                        raise bad_line(file.path, line_number, "`ts` in milliseconds since 1970", str(event.ts))
                    items.append(item_numbers.setdefault(event.aid, len(item_numbers)))
                    times.append(event.ts)
                    events.append(event_numbers[event.type])
    except KeyError as unknown:
        expected = f"one of the types {', '.join(OTTO_EVENT_TYPES)}"
        raise bad_line(file.path, line_number, expected, str(unknown)) from None
    except (msgspec.DecodeError, OverflowError) as error:
        raise bad_line(file.path, line_number, "a session of OTTO's JSON", f"another ({error})") from None
    users, user_of_line = np.unique(np.frombuffer(sessions, np.int64), return_inverse=True)
    return RecordedClicks(
        users=[str(user) for user in users.tolist()],
        items=[str(item) for item in item_numbers],
        event_types=list(OTTO_EVENT_TYPES.values()),
        user_index=np.repeat(user_of_line.astype(np.int32), np.frombuffer(n_events, np.int32)),
        item_index=np.frombuffer(items, np.int32),
        timestamp_ms=np.frombuffer(times, np.int64),
        event_index=np.frombuffer(events, np.uint8),
        is_marked=None,
    )
