"""A data set becomes a training and a test part: by time, by share or by a column, and nothing of the test leaks."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nextclick.clicks import EVENT_TYPES, OTHER_EVENT
from nextclick.errors import PermanentError
from tools.click_files.choices import AUTO, Choices, ClickFile
from tools.click_files.recognise import recognise
from tools.click_files.recorded import RecordedClicks
from training.evaluation.data_source import USUAL_EVENTS, USUAL_RULES, DataSource, SplitRule
from training.evaluation.offline_data import OfflineData, read_offline_data, split, validation_split
from training.learning.sequences import Sequences

REAL_DATA = Path(__file__).parents[2] / "../shared/data"
HOUR = 3_600_000
Row = tuple[str, str, float]  # user, item, hours


def test_sessions_that_end_in_the_last_hours_are_the_test(tmp_path: Path) -> None:
    """As a whole, also with what they clicked before; exactly at the border is in."""
    rows = [
        ("a", "x", 0),
        ("b", "y", 1),
        ("c", "x", 2),
        ("b", "x", 9.9),
        ("c", "y", 10),
        ("d", "x", 11),
        ("d", "y", 20),
    ]

    data = split(_recorded(rows), SplitRule(test_hours=10))

    assert _sessions(data.train, data) == ["x", "yx"]
    assert _sessions(data.test, data) == ["xy", "xy"]
    assert data.test.gap_s.tolist() == [0, 8 * 3600, 0, 9 * 3600]


def test_times_may_count_from_the_first_click(tmp_path: Path) -> None:
    """A data set can hide when its clicks were; nothing of it is sent."""
    path = tmp_path / "clicks.csv"
    rows = [("a", "x", 1), ("a", "y", 60), ("b", "x", 7_200), ("b", "y", 7_260)]
    path.write_text("user_id,item_id,time\n" + "".join(f"{user},{item},{at}\n" for user, item, at in rows))
    source = DataSource(file=recognise(path, AUTO, Choices()), rule=SplitRule(test_hours=1))

    data = read_offline_data(source)

    assert (data.train_ms.tolist(), data.test_ms.tolist()) == ([1_000, 60_000], [7_200_000, 7_260_000])


def test_a_share_takes_the_sessions_that_end_last() -> None:
    """With and without times; without, the order of the file is that of time and gaps are 0."""
    rows = [("a", "x", 0), ("b", "x", 1), ("c", "y", 2), ("b", "y", 3), ("d", "x", 4), ("a", "y", 5)]
    with_times, without = _recorded(rows), _recorded(rows, has_times=False)

    parts = [split(clicks, SplitRule(test_share=0.25)) for clicks in (with_times, without)]

    for data in parts:
        assert _sessions(data.train, data) == ["y", "xy", "x"]
        assert _sessions(data.test, data) == ["xy"]
    assert parts[0].test.gap_s.tolist() == [0, 5 * 3600]
    assert parts[1].test.gap_s.tolist() == [0, 0]


def test_a_column_can_say_what_is_the_test() -> None:
    """Rows that are marked, also those of a session whose others are not; a user in both parts is two sessions."""
    rows = [("a", "x", 0), ("a", "y", 1), ("a", "x", 2), ("b", "x", 3), ("a", "y", 4)]
    clicks = _recorded(rows, marked=[0, 0, 1, 0, 1])

    data = split(clicks, SplitRule(test_where={"split": "test"}))

    assert _sessions(data.train, data) == ["xy", "x"]
    assert _sessions(data.test, data) == ["xy"]


def test_unknown_items_and_then_short_sessions_leave_the_test() -> None:
    """In this order: a session of which one known click is left is dropped. Training keeps its single clicks."""
    rows = [
        *[("a", "x", 0), ("b", "y", 0), ("b", "z", 1)],
        *[("c", "x", 8), ("c", "new", 8), ("c", "y", 9), ("d", "new", 9), ("d", "x", 9), ("e", "x", 9), ("e", "y", 9)],
    ]

    data = split(_recorded(rows), SplitRule(test_hours=2))

    assert _sessions(data.train, data) == ["x", "yz"]
    assert _sessions(data.test, data) == ["xy", "xy"]
    assert sorted(data.item_ids) == ["x", "y", "z"]
    assert data.n_items == 3
    assert data.test.gap_s.tolist()[:2] == [0, 3600]


def test_items_are_numbered_without_gaps() -> None:
    """An item that only the test has takes no row of the model, wherever it stood."""
    rows = [("t", "new", 0), ("a", "x", 1), ("a", "y", 2), ("t", "y", 8), ("t", "x", 9)]

    data = split(_recorded(rows), SplitRule(test_hours=1))

    assert sorted(data.item_ids) == ["x", "y"]
    assert sorted(set(data.train.item_index.tolist())) == [0, 1]


def test_age_rank_is_the_place_in_the_log_of_each_part() -> None:
    """From 0 without gaps in both, also where sessions overlap."""
    rows = [("a", "x", 0), ("b", "y", 1), ("a", "y", 2), ("b", "x", 3), ("c", "x", 8), ("d", "y", 9), ("c", "y", 9)]
    rows += [("d", "x", 9)]

    data = split(_recorded(rows), SplitRule(test_hours=2))

    assert data.train.age_rank.tolist() == [0, 2, 1, 3]
    assert data.test.age_rank.tolist() == [0, 2, 1, 3]


def test_pauses_cut_users_into_sessions() -> None:
    """A pause longer than the gap begins a new one; one as long does not. The halves can be on both sides."""
    rows = [("a", "x", 0), ("b", "y", 0.1), ("a", "y", 0.5), ("a", "x", 1.25), ("b", "x", 9), ("b", "y", 9.25)]

    data = split(_recorded(rows), SplitRule(test_hours=2, session_gap_minutes=30))

    assert _sessions(data.train, data) == ["y", "xy", "x"]
    assert _sessions(data.test, data) == ["xy"]


def test_event_types_are_the_codes_of_the_stream() -> None:
    """Unknown ones are the code for others; a file without them has views."""
    rows = [("a", "x", 0), ("a", "y", 1), ("b", "x", 8), ("b", "y", 9)]

    data = split(_recorded(rows, events=["like", "wish", "view", "view"]), SplitRule(test_hours=2))

    assert data.train.event_type.tolist() == [EVENT_TYPES.index("like"), OTHER_EVENT]
    assert split(_recorded(rows), SplitRule(test_hours=2)).train.event_type.tolist() == [0, 0]


def test_the_newest_share_of_training_can_be_taken() -> None:
    """The test part stays, but for items that are no longer known."""
    rows = [("a", "x", 0), ("b", "y", 1), ("c", "x", 2), ("d", "z", 3), ("e", "x", 8), ("e", "y", 9), ("e", "z", 9)]

    data = split(_recorded(rows), SplitRule(test_hours=2, train_share=0.5))

    assert _sessions(data.train, data) == ["x", "z"]
    assert _sessions(data.test, data) == ["xz"]


def test_validation_is_cut_from_the_end_of_training() -> None:
    """By the same rules, with items of its own; nothing of the test is in it."""
    rows = [("a", "x", 0), ("b", "y", 1), ("a", "y", 1), ("b", "x", 2), ("c", "z", 3), ("c", "y", 4), ("c", "x", 6)]
    rows += [("t", "z", 30), ("t", "x", 31)]
    data = split(_recorded(rows), SplitRule(test_hours=24))

    validation = validation_split(data, 0.3)

    assert _sessions(validation.train, validation) == ["xy", "yx"]
    assert _sessions(validation.test, validation) == ["yx"]
    assert validation.test.gap_s.tolist() == [0, 2 * 3600]
    assert validation.train.gap_s.tolist() == [0, 3600, 0, 3600]
    assert sorted(validation.item_ids) == ["x", "y"]
    assert validation.train.age_rank.tolist() == [0, 2, 1, 3]


def test_validation_of_many_sessions_keeps_all_but_what_rules_drop() -> None:
    """Cut and joined, the parts are the training part again: same clicks, gaps and events."""
    rng = np.random.default_rng(7)
    hours = np.sort(rng.uniform(0, 100, 3_000))
    rows = [(f"u{rng.integers(300)}", f"i{rng.integers(5)}", hour) for hour in hours]
    events = [("view", "cart")[number] for number in rng.integers(2, size=len(rows))]
    data = split(_recorded(rows, events=events), SplitRule(test_share=0.2))

    validation = validation_split(data, 0.25)

    joined = _clicks(validation.train, validation) + _clicks(validation.test, validation)
    assert sorted(joined) == sorted(_clicks(data.train, data))
    assert len(validation.test.user_starts) - 1 == round(0.25 * (len(data.train.user_starts) - 1))


@pytest.mark.parametrize(
    ("has_times", "rule", "message"),
    [
        (False, SplitRule(test_hours=1), "have no times, so the last 1 hours cannot be the test part"),
        (False, SplitRule(test_share=0.5, session_gap_minutes=30), "have no times, so --session-gap-minutes cannot"),
        (True, SplitRule(test_hours=99), "all clicks are in the test part"),
        (True, SplitRule(test_hours=0.5), "no session of the test part has two clicks on items of the training part"),
    ],
)
def test_a_rule_that_the_clicks_cannot_follow_is_refused(has_times: bool, rule: SplitRule, message: str) -> None:
    """In one line, with what to do."""
    clicks = _recorded([("a", "x", 0), ("b", "x", 9), ("b", "y", 9)], has_times)

    with pytest.raises(PermanentError, match=message):
        split(clicks, rule)


@pytest.mark.parametrize(("marked", "word"), [([0, 0], "no"), ([1, 1], "every")])
def test_a_column_that_chooses_nothing_is_refused(marked: list[int], word: str) -> None:
    """All or none: the condition is not what was meant."""
    clicks = _recorded([("a", "x", 0), ("b", "x", 9)], marked=marked)

    with pytest.raises(PermanentError, match=f"{word} click has the values of --test-where"):
        split(clicks, SplitRule(test_where={"split": "test"}))


def test_every_format_has_a_usual_rule_that_its_files_can_follow(tmp_path: Path) -> None:
    """RetailRocket, read and cut without being told anything: visits of one visitor, views only, the last week."""
    day = 24 * HOUR
    rows = [(0, 1, "view", 5), (HOUR, 1, "view", 6), (HOUR + 1, 1, "addtocart", 7)]
    rows += [(20 * day, 1, "view", 6), (20 * day + 1, 1, "view", 5), (20 * day + 2, 1, "transaction", 5)]
    path = tmp_path / "events.csv"
    lines = "".join(f"{1_433_221_332_117 + time},{user},{event},{item},\n" for time, user, event, item in rows)
    path.write_text("timestamp,visitorid,event,itemid,transactionid\n" + lines)

    file = _file(path, Choices(events=USUAL_EVENTS["retailrocket"]))
    data = read_offline_data(DataSource(file=file, rule=USUAL_RULES["retailrocket"]))

    assert _sessions(data.train, data) == ["5", "6"]
    assert _sessions(data.test, data) == ["65"]


@pytest.mark.parametrize(
    ("name", "rule", "train", "test", "n_items"),
    [
        ("diginetica_sequences", SplitRule(test_where={"split": "test"}), (906_140, 186_670), (76_821, 15_963), 43_097),
        ("yoochoose_100k", SplitRule(test_hours=24), (70_278, 17_794), (13_568, 3_416), 2_933),
        ("retailrocket_14d", SplitRule(test_hours=24), (60_341, 16_767), (2_083, 535), 17_007),
    ],
)
def test_real_data_is_split_as_documented(
    name: str, rule: SplitRule, train: tuple[int, int], test: tuple[int, int], n_items: int
) -> None:
    """The counts of the file's description (those of the two timed files are what its rules give)."""
    path = REAL_DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: it cannot be distributed")

    data = read_offline_data(DataSource(file=_file(path), rule=rule))

    assert _counts(data.train) == train
    assert _counts(data.test) == test
    assert data.n_items == n_items
    for part in (data.train, data.test):
        assert sorted(part.age_rank.tolist()) == list(range(len(part)))
        assert np.diff(part.user_starts).min() >= (2 if part is data.test else 1)


def _file(path: Path, choices: Choices | None = None) -> ClickFile:
    return recognise(path, AUTO, choices or Choices())


def _counts(part: Sequences) -> tuple[int, int]:
    return len(part), len(part.user_starts) - 1


def _recorded(
    rows: list[Row], has_times: bool = True, events: list[str] | None = None, marked: list[int] | None = None
) -> RecordedClicks:
    users, items = sorted({user for user, _, _ in rows}), sorted({item for _, item, _ in rows}, reverse=True)
    event_types = sorted(set(events or []))
    return RecordedClicks(
        users=pa.array(users),
        items=pa.array(items),
        event_types=event_types,
        user_index=np.array([users.index(user) for user, _, _ in rows], dtype=np.int32),
        item_index=np.array([items.index(item) for _, item, _ in rows], dtype=np.int32),
        timestamp_ms=np.array([round(hour * HOUR) for _, _, hour in rows]) if has_times else None,
        event_index=None if events is None else np.array([event_types.index(e) for e in events], dtype=np.uint8),
        is_marked=None if marked is None else np.array(marked, dtype=np.bool_),
    )


def _sessions(part: Sequences, data: OfflineData) -> list[str]:
    """The item ids of each session, written together."""
    ids = [data.item_ids[item] for item in part.item_index.tolist()]
    starts = part.user_starts.tolist()
    return ["".join(ids[start:end]) for start, end in pairwise(starts)]


def _clicks(part: Sequences, data: OfflineData) -> list[tuple[str, int, int, int]]:
    """Each click as its session's length, item, gap and event, which hold however sessions are numbered."""
    length = np.repeat(np.diff(part.user_starts), np.diff(part.user_starts)).tolist()
    ids = [data.item_ids[item] for item in part.item_index.tolist()]
    return list(zip(ids, length, part.gap_s.tolist(), part.event_type.tolist(), strict=True))
