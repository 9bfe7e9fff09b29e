"""The simulator's law: what it promises about the stream and about the ceiling."""

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from demo.cli import simulate
from demo.simulator import TOP, Catalogue, Law, SimulatedClick, Simulator

SMALL = Law(groups=6, items_per_group=10, active_users=40, resting_users=60, replacement_clicks=200)


def test_the_same_seed_gives_the_same_stream() -> None:
    """The stream depends on the law and the seed alone, not on how many clicks are asked for at a time."""
    one, other = Simulator(SMALL, seed=3), Simulator(SMALL, seed=3)

    whole = one.next_clicks(1_000, 700)
    parts = [click for size in (1, 0, 99, 300, 200, 100) for click in other.next_clicks(1_000, size)]

    assert parts == whole
    assert other.ceiling == pytest.approx(one.ceiling)


def test_another_seed_gives_another_stream() -> None:
    """The seed draws the law's details and the clicks."""
    one, other = Simulator(SMALL, seed=3), Simulator(SMALL, seed=4)

    assert one.next_clicks(0, 100) != other.next_clicks(0, 100)


def test_a_click_carries_the_time_it_is_given() -> None:
    """The simulator has no clock."""
    clicks = Simulator(SMALL, seed=0).next_clicks(1_700_000_000_123, 50)

    assert {click.timestamp_ms for click in clicks} == {1_700_000_000_123}
    assert {click.event_type for click in clicks} <= {"view", "cart", "purchase"}


def test_the_ceiling_is_the_exact_probability_of_the_likeliest_items() -> None:
    """The best 20 of a user equal those of a sum over every item of the catalogue."""
    law = Law(groups=8, items_per_group=15, active_users=300, resting_users=100)
    simulator = Simulator(law, seed=5)
    simulator.next_clicks(0, 3_000)
    rows = np.arange(law.active_users)

    choice = simulator.choice(rows)
    best, probability = choice.best()

    everything = choice.base_scale[:, None] * choice.catalogue.base[choice.interest]
    for row, slots, shares in zip(everything, choice.special, choice.special_share, strict=True):
        for slot, share in zip(slots, shares, strict=True):
            if share > 0:
                row[slot] += share
    np.testing.assert_allclose(everything.sum(axis=1), 1.0)
    np.testing.assert_allclose(
        np.sort(probability, axis=1), np.sort(everything, axis=1)[:, -TOP:], err_msg="the best 20"
    )
    np.testing.assert_allclose(probability, np.take_along_axis(everything, best, axis=1))


def test_items_are_drawn_as_the_law_says() -> None:
    """The frequencies of one user's draws match the probabilities that the ceiling is computed from."""
    law = Law(groups=4, items_per_group=10, active_users=40, resting_users=40)
    simulator = Simulator(law, seed=1)
    simulator.next_clicks(0, 400)
    n_draws = 40_000
    choice = simulator.choice(np.full(n_draws, 7))

    drawn = np.bincount(choice.draw(law, np.random.default_rng(2)), minlength=40) / n_draws

    expected = choice.base_scale[0] * choice.catalogue.base[choice.interest[0]]
    np.add.at(expected, choice.special[0], choice.special_share[0])
    np.testing.assert_allclose(drawn, expected, atol=5 * np.sqrt(0.25 / n_draws))


def test_the_laws_own_best_list_comes_as_true_as_it_says() -> None:
    """Over many clicks the realised hit rate of the law's list approaches the ceiling."""
    simulator = Simulator(Law(), seed=2)
    simulator.next_clicks(0, 20_000)

    ceiling = simulator.ceiling

    tolerance = 5 * np.sqrt(0.25 / ceiling.clicks)
    assert ceiling.clicks > 15_000
    assert ceiling.realised_recall_at_20 == pytest.approx(ceiling.recall_at_20, abs=tolerance)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_stream_rewards_sequence_but_is_not_rigged(seed: int) -> None:
    """With default settings popularity is weak, item-to-item better, and the ceiling well above both."""
    simulator = Simulator(Law(), seed)
    clicks = simulator.next_clicks(0, 20_000)

    popular, markov = _baselines(clicks)

    ceiling = simulator.ceiling.recall_at_20
    assert 0.05 < popular < 0.15
    assert popular + 0.05 < markov < ceiling - 0.15
    assert 0.5 < ceiling < 0.7


def test_items_appear_and_vanish() -> None:
    """The number of live items stays; a vanished item is never clicked again, not even as a re-click."""
    rng = np.random.default_rng(0)
    catalogue = Catalogue(SMALL, rng)
    before = set(catalogue.item_number.tolist())

    vanished = catalogue.advance(2_000, rng)

    after = set(catalogue.item_number.tolist())
    assert len(after) == len(before) == 60
    assert len(vanished) == len(after - before) > 0
    assert min(after - before) > max(before)


def test_users_forget_what_vanished() -> None:
    """What a user may click again is what the user clicked, never the item that took its place."""
    law = Law(groups=6, items_per_group=10, active_users=40, resting_users=60, new_user=0.0, replacement_clicks=20)
    simulator = Simulator(law, seed=0)
    seen = {(click.user_id, click.item_id) for click in simulator.next_clicks(0, 5_000)}  # all that were drawn

    choice = simulator.choice(np.arange(100))  # with no new users, row n is user n for ever

    recent = choice.special[:, law.successors :]
    numbers = choice.catalogue.item_number
    may_click = {
        (f"user-{row}", f"item-{numbers[slot]}") for row, slots in enumerate(recent) for slot in slots if slot >= 0
    }
    assert len(may_click) > 100
    assert may_click <= seen


def test_popularity_drifts() -> None:
    """What was popular is less so later, without a jump."""
    rng = np.random.default_rng(0)
    law = Law()
    catalogue = Catalogue(law, rng)
    first = np.log(catalogue.place_share.ravel())

    catalogue.advance(500, rng)
    soon = np.log(catalogue.place_share.ravel())
    catalogue.advance(200_000, rng)
    late = np.log(catalogue.place_share.ravel())

    assert np.corrcoef(first, soon)[0, 1] > 0.97
    assert np.corrcoef(first, late)[0, 1] < 0.9


def test_users_come_and_go() -> None:
    """New users keep arriving, and users who left come back with what they remember."""
    clicks = Simulator(SMALL, seed=0).next_clicks(0, 6_000)

    positions = defaultdict(list)
    for position, click in enumerate(clicks):
        positions[click.user_id].append(position)
    # An active user clicks about every 40 clicks; ten times that is a rest.
    rested = sum(any(b - a > 400 for a, b in itertools.pairwise(seen)) for seen in positions.values())
    first_half = {click.user_id for click in clicks[:3_000]}

    assert len(positions) > 1.2 * len(first_half)
    assert rested > 20


def _baselines(clicks: list[SimulatedClick]) -> tuple[float, float]:
    """Give the Recall@20 of popularity and of an item-to-item chain that learn as they go."""
    popularity: Counter[str] = Counter()
    follows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    last: dict[str, str] = {}
    popular: list[str] = []
    n = hits_popular = hits_markov = 0
    for position, (user, item, _, _) in enumerate(clicks):
        if position % 200 == 0:
            popular = [name for name, _ in popularity.most_common(TOP)]
        if user in last:
            after = follows[last[user]]
            chain = [name for name, _ in after.most_common(TOP)]
            chain += [name for name in popular if name not in after]
            n += 1
            hits_popular += item in popular
            hits_markov += item in chain[:TOP]
            after[item] += 1
        last[user] = item
        popularity[item] += 1
    return hits_popular / n, hits_markov / n


def test_a_file_has_the_stream_of_the_seed(tmp_path: Path) -> None:
    """The same file for the same seed, in the order of the stream, event times as far apart as the rate says."""
    files = [tmp_path / name for name in ("one.csv", "other.csv")]
    for file in files:
        done = CliRunner().invoke(simulate, ["--clicks", "10100", "--rate", "4", "--seed", "3", "--to", str(file)])
        assert done.exit_code == 0, done.output
    expected = Simulator(Law(), seed=3).next_clicks(0, 10_100)
    header, *lines = files[0].read_text().splitlines()

    assert files[0].read_bytes() == files[1].read_bytes()
    assert header == "user_id,item_id,timestamp,event_type"
    assert [line.split(",")[:2] for line in lines] == [[click.user_id, click.item_id] for click in expected]
    assert [float(line.split(",")[2]) for line in lines[:3]] == [1767225600.0, 1767225600.25, 1767225600.5]


@pytest.mark.parametrize("arguments", [["--rate", "5"], ["--clicks", "5", "--rate", "max"]])
def test_a_file_has_an_end_and_times(tmp_path: Path, arguments: list[str]) -> None:
    """Without a number of clicks it would have no end, and without a rate no times."""
    done = CliRunner().invoke(simulate, [*arguments, "--to", str(tmp_path / "one.csv")])

    assert done.exit_code == 2
    assert "--to needs --clicks N" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Is said in a line."""
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(simulate, ["--clicks", "5", "--to", str(tmp_path / "file" / "one.csv")])

    assert "--to:" in str(done.exception)
