"""Judges a run from what the topics hold, for every user: an uninterrupted run gives what must be there.

The newest state of a user is the one with the highest fence, wherever it stands in the changelog: a worker that was
paused past its eviction and woke up may have written an older one after it. Of several with the same fence (a click
that was read again under another bundle) the last one counts.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nextclick.advance import Limits, LoggedClick, Model, UserKey, advance
from nextclick.updates import RecommendationUpdate, ranked_list
from nextclick.user_state import UserState
from tests.chaos.eras import Place
from tests.chaos.evidence import Evidence
from tests.chaos.offline_hidden import OfflineRun
from tests.chaos.report import Report

NOTHING_POPULAR = ranked_list("popular", [], [])  # lists are not judged: popularity differs from worker to worker


def verify(evidence: Evidence, models: Mapping[int, Model], limits: Limits) -> Report:
    """Compare with an uninterrupted run.

    Args:
        evidence: of all topics.
        models: bundle number to the model that was served under it.
        limits: as the workers had them.
    """
    report = verify_without_network(evidence, limits)
    OfflineRun(evidence, models, limits).check(report)
    return report


def verify_without_network(evidence: Evidence, limits: Limits) -> Report:
    """Compare all that does not depend on a model."""
    report = Report(
        clicks=len(evidence.clicks),
        bad_records=len(evidence.bad),
        updates=len(evidence.updates),
        states=len(evidence.states),
        real=evidence.real,
    )
    expected = uninterrupted(evidence.clicks, limits)
    last = last_states(evidence.clicks, expected)
    report.users = len(last)
    check_updates(report, evidence.clicks, expected, evidence.updates)
    _check_states(report, expected, evidence.states)
    _check_newest(report, expected, last, _newest_states(report, evidence.states))
    _check_rejected(report, evidence)
    for place in evidence.undone:
        report.count("undone", place)
    for place in evidence.corrupt:
        report.count("corrupt_states", place)
    return report


class Expected(NamedTuple):
    """What a record leads to: the state after its clicks, and the sequence after the first of them."""

    state: UserState
    first_sequence: int


def uninterrupted(clicks: Sequence[LoggedClick], limits: Limits) -> dict[Place, Expected]:
    """Run record by record, without a network: what no crash, no bundle and no batch may change."""
    states: dict[UserKey, UserState] = {}
    expected: dict[Place, Expected] = {}
    for place, group in itertools.groupby(clicks, lambda click: (click.user[0], click.offset)):
        record = list(group)
        outcomes = advance(None, NOTHING_POPULAR, states, record, limits)
        states[record[0].user] = outcomes[-1].state
        expected[place] = Expected(outcomes[-1].state, outcomes[0].sequence)
    return expected


def check_updates(
    report: Report,
    clicks: Sequence[LoggedClick],
    expected: Mapping[Place, Expected],
    updates: Iterable[RecommendationUpdate],
) -> None:
    """Every click is answered; a user's updates leave with rising sequence.

    Args:
        report: is added to.
        clicks: the valid ones.
        expected: what each of their records leads to.
        updates: in log order per partition.
    """
    last_expected = last_states(clicks, expected)
    sent: defaultdict[UserKey, int] = defaultdict(int)  # the highest sequence so far
    answers: set[tuple[Place, int]] = set()
    first: dict[Place, int] = {}
    for update in updates:
        place = (update.source.partition, update.source.offset)
        user = (place[0], update.user_id.encode(errors="surrogatepass"))
        if place not in expected or update.sequence < expected[place].first_sequence:
            report.count("wrong_updates", place)
        if update.sequence < sent[user]:
            # A click that is read again, because its state was not yet safe when its update was, is answered again.
            report.count("repeated_older" if (place, update.sequence) in answers else "out_of_order", place)
        elif update.sequence == sent[user]:
            report.count("repeated_updates", place)
        sent[user] = max(sent[user], update.sequence)
        answers.add((place, update.sequence))
        first.setdefault(place, update.sequence)
    for place, (_, first_sequence) in expected.items():
        if first.get(place) != first_sequence:
            report.count("answered_by_later", place)
    for user, last in last_expected.items():
        report.count("unanswered", (last.partition, last.offset), max(0, last.sequence - sent[user]))


def last_states(clicks: Sequence[LoggedClick], expected: Mapping[Place, Expected]) -> dict[UserKey, UserState]:
    """Give the state of each user after all clicks."""
    return {click.user: expected[click.user[0], click.offset].state for click in clicks}


def _newest_states(report: Report, states: Iterable[tuple[UserKey, UserState]]) -> dict[UserKey, UserState]:
    newest: dict[UserKey, UserState] = {}
    for user, state in states:
        before = newest.get(user)
        if before is None or state.offset >= before.offset:
            newest[user] = state
        else:
            report.count("late_states", (state.partition, state.offset))
    return newest


def _check_states(
    report: Report, expected: Mapping[Place, Expected], states: Iterable[tuple[UserKey, UserState]]
) -> None:
    for _, state in states:
        place = (state.partition, state.offset)
        if place not in expected or _without_network(state) != _without_network(expected[place].state):
            report.count("wrong_states", place)


def _check_newest(
    report: Report,
    expected: Mapping[Place, Expected],
    last_expected: Mapping[UserKey, UserState],
    newest: Mapping[UserKey, UserState],
) -> None:
    """Count what the newest states lack, and what they have too much."""
    for user, last in last_expected.items():
        end = (last.partition, last.offset)
        state = newest.get(user)
        if state is None:
            report.count("lost", end, last.sequence)
            continue
        place = (state.partition, state.offset)
        reached = expected[place].state.sequence if place in expected else 0
        report.count("lost", end, last.sequence - reached)  # its fence has not passed them
        report.count("lost", place, max(0, reached - state.sequence))  # passed, but not applied
        report.count("doubled", place, max(0, state.sequence - reached))


def _check_rejected(report: Report, evidence: Evidence) -> None:
    counts = Counter(evidence.rejected)
    bad = set(evidence.bad)
    for place in bad - counts.keys():
        report.count("missing_rejects", place)
    for place, count in counts.items():
        if place in bad:
            report.count("repeated_rejects", place, count - 1)
        else:
            report.count("wrong_rejects", place, count)


def _without_network(state: UserState) -> UserState:
    """What of a state does not depend on the bundle, nor on what is popular."""
    return state._replace(bundle=0, hidden=b"", shown=b"", flags=0)
