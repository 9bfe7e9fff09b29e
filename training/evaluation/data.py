"""What a model is trained and tested on when it is evaluated on recorded clicks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nextclick.errors import PermanentError
from training.learning.sequences import ClickColumns, Ints, Sequences, group_by_user


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
        raise PermanentError("expected clicks for training, found all in the test part; make the test part smaller")
    items = np.unique(train.item_index)
    new_index = np.full(len(train.item_ids), -1, dtype=np.int64)
    new_index[items] = np.arange(len(items))
    test = rows_where(test, new_index[test.item_index] >= 0)
    _, session, n_clicks = np.unique(test.user, return_inverse=True, return_counts=True)
    test = rows_where(test, n_clicks[session] >= 2)
    if not len(test.item_index):
        raise PermanentError(
            "expected test sessions with two clicks on items of the training part, found none; "
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
