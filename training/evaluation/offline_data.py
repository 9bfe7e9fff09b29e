"""What models are trained and tested on when they are evaluated: recorded clicks in two parts, older and later ones.

The rules are those of session-based recommendation: a session is on one side as a whole, by when it ends.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nextclick.clicks import EVENT_TYPES, OTHER_EVENT
from nextclick.errors import PermanentError
from tools.click_files.read import read_clicks
from tools.click_files.recorded import RecordedClicks
from training.evaluation.data_source import DataSource, SplitRule
from training.learning.sequences import ClickColumns, Ints, Sequences, group_by_user

VALIDATION_SHARE = 0.1  # of the training sessions


@dataclass(frozen=True, slots=True)
class OfflineData:
    """A training and a test part. A session is a user of `Sequences`; sessions stand in the order of their ends.

    Attributes:
        train: all that training may look at; `item` is in [0, n_items), and each is there at least once. Sessions of
            one click are among them: popularity counts them.
        test: only items of `train`, only sessions of at least two clicks. Its `age_rank` begins at 0 anew.
        item_ids: the outside ids, by item index.
        train_ms: int64 (len(train),), event times, row by row; 0 where the data have an order only.
        test_ms: the same of `test`.
    """

    train: Sequences
    test: Sequences
    item_ids: list[str]
    train_ms: Ints
    test_ms: Ints

    @property
    def n_items(self) -> int:
        """The number of items that can be recommended."""
        return len(self.item_ids)


def read_offline_data(source: DataSource) -> OfflineData:
    """Read a data set and cut it into a training and a test part.

    Raises:
        PermanentError: a file that cannot be read, a rule that its clicks cannot follow, or nothing left of a part.
    """
    return split(read_clicks(source.file, source.rule.test_where), source.rule)


def split(recorded: RecordedClicks, rule: SplitRule) -> OfflineData:
    """Cut clicks into a training and a test part.

    Args:
        recorded: in log order; with marks where the rule has conditions.
        rule: what is the test part.

    Raises:
        PermanentError: a rule that these clicks cannot follow, or nothing is left of a part.
    """
    clicks = click_columns(recorded, rule.session_gap_minutes)
    session = clicks.user
    if recorded.is_marked is not None:
        is_test = np.array(recorded.is_marked)
        if not is_test.any():
            raise PermanentError(
                "no click has the values of --test-where, so there is nothing to test on; correct them"
            )
        if is_test.all():
            raise PermanentError(
                "every click has the values of --test-where, so there is nothing to train on; correct them"
            )
    else:
        is_test = session >= _first_test_session(clicks, recorded.timestamp_ms is not None, rule)
    train = _newest(rows_where(clicks, ~is_test), rule.train_share)
    return offline_data(train, rows_where(clicks, is_test))


def validation_split(data: OfflineData, share: float = VALIDATION_SHARE) -> OfflineData:
    """Cut a validation part from the end of the training part; the test part is not looked at.

    Args:
        data: whose `train` is cut.
        share: of its sessions, those that end last become the `test` of the result.

    Returns:
        Data with items of its own: only those that are left for training.

    Raises:
        PermanentError: nothing is left of a part.
    """
    clicks = in_log_order(data.train, data.train_ms, data.item_ids)
    session = numbered_by_end(clicks.user)
    is_validation = session >= _n_before_last(session, share)
    return offline_data(rows_where(clicks, ~is_validation), rows_where(clicks, is_validation))


def _sessions(recorded: RecordedClicks, gap_minutes: float) -> Ints:
    """Give the session of each click, numbered by its end."""
    user = recorded.user_index.astype(np.int64)
    if not gap_minutes:
        return numbered_by_end(user)
    if recorded.timestamp_ms is None:
        raise PermanentError(
            "these clicks have no times, so --session-gap-minutes cannot cut them into sessions; leave it away"
        )
    by_user = np.argsort(user, kind="stable")
    pause_ms = np.diff(recorded.timestamp_ms[by_user])
    begins = (np.diff(user[by_user]) != 0) | (pause_ms > gap_minutes * 60_000)
    session = np.zeros(len(user), dtype=np.int64)
    session[by_user[1:]] = np.cumsum(begins)
    return numbered_by_end(session)


def click_columns(recorded: RecordedClicks, gap_minutes: float) -> ClickColumns:
    """Give recorded clicks as columns; a session is a user, and sessions are numbered by their ends.

    Args:
        recorded: in log order.
        gap_minutes: a longer pause of a user begins a new session; 0: sessions as the file has them.

    Raises:
        PermanentError: sessions are to be cut, and the clicks have no times.
    """
    session = _sessions(recorded, gap_minutes)
    codes = {name: code for code, name in enumerate(EVENT_TYPES)}
    event_type = np.zeros(len(recorded), dtype=np.int64)  # a click without a type is a view, as in the stream
    if recorded.event_index is not None:
        code = np.array([codes.get(name, OTHER_EVENT) for name in recorded.event_types], dtype=np.int64)
        event_type = code[recorded.event_index]
    timestamp_ms = np.zeros_like(session) if recorded.timestamp_ms is None else np.array(recorded.timestamp_ms)
    item_ids = recorded.items.to_pylist()
    return ClickColumns(session, recorded.item_index.astype(np.int64), timestamp_ms, event_type, item_ids)


def _first_test_session(clicks: ClickColumns, has_times: bool, rule: SplitRule) -> int:
    """Give the number of the first session that is for testing; sessions are numbered by their ends."""
    if rule.test_hours is None:
        return _n_before_last(clicks.user, rule.test_share or 0.0)
    if not has_times:
        raise PermanentError(
            f"these clicks have no times, so the last {rule.test_hours:g} hours cannot be the test part; name "
            "their column with --time, or choose the test part with --test-share or --test-where"
        )
    end_ms = np.zeros(clicks.user.max() + 1, dtype=np.int64)
    np.maximum.at(end_ms, clicks.user, clicks.timestamp_ms)
    return int(np.searchsorted(end_ms, end_ms[-1] - rule.test_hours * 3_600_000, side="left"))


def _n_before_last(session: Ints, share: float) -> int:
    """Of sessions numbered by their ends, how many come before the last share of them: at least one is in it."""
    n_sessions = int(session.max()) + 1
    return n_sessions - max(1, round(n_sessions * share))


def _newest(clicks: ClickColumns, share: float) -> ClickColumns:
    if share == 1.0 or not len(clicks.user):
        return clicks
    session = numbered_by_end(clicks.user)
    return rows_where(clicks, session >= _n_before_last(session, share))


def offline_data(train: ClickColumns, test: ClickColumns) -> OfflineData:
    """Bring a training and a test part into the form in which models are compared.

    Items that training never saw are dropped from the test part, and then sessions with fewer than two clicks.

    Args:
        train: its clicks; `user` is the session.
        test: the same, with the same `item_ids`.

    Raises:
        PermanentError: nothing is left of a part.
    """
    if not len(train.item_index):
        raise PermanentError(
            "all clicks are in the test part, so there is nothing to train on; make the test part smaller"
        )
    items = np.unique(train.item_index)
    new_index = np.full(len(train.item_ids), -1, dtype=np.int64)
    new_index[items] = np.arange(len(items))
    test = rows_where(test, new_index[test.item_index] >= 0)
    _, session, n_clicks = np.unique(test.user, return_inverse=True, return_counts=True)
    test = rows_where(test, n_clicks[session] >= 2)
    if not len(test.item_index):
        raise PermanentError(
            "no session of the test part has two clicks on items of the training part, so there is nothing to predict; "
            "make the test part larger"
        )
    trained, tested = _sequences(train, new_index), _sequences(test, new_index)
    item_ids = [train.item_ids[item] for item in items.tolist()]
    return OfflineData(
        trained, tested, item_ids, train.timestamp_ms[trained.age_rank], test.timestamp_ms[tested.age_rank]
    )


def rows_where(clicks: ClickColumns, chosen: npt.NDArray[np.bool_]) -> ClickColumns:
    """Give the clicks that are chosen, in their order."""
    return ClickColumns(
        clicks.user[chosen],
        clicks.item_index[chosen],
        clicks.timestamp_ms[chosen],
        clicks.event_type[chosen],
        clicks.item_ids,
    )


def _sequences(clicks: ClickColumns, new_index: Ints) -> Sequences:
    return group_by_user(clicks._replace(user=numbered_by_end(clicks.user), item_index=new_index[clicks.item_index]))


def in_log_order(sequences: Sequences, timestamp_ms: Ints, item_ids: list[str]) -> ClickColumns:
    """Undo the grouping of a part.

    Args:
        sequences: the part.
        timestamp_ms: int64 (n,), its event times, row by row.
        item_ids: the outside ids, by item index.
    """
    order = np.argsort(sequences.age_rank)
    n_clicks = np.diff(sequences.user_starts)
    user = np.repeat(np.arange(len(n_clicks)), n_clicks)
    return ClickColumns(
        user[order], sequences.item_index[order], timestamp_ms[order], sequences.event_type[order], item_ids
    )


def numbered_by_end(session: Ints) -> Ints:
    """Number sessions by the places of their last clicks.

    Args:
        session: int64 (n,), the session of each click, in log order.

    Returns:
        int64 (n,): 0 for the clicks of the session that ends first.
    """
    _, from_end, dense = np.unique(session[::-1], return_index=True, return_inverse=True)
    number = np.empty(len(from_end), dtype=np.int64)
    number[np.argsort(-from_end)] = np.arange(len(from_end))
    return number[dense[::-1]]
