"""Reproduces `hidden` offline, for every user, with the bundle of each click.

Which bundle a click was applied with: as long as no worker dies, its update says so. After a crash it may not: the
update was lost with the worker and the repeated one names the bundle of the next worker; or the update was out, but
the state behind it was not, and the next worker applied the click anew with another bundle. The changelog decides. Each
of its records is the state after one batch, and a batch has one bundle: the record's. So a record's clicks are those
between the fence of the state that it was made from and its own, all with its own bundle.

Which state a record was made from: the one with the highest fence before it in the log, because that is the one a
worker has in memory or restores. Only a late write of a paused worker can make it another; then any earlier record of
the user from which it follows is taken. The chain from the zero state to the user's newest state is then run offline
from its start.
"""

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nextclick.advance import Limits, LoggedClick, Model, UserKey, advance
from nextclick.rules import NO_RULES, Rules
from nextclick.updates import RankedList, ranked_list
from nextclick.user_state import NEW_USER, RecentClick, UserState
from tests.chaos.eras import Place
from tests.chaos.evidence import Evidence
from tests.chaos.report import Report

MAX_BATCH = 4_000  # records that are checked together: bounds the memory
MAX_CANDIDATES = 50  # earlier states that a record which follows from none of the expected ones is tried with
_NO_LIST = ranked_list("popular", [], [])


class _Step(NamedTuple):
    """A batch that one user took part in: from a state, by clicks, under a bundle."""

    partition: int
    before: UserState
    clicks: Sequence[LoggedClick]
    bundle: int


class _Unranked:
    """A model that computes states and ranks nothing."""

    def __init__(self, model: Model) -> None:
        self.bundle = model.bundle
        self.index_of = model.index_of
        self.run = model.run
        self._model = model

    def rebuild(self, recent_clicks: Sequence[Sequence[RecentClick]]) -> list[bytes]:
        return self._model.rebuild(recent_clicks)

    def has_counted(self, recent: Sequence[bytes]) -> list[bool]:
        return [False] * len(recent)

    def rank(
        self,
        hidden: Sequence[bytes],
        recent: Sequence[bytes],
        k: int,
        explain: bool = False,
        rules: Rules = NO_RULES,
        offsets: Sequence[float] = (),
    ) -> list[RankedList]:
        return [_NO_LIST] * len(hidden)


class OfflineRun:
    """The chains of all users' states, and their repetition offline."""

    def __init__(self, evidence: Evidence, models: Mapping[int, Model], limits: Limits) -> None:
        self._models = {bundle: _Unranked(model) for bundle, model in models.items()}
        self._limits = limits
        self._clicks: defaultdict[UserKey, list[LoggedClick]] = defaultdict(list)
        for click in evidence.clicks:
            self._clicks[click.user].append(click)
        self._offsets = {user: [click.offset for click in clicks] for user, clicks in self._clicks.items()}
        self._records: defaultdict[UserKey, list[UserState]] = defaultdict(list)
        for user, state in evidence.states:
            if user in self._clicks:
                self._records[user].append(state)
        self._named: defaultdict[Place, set[int]] = defaultdict(set)
        for update in evidence.updates:
            place = (update.source.partition, update.source.offset)
            self._named[place].add(int(update.bundle_id or "0", 16))

    def check(self, report: Report) -> None:
        """Run offline and compare."""
        origins = self._origins()
        chains = {user: self._chain(user, origins[user]) for user in self._records}
        hidden = self._run(chains)
        for user, chain in chains.items():
            newest = self._records[user][_newest(self._records[user])]
            for step in chain:
                for click in step.clicks:
                    if step.bundle not in self._named[click.user[0], click.offset]:
                        report.count("other_bundle", (click.user[0], click.offset))
            if newest.hidden != hidden[user]:
                report.count("wrong_hidden", (newest.partition, newest.offset))

    def _origins(self) -> dict[UserKey, list[int]]:
        """Give, for each record of a user, the index of the record that it was made from; -1 is the new user."""
        origins = {user: _expected_origins(records) for user, records in self._records.items()}
        places = [(user, index) for user, records in self._records.items() for index in range(len(records))]
        unlike = [
            (user, index)
            for (user, index), follows in zip(
                places, self._follow((user, index, origins[user][index]) for user, index in places), strict=True
            )
            if not follows
        ]
        tries = [(user, index, origin) for user, index in unlike for origin in self._candidates(user, index)]
        found: dict[tuple[UserKey, int], int] = {}
        for (user, index, origin), follows in zip(tries, self._follow(tries), strict=True):
            if follows:
                found.setdefault((user, index), origin)
        for (user, index), origin in found.items():
            origins[user][index] = origin
        return origins

    def _candidates(self, user: UserKey, index: int) -> list[int]:
        """Earlier records that this one can have been made from, the nearest first."""
        records = self._records[user]
        earlier = [i for i in range(index) if records[i].offset <= records[index].offset]
        return [*reversed(earlier[-MAX_CANDIDATES:]), -1]

    def _follow(self, tries: Iterable[tuple[UserKey, int, int]]) -> list[bool]:
        """Tell for each (user, record, origin) whether the record follows from the origin."""
        tries = list(tries)
        after = self._after([self._step(user, index, origin) for user, index, origin in tries])
        return [
            self._records[user][index].hidden == state.hidden
            for (user, index, _), state in zip(tries, after, strict=True)
        ]

    def _step(self, user: UserKey, index: int, origin: int) -> _Step:
        records = self._records[user]
        before = records[origin] if origin >= 0 else NEW_USER
        return _Step(user[0], before, self._between(user, before.offset, records[index].offset), records[index].bundle)

    def _between(self, user: UserKey, after: int, to: int) -> list[LoggedClick]:
        """The clicks after one fence up to another; between equal fences the click that was read again."""
        offsets = self._offsets[user]
        first, last = bisect_right(offsets, after), bisect_right(offsets, to)
        return self._clicks[user][min(first, max(0, last - 1)) : last]

    def _chain(self, user: UserKey, origins: Sequence[int]) -> list[_Step]:
        """The batches that led to the user's newest state, the first first."""
        chain = []
        index = _newest(self._records[user])
        while index >= 0:
            chain.append(self._step(user, index, origins[index]))
            index = origins[index]
        return chain[::-1]

    def _run(self, chains: Mapping[UserKey, Sequence[_Step]]) -> dict[UserKey, bytes]:
        """Run the chains from the zero state, one batch of every user at a time."""
        states = dict.fromkeys(chains, NEW_USER)
        for depth in range(max(map(len, chains.values()), default=0)):
            users = [user for user, chain in chains.items() if depth < len(chain)]
            steps = [chains[user][depth]._replace(before=states[user]) for user in users]
            for user, state in zip(users, self._after(steps), strict=True):
                states[user] = state
        return {user: state.hidden for user, state in states.items()}

    def _after(self, steps: Sequence[_Step]) -> list[UserState]:
        """Apply batches of many users at once; each step stands for a user of its own."""
        after = [step.before for step in steps]
        by_bundle = sorted(range(len(steps)), key=lambda number: steps[number].bundle)
        for bundle, numbers in itertools.groupby(by_bundle, key=lambda number: steps[number].bundle):
            group = list(numbers)
            for start in range(0, len(group), MAX_BATCH):
                batch = group[start : start + MAX_BATCH]
                for number, state in zip(batch, self._apply(bundle, [steps[n] for n in batch]), strict=True):
                    after[number] = state
        return after

    def _apply(self, bundle: int, steps: Sequence[_Step]) -> list[UserState]:
        if bundle and bundle not in self._models:  # nobody can have served it
            return [step.before._replace(bundle=0, hidden=b"") for step in steps]
        aliases = [(step.partition, b"%d" % number) for number, step in enumerate(steps)]
        states = {alias: step.before for alias, step in zip(aliases, steps, strict=True) if step.before.sequence}
        clicks = [
            click._replace(user=alias) for alias, step in zip(aliases, steps, strict=True) for click in step.clicks
        ]
        outcomes = advance(self._models.get(bundle), _NO_LIST, states, clicks, self._limits)
        last = {click.user: outcome.state for click, outcome in zip(clicks, outcomes, strict=True)}
        return [last.get(alias, step.before) for alias, step in zip(aliases, steps, strict=True)]


def _expected_origins(records: Sequence[UserState]) -> list[int]:
    """For each record, the earlier one with the highest fence that is not above its own; the last of equals."""
    origins = []
    best = -1
    for index, record in enumerate(records):
        if best < 0 or records[best].offset <= record.offset:
            origins.append(best)
            best = index
        else:
            below = [i for i in range(index) if records[i].offset < record.offset]
            origins.append(max(below, key=lambda i: (records[i].offset, i), default=-1))
    return origins


def _newest(records: Sequence[UserState]) -> int:
    return max(range(len(records)), key=lambda index: (records[index].offset, index))
