"""`nextclick backtest`: what is known when, what is predicted, what is caught, and the command from end to end."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nextclick.errors import PermanentError
from nextclick.ranking_metrics import Ranks
from nextclick.settings import Settings
from training.evaluation.backtest import run as backtest_run
from training.evaluation.backtest.cli import backtest
from training.evaluation.backtest.figures import summarise_rounds
from training.evaluation.backtest.methods import METHODS, Entry, Method, Refitted
from training.evaluation.backtest.run import BacktestPlan, Round, run_backtest
from training.evaluation.backtest.slice_rule import SliceRule, read_every
from training.evaluation.backtest.slices import Slice, slice_between, slice_borders
from training.evaluation.backtest.step import Costs, run
from training.evaluation.baselines.item_pairs import Association, MarkovChain
from training.evaluation.baselines.popularity import Popularity
from training.learning.sequences import ClickColumns, Ints
from training.learning.validation import MISSED

HOUR_MS = 3_600_000


def log_of(pairs: list[tuple[int, int]], every_ms: int = 60_000) -> ClickColumns:
    """Give a log of (user, item), one click a minute; item i has the id `i<i>`."""
    users, items = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    times = np.arange(len(users), dtype=np.int64) * every_ms + 1_700_000_000_000
    return ClickColumns(users, items, times, np.zeros_like(users), [f"i{item}" for item in range(items.max() + 1)])


def new_pairs(n_rounds: int, n: int) -> ClickColumns:
    """Give a log in which each round has item pairs of its own: nothing before tells which item follows which.

    All items are clicked at the beginning, so that all are known.
    """
    rng, users = np.random.default_rng(0), itertools.count()
    clicks = [(next(users), item) for item in range(n)]
    for _ in range(n_rounds):
        follows = rng.permutation(n)
        for item in rng.permutation(n).tolist():
            user = next(users)
            clicks += [(user, item), (user, int(follows[item]))]
    return log_of(clicks)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("6h", {"hours": 6.0}),
        ("90m", {"hours": 1.5}),
        ("1d", {"hours": 24.0}),
        ("1.5h", {"hours": 1.5}),
        ("10000", {"clicks": 10_000}),
        ("0", None),
        ("0h", None),
        ("6", {"clicks": 6}),
        ("6 h", None),
        ("h", None),
        ("-6h", None),
        ("1.5", None),
    ],
)
def test_the_length_of_a_slice(text: str, found: dict[str, float] | None) -> None:
    """A time with its unit, or a number of clicks; nothing else."""
    assert read_every(text) == found


@pytest.mark.parametrize(
    ("rule", "borders"),
    [
        (SliceRule(clicks=30, first_share=0.2), [20, 50, 80, 100]),  # the last one is shorter
        (SliceRule(rounds=4, first_share=0.2), [20, 40, 60, 80, 100]),
        (SliceRule(hours=0.5, first_share=0.2), [20, 50, 80, 100]),  # a click a minute
        (SliceRule(rounds=500, first_share=0.98), [98, 99, 100]),  # not more rounds than clicks
    ],
)
def test_borders_of_slices(rule: SliceRule, borders: list[int]) -> None:
    """Behind the first share, by clicks or by event time, to the end."""
    log = log_of([(0, 0)] * 100)

    assert slice_borders(log, True, rule).tolist() == borders


def test_a_time_without_clicks_is_no_slice() -> None:
    """A round without anything new would be none."""
    log = log_of([(0, 0)] * 10)
    log.timestamp_ms[5:] += 10 * HOUR_MS

    assert slice_borders(log, True, SliceRule(hours=1, first_share=0.2)).tolist() == [2, 5, 10]


def test_slices_that_cannot_be() -> None:
    """Hours without times; nothing left to predict."""
    log = log_of([(0, 0)] * 10)

    with pytest.raises(PermanentError, match="no times"):
        slice_borders(log, False, SliceRule(hours=1, first_share=0.2))
    with pytest.raises(PermanentError, match="smaller --first-share"):
        slice_borders(log, True, SliceRule(rounds=3, first_share=0.99))


def test_a_click_is_predicted_from_all_clicks_of_its_user() -> None:
    """Also from those of earlier slices; a user's first click is not predicted, and nobody else's are there."""
    log = log_of([(7, 0), (8, 1), (7, 2), (9, 3), (7, 4), (9, 5)])
    ahead, user = slice_between(log, 3, 6, 100, 20, np.random.default_rng(0))

    assert ahead.sequences.item_index.tolist() == [0, 2, 4, 3, 5]  # users 7 and 9
    assert ahead.predictions.target.tolist() == [2, 4]
    assert ahead.target_item.tolist() == [4, 5]
    assert user.tolist() == [7, 9]
    assert ahead.predictions.context_first.tolist() == [0, 3]


def test_of_too_many_predictions_users_are_drawn() -> None:
    """Whole users, other ones with another seed, and about as many predictions as asked for."""
    log = log_of([(user, item) for user in range(100) for item in range(3)])
    chosen = [set(slice_between(log, 0, 300, 20, 20, np.random.default_rng(seed))[1].tolist()) for seed in (0, 1)]
    ahead, user = slice_between(log, 0, 300, 20, 20, np.random.default_rng(0))

    assert len(user) == 20
    assert np.unique(user, return_counts=True)[1].tolist() == [2] * 10
    assert chosen[0] != chosen[1]
    assert len(ahead.sequences) == 30


def test_decoys_are_the_same_clicks_with_another_last_one() -> None:
    """Users of their own; the real prediction is the first of its copies, and its context begins where it did."""
    log = log_of([(0, 0), (1, 1), (0, 2), (1, 3), (0, 4), (1, 5)])
    ahead, _ = slice_between(log, 2, 6, 100, 1, np.random.default_rng(0))
    among, real = ahead.with_decoys(np.array([1, 2]), 1, np.random.default_rng(0))
    by_user = np.split(among.sequences.item_index, among.sequences.user_starts[1:-1])

    assert real.tolist() == [0, 2]
    assert [user.tolist()[:-1] for user in by_user] == [[0, 2], [0, 2], [1], [1]]
    assert [by_user[0][-1], by_user[2][-1]] == [4, 3]
    assert {user[-1] for user in by_user} <= {2, 3, 4, 5}
    assert among.predictions.target.tolist() == [2, 5, 7, 9]
    assert among.predictions.context_first.tolist() == [0, 3, 6, 8]


@dataclass
class Spy:
    """Notes what it is given."""

    seen: list[tuple[int, int]] = field(default_factory=list)

    def learn(self, log: ClickColumns) -> None:
        """Note how many clicks are known."""
        self.seen.append((len(log.item_index), -1))

    def ranks(self, ahead: Slice) -> Ranks:
        """Note how many clicks are ranked; the rank of every click is how often it has learnt."""
        assert not self.seen or len(ahead.sequences)
        return np.full(len(ahead.predictions.target), len(self.seen), dtype=np.int64)


@dataclass
class Cheat:
    """Counts pairs, those of the slice among them, before it ranks it."""

    honest: Refitted
    log: ClickColumns | None = None

    def learn(self, log: ClickColumns) -> None:
        """Keep what is known."""
        self.log = log
        self.honest.learn(log)

    def ranks(self, ahead: Slice) -> Ranks:
        """Learn what is ahead first."""
        assert self.log is not None
        user = 1_000_000 + np.repeat(
            np.arange(len(ahead.sequences.user_starts) - 1), np.diff(ahead.sequences.user_starts)
        )
        columns = [self.log.user, self.log.item_index, self.log.timestamp_ms, self.log.event_type]
        more: list[Ints] = [user, ahead.sequences.item_index, np.full(len(user), self.log.timestamp_ms.max()), 0 * user]
        joined = [np.concatenate(pair) for pair in zip(columns, more, strict=True)]
        self.honest.learn(ClickColumns(joined[0], joined[1], joined[2], joined[3], self.log.item_ids))
        return self.honest.ranks(ahead)


def markov_chain() -> Refitted:
    """Give a method that learns pairs."""
    return Refitted(Settings(), MarkovChain())


def run_here(monkeypatch: pytest.MonkeyPatch, log: ClickColumns, borders: list[int], **methods: Method) -> list[Round]:
    """Run methods of a test, in this process."""
    monkeypatch.setattr(backtest_run, "run_in_process", lambda job, title: run(job))
    for name, method in methods.items():
        monkeypatch.setitem(METHODS, name, Entry(lambda *_, made=method: made, lambda _: {}, False))  # type: ignore[misc, arg-type]
    plan = BacktestPlan(list(methods), [0], Settings(), {}, 1_000)
    return run_backtest(plan, log, np.array(borders), lambda *_: None)


def test_each_slice_is_predicted_before_it_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing of the past tells cannot be known: pairs that are new in every round have the rank of chance."""
    n = 200
    log = new_pairs(3, n)
    rounds = run_here(monkeypatch, log, [n, 3 * n, 5 * n, 7 * n], chain=markov_chain())

    for one in rounds:
        assert len(one.user) == n
        assert (one.ranks["chain"] <= 20).mean() < 0.2


def test_who_learns_before_predicting_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ranks are others when what is around a prediction is."""
    n = 700
    log = new_pairs(1, n)
    with pytest.raises(PermanentError, match="Cheat looks ahead"):
        run_here(monkeypatch, log, [n, 3 * n], cheat=Cheat(markov_chain()))


def test_a_method_sees_the_log_up_to_its_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round goes on from the state of the round before, and knows the clicks before its slice, no more."""
    log = log_of([(user, user % 5) for user in range(50) for _ in range(2)])
    lengths: list[int] = []
    monkeypatch.setattr(Spy, "learn", lambda self, log: (self.seen.append((0, 0)), lengths.append(len(log.item_index))))
    rounds = run_here(monkeypatch, log, [20, 60, 100], spy=Spy())

    # Two times a beginner warms up; then what counts.
    assert lengths == [20, 20, 20, 60, 60, 60]
    assert [one.ranks["spy"][0, 0] for one in rounds] == [1, 2]


def test_what_a_method_does_not_know_is_a_miss_and_popular_items_stand_in() -> None:
    """An item of later rounds is missed; a user whose clicks are all on such items gets what is popular."""
    log = log_of([(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (3, 2), (3, 1), (3, 2), (4, 0), (4, 1)])
    ahead, _ = slice_between(log, 5, 10, 100, 20, np.random.default_rng(0))
    method = Refitted(Settings(), Association())
    method.learn(ClickColumns(*(column[:5] for column in log[:4]), log.item_ids))  # type: ignore[misc, arg-type]
    ranks = method.ranks(ahead)

    assert ahead.target_item.tolist() == [1, 2, 1]
    assert ranks.tolist() == [1, MISSED, 1]


def test_figures_over_the_last_third() -> None:
    """Means of the last rounds alone, the difference to `anew` with its p, and the cost of all rounds but the first."""
    rng = np.random.default_rng(0)

    def one(number: int) -> Round:
        user = np.repeat(np.arange(100), 2)
        good = np.where(rng.random(200) < 0.8, 1, 50)
        worse = np.where(rng.random(200) < 0.5, 1, MISSED)
        costs = {"anew": [Costs(10.0, 20.0, 2**20)], "frozen": [Costs(50.0 if number == 0 else 1.0, 5.0, 2**21)]}
        return Round(number, number + 1, 0, user, {"anew": good[None], "frozen": worse[None]}, costs)

    summary = summarise_rounds([one(number) for number in range(6)], seed=0)
    frozen, anew = summary.methods["frozen"], summary.methods["anew"]

    assert summary.first_compared == 4
    assert anew.metrics["recall@20"].mean == pytest.approx(
        np.mean([of_round.metrics["recall@20"] for of_round in anew.rounds[4:]])
    )
    assert frozen.against["recall@20"].difference == pytest.approx(
        frozen.metrics["recall@20"].mean - anew.metrics["recall@20"].mean
    )
    assert frozen.against["recall@20"].p < 0.01
    assert anew.against == {}
    assert (frozen.cost.wall_s, frozen.cost.cpu_s, frozen.cost.peak_mib) == (1.0, 5.0, 2.0)
    assert frozen.times_reference == pytest.approx((0.1, 0.25))
    assert frozen.times_reference_last == pytest.approx((0.1, 0.25))
    assert frozen.known == pytest.approx(0.5, abs=0.1)
    assert anew.known == 1.0


def test_of_one_round_that_is_what_counts() -> None:
    """Quality and cost are those of the only round; without `anew` nothing is compared."""
    user = np.arange(10)
    summary = summarise_rounds(
        [Round(0, 1, 0, user, {"popularity": np.ones((1, 10), int)}, {"popularity": [Costs(1, 1, 1)]})], 0
    )

    assert summary.methods["popularity"].metrics["recall@20"].mean == 1.0
    assert summary.methods["popularity"].times_reference is None
    assert summary.methods["popularity"].against == {}


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    """Sessions that walk through items one by one; each day on ten items more."""
    lines, rng = ["user_id,item_id,timestamp,split"], np.random.default_rng(0)
    for number in range(400):
        day, item = number // 100, int(rng.integers(10))
        for place in range(4):
            time_s = 1_700_000_000 + 86_400 * day + (number % 100) * 600 + place * 60
            lines.append(f"s{number},i{10 * day + (item + place) % 10},{time_s},{'train' if day < 3 else 'test'}")
    path = tmp_path / "walks.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def invoke(*arguments: object) -> Result:
    """Run the command as the command line does."""
    return CliRunner().invoke(backtest, [str(argument) for argument in arguments])


@pytest.mark.release
def test_the_command(walks: Path, tmp_path: Path) -> None:
    """Tables, JSON and plot; the frozen bundle knows nothing of a new day's items, what learns does."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    out, plot = tmp_path / "out.json", tmp_path / "plot.svg"
    preset = tmp_path / "small.toml"
    preset.write_text("[network]\nhidden_size = 8\nepochs = 3\n")
    small = ("--preset", preset, "--set", "epochs=1")
    done = invoke(walks, "--every", "1d", "--models", "frozen,continual,anew", *small, "--json", out, "--plot", plot)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())

    assert "against anew" in done.stdout
    assert "round 1 of 4, frozen, seed 0: Recall@20" in done.stderr
    assert plot.read_bytes().startswith(b"<?xml")
    assert found["slices"]["hours"] == 24
    assert len(found["rounds"]) == 4
    assert found["rounds"][-1]["until_click"] == 1_600
    frozen, continual, anew = (found["models"][name] for name in ("frozen", "continual", "anew"))
    assert frozen["metrics"]["recall@20"]["mean"] < anew["metrics"]["recall@20"]["mean"]
    assert frozen["known"] == 0.0
    assert frozen["metrics"]["recall@20"]["mean"] < continual["metrics"]["recall@20"]["mean"]
    assert continual["known"] == anew["known"] > 0.0
    assert frozen["against"]["recall@20"]["p"] < 0.01
    assert frozen["cost"]["cpu_s"] < anew["cost"]["cpu_s"]
    assert anew["rounds"][0]["peak_mib"] >= 0
    assert (found["parameters"]["anew"]["hidden_size"], found["parameters"]["anew"]["epochs"]) == (8, 1)


def test_rows_without_times_by_clicks(walks: Path, tmp_path: Path) -> None:
    """In the order of the file, only the rows that are wanted."""
    out = tmp_path / "out.json"
    chosen = ("--time", "", "--where", "split=train", "--every", 400, "--newest-share", 0.9)
    done = invoke(walks, *chosen, "--models", "popularity", "--predictions", 100, "--json", out)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())

    assert [one["known_clicks"] for one in found["rounds"]] == [216, 616, 1_016]
    assert found["data"]["clicks"] == 1_080
    assert all(one["predictions"] <= 110 for one in found["rounds"])
    assert "known clicks" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--every", "soon"), "neither a time, like 6h"),
        (("--every", "6h", "--rounds", "3"), "exclude each other"),
        (("--models", "anew,anew"), "names 'anew' twice"),
        (("--models", "gru"), "there is no model 'gru'"),
        (("--json", "nowhere/out.json"), "does not exist"),
        (("--plot", "out.pdf"), "does not end with .png or .svg"),
        (("--time", "", "--every", "6h"), "no times"),
        (("--first-share", "0.9999"), "nothing to predict"),
        (("--set", "epochs=no"), "epochs"),
    ],
)
def test_mistakes_end_with_a_line(walks: Path, arguments: tuple[str, ...], says: str) -> None:
    """Before anything is learnt."""
    done = invoke(walks, *arguments)

    assert done.exit_code != 0
    assert says in (str(done.exception) if isinstance(done.exception, PermanentError) else done.output)


def test_rules_that_are_set_are_said_to_be_left_aside(walks: Path) -> None:
    """A backtest compares rankings: who sets rules would believe that they count."""
    done = invoke(walks, "--set", "exclude=last", "--set", "pinned=a", "--json", "nowhere/out.json")

    assert "exclude and pinned: not followed" in done.output


@pytest.mark.long
def test_a_process_that_dies_is_named(walks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status is said, and which step it was."""
    monkeypatch.setitem(METHODS, "popularity", Entry(lambda *_: Dying(), lambda _: {}, False))
    done = invoke(walks, "--models", "popularity")

    assert isinstance(done.exception, PermanentError)
    assert "popularity, round 1: its process ended with status 7" in str(done.exception)


class Dying:
    """Ends its process."""

    def learn(self, log: ClickColumns) -> None:
        """Be gone."""
        import os

        os._exit(7)

    def ranks(self, ahead: Slice) -> Ranks:
        """Never be asked."""
        raise NotImplementedError


def test_popularity_is_counted_anew_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the newest clicks of the trainer's window."""
    old, new = [(user, item) for user in range(300) for item in (0, 1)], [(user, 2) for user in range(300, 500)]
    log = log_of(old + new)
    method = Refitted(Settings(recent_window_clicks=100, replay_share=0.0), Popularity())
    method.learn(log)

    assert method.items.tolist() == [2]
