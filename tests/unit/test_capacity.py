"""What a load needs grows with what comes, and the page says what the command prints."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.costs import block
from cli.capacity_command import capacity, lines
from contracts import capacity_page
from nextclick import capacity as arithmetic
from nextclick.capacity import MEASURED, Costs, Load, Rules, need_of

_MILLION = Load(1_000_000, 10_000.0, 10_000)


@pytest.mark.parametrize("load", [_MILLION, Load(100_000_000, 1_000_000.0, 1_000_000)])
def test_the_page_says_what_the_command_prints(load: Load) -> None:
    arguments = ["--users", str(load.users), "--clicks-per-s", str(load.clicks_per_s), "--items", str(load.items)]

    printed = CliRunner().invoke(capacity, arguments).output

    assert printed.splitlines() == lines(load, need_of(load))
    assert printed in capacity_page.FILE.read_text()


def test_the_page_is_what_its_template_and_the_costs_make() -> None:
    """If this fails, run python -m contracts --write."""
    assert capacity_page.FILE.read_text() == capacity_page.page()


def test_the_costs_stand_in_the_code_as_the_benchmark_prints_them() -> None:
    """So that a new measurement is pasted."""
    assert block(MEASURED) in Path(arithmetic.__file__).read_text()


def test_what_the_benchmark_prints_has_the_digits_that_can_be_trusted() -> None:
    costs = MEASURED._replace(
        worker_us_per_click=68.1234, worker_us_per_click_and_item=0.00127444, worker_bytes=314_159_265.0
    )
    found: dict[str, Costs] = {}

    exec(block(costs), {"Costs": Costs}, found)

    assert found["MEASURED"][:2] == (68.1, 0.00127)
    assert found["MEASURED"].worker_bytes == 314_000_000.0


def test_workers_are_as_many_as_their_cpu_asks_for() -> None:
    """Ten times the clicks on a hundred times the items: by hand."""
    costs = MEASURED._replace(worker_us_per_click=50.0, worker_us_per_click_and_item=0.001)

    need = need_of(Load(1_000, 100_000.0, 1_000_000), costs, Rules(busy=0.5))

    assert need.us_per_click == pytest.approx(1_050.0)
    assert need.workers == 210


@pytest.mark.parametrize(
    ("load", "most"),
    [
        (Load(1_000, 10.0, 100), "three copies"),
        (Load(1_000, 100_000.0, 100), "what is written"),
        (Load(30_000_000_000, 10.0, 100), "disks"),
        (Load(1_000, 20_000.0, 100_000_000), "partitions"),
    ],
)
def test_brokers_are_as_many_as_the_scarcest_part_asks_for(load: Load, most: str) -> None:
    rules = Rules(broker_mb_per_s=10.0 if most == "what is written" else 100.0)

    assert need_of(load, rules=rules).brokers.by == most


def test_what_one_user_costs_does_not_depend_on_how_many_workers_there_are() -> None:
    """Of a catalogue of one item, whose copies are nothing."""
    few, many = (need_of(_MILLION._replace(clicks_per_s=rate, items=1)) for rate in (10_000.0, 100_000.0))

    assert few.each.disk_gb * few.workers == pytest.approx(many.each.disk_gb * many.workers, rel=1e-4)


def test_a_worker_in_a_pod_has_all_items_in_its_memory() -> None:
    """A served form, two while one replaces the other; on disk two copies of the bundle, and two forms. By hand."""
    costs = MEASURED._replace(
        worker_bytes=300e6, own_item_bytes=100.0, form_item_bytes=900.0, bundle_item_bytes=1_300.0, state_bytes=600.0
    )
    each = need_of(Load(1_000_000, 1.0, 1_000_000), costs, Rules(neighbours=100, standby=1)).each

    assert each.form_mb == pytest.approx(1_700)
    assert each.memory_mb == pytest.approx(300 + 100 + 1_700)
    assert each.swap_memory_mb == pytest.approx(300 + 100 + 2 * 1_700)
    assert each.disk_gb == pytest.approx(0.6 + 2 * 1.3 + 2 * 1.7)  # each of two workers has half the users, twice


def test_a_restoration_reads_what_may_not_be_compacted_yet() -> None:
    """An hour of all changes, and the newest segments; at few clicks a segment has a week of them."""
    costs = MEASURED._replace(change_bytes=500.0, worker_us_per_click=50.0, worker_us_per_click_and_item=0.0)
    busy, quiet = (need_of(Load(1_000_000, rate, 1), costs) for rate in (10_000.0, 1.0))
    busy_bytes = 2 * 500e6 + 3_600 * 10_000 * 500 + busy.partitions * 2**30
    quiet_bytes = 2 * 500e6 + 3_600 * 500 + 7 * 86_400 * 500

    assert busy.each.restore_s == pytest.approx(busy_bytes / busy.workers / 50e6)
    assert quiet.each.restore_s == pytest.approx(quiet_bytes / quiet.workers / 50e6)


def test_learning_is_told_by_one_measure() -> None:
    """Cores and GPUs follow from the same cost of a click."""
    trainer = need_of(Load(1, 1e6, 1), MEASURED._replace(train_us_per_click=500.0), Rules(round_costs=2.0)).trainer

    assert trainer.learn_cores == pytest.approx(1_000)
    assert trainer.learn_gpus == pytest.approx(1_000 / Rules().gpu_cores)


@pytest.mark.parametrize("given", ["0", "-1", "many", "nan", "inf", "1e300"])
def test_what_is_no_number_is_refused(given: str) -> None:
    for option in ("--users", "--clicks-per-s", "--items"):
        assert CliRunner().invoke(capacity, [option, given]).exit_code == 2
