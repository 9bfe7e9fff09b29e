"""For any clicks: the trainer's sequences are what the stream's states remember, and every click is learnt once."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nextclick.advance import Limits, LoggedClick, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.updates import ranked_list
from nextclick.user_state import MAX_GAP_S, UserState, recent_clicks
from training.learning.sequences import ClickColumns, group_by_user, training_windows
from training.service.click_log import ClickLog, LogRow

click_lists = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 6), st.integers(0, (MAX_GAP_S + 9) * 1_000), st.sampled_from([0, 1, 255])
    ),
    min_size=1,
    max_size=60,
)


def columns(clicks: list[tuple[int, int, int, int]]) -> ClickColumns:
    user, item, time_ms, event = (np.array(column, dtype=np.int64) for column in zip(*clicks, strict=True))
    return ClickColumns(user, item, time_ms, event, [f"item-{number}" for number in range(7)])


@given(click_lists)
def test_items_gaps_and_events_are_those_that_the_state_remembers(clicks: list[tuple[int, int, int, int]]) -> None:
    """Serving rebuilds from these; training must see the same."""
    logged = [
        LoggedClick((0, str(user).encode()), offset, 0, click, item_hash(click.item_id))
        for offset, (user, item, time_ms, event) in enumerate(clicks)
        for click in [Click(str(user), f"item-{item}", time_ms, event)]
    ]
    states: dict[tuple[int, bytes], UserState] = {}
    for click, outcome in zip(
        logged, advance(None, ranked_list("popular", [], []), {}, logged, Limits(100, 20)), strict=True
    ):
        states[click.user] = outcome.state

    sequences = group_by_user(columns(clicks))

    for number, user in enumerate(sorted({click[0] for click in clicks})):
        rows = slice(sequences.user_starts[number], sequences.user_starts[number + 1])
        seen = zip(sequences.item_index[rows], sequences.gap_s[rows], sequences.event_type[rows], strict=True)
        remembered = recent_clicks(states[0, str(user).encode()])
        assert [(item_hash(f"item-{item}"), gap_s, event) for item, gap_s, event in seen] == remembered


@given(click_lists, st.integers(2, 10), st.integers(0, 60))
def test_every_old_click_but_a_users_first_is_the_target_of_one_window(
    clicks: list[tuple[int, int, int, int]], max_clicks: int, before_rank: int
) -> None:
    """No click is learnt twice or not at all, none of the validation part is seen, no window spans two users."""
    sequences = group_by_user(columns(clicks))

    windows = training_windows(sequences, before_rank, max_clicks)

    first_row = sequences.first_row_of_user()
    targets = [row for first, end in zip(*windows, strict=True) for row in range(first + 1, end)]
    expected = [row for row in range(len(sequences)) if row != first_row[row] and sequences.age_rank[row] < before_rank]
    assert sorted(targets) == expected
    assert all(first_row[first] == first_row[end - 1] for first, end in zip(*windows, strict=True))
    assert all(2 <= end - first <= max_clicks for first, end in zip(*windows, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1), st.integers(0, 2**62), st.integers(0, 255))))
def test_any_click_survives_the_log(clicks: list[tuple[str, str, int, int]]) -> None:
    """Whatever text the ids hold."""
    rows = [LogRow(offset, Click(*click)) for offset, click in enumerate(clicks)]
    with tempfile.TemporaryDirectory() as folder:
        ClickLog(Path(folder)).append(0, 0, len(clicks), rows)
        log = ClickLog(Path(folder))

        read = [
            LogRow(row["offset"], Click(row["user_id"], row["item_id"], row["timestamp_ms"], row["event_type"]))
            for row in log.read(log.files).to_pylist()
        ]

    assert read == rows
    assert log.ends == {0: len(clicks) + 1}
