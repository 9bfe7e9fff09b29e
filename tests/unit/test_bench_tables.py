"""Tables and the page of benchmarks, from figures."""

from pathlib import Path

import pytest

from bench.backlog import Throughput
from bench.figures import Comparison, Figures, Machine, ProgramFigures, WorkerAtRates, read_figures, write_figures
from bench.load import LoadReport
from bench.steady import Latency, Steady
from bench.tables import compare_table, ratio, ratio_table, steady_table
from bench.write_docs import DEFAULT_FIGURES, PAGE, TEMPLATE, page

LOAD = LoadReport(1_000, 10.0, 0.05, 0.5, 3.0, 1.0, 2.0)
MACHINE = Machine("2026-01-02 03:04", "abc1234", "a processor", 2, 16.0, "Linux", 0.1, {"python": "3.11.7"})


def at_rate(events_per_s: float = 100.0, p50_ms: float = 4.0, keeps_up: bool = True, late_ms: float = 0.5) -> Steady:
    """Give what was measured at a rate."""
    latency = Latency(1_000, p50_ms, p50_ms * 2, p50_ms * 3)
    return Steady(events_per_s, keeps_up, latency, 0.25, 1.5, 100_000_000, LOAD._replace(late_p99_ms=late_ms))


def program(name: str, *events_per_s: float, rates: dict[int, list[Steady]] | None = None) -> ProgramFigures:
    """Give a program with these events/s, round by round."""
    rounds = [Throughput(each, 1e6 / each, 100_000_000, 0.01) for each in events_per_s]
    return ProgramFigures(name, throughput=rounds, rates=rates or {})


def test_a_row_has_the_medians_of_its_rounds() -> None:
    """One round that somebody disturbed must not show."""
    rates = {10: [at_rate(p50_ms=value) for value in (3.0, 90.0, 5.0)]}

    table = compare_table(Comparison(3, [program("worker", 40_000, 10_000, 50_000, rates=rates)]))

    assert "| worker | 40,000 | 25.0 us | 100 MB | 5 / 10 ms | not held | not held |" in table


def test_a_program_that_died_has_a_reason_and_no_figures() -> None:
    """A half-finished measurement is no figure."""
    died = program("Bytewax", 40_000)
    died.not_run = "ended with status 1; the last that it printed:\n    KeyError: 7"

    table = compare_table(Comparison(1, [died]))

    assert "| Bytewax" not in table
    assert "Bytewax was not run: ended with status 1" in table
    assert "KeyError: 7" in table


def test_clicks_that_were_never_answered_are_said_beside_the_program() -> None:
    """Whoever loses clicks has less to do."""
    rates = {10: [at_rate()._replace(n_unanswered=2)], 50: [at_rate(keeps_up=False)._replace(n_unanswered=500)]}
    faust = program("naive Faust", 1_000, 1_000, rates=rates)
    faust.throughput[0] = faust.throughput[0]._replace(n_unanswered=1)

    assert "| naive Faust (clicks never answered: 3) |" in compare_table(Comparison(2, [faust]))


def test_a_load_that_was_late_is_said_beside_the_latency() -> None:
    """Such a latency is partly the load's own."""
    rates = {10: [at_rate(late_ms=9.0)], 50: [at_rate(late_ms=11.0)], 80: [at_rate(keeps_up=False)]}

    table = compare_table(Comparison(1, [program("worker", 40_000, rates=rates)]))

    assert "| 4 / 8 ms | 4 / 8 ms (load late) | not held |" in table


def test_ratios_are_those_of_rounds_that_follow_each_other() -> None:
    """A machine that is slow for a while slows both programs of a round."""
    comparison = Comparison(3, [program("plain confluent-kafka loop", 50, 100, 10), program("worker", 55, 100, 12)])

    assert ratio(comparison, "worker", "plain confluent-kafka loop") == pytest.approx(1.1)
    assert "| without a model: plain confluent-kafka loop | 1.10 | 1.00 to 1.20 |" in ratio_table(comparison)


def test_a_rate_that_is_not_held_has_no_latency() -> None:
    """Waits of the clicks that were answered would flatter the program."""
    table = steady_table([WorkerAtRates(0, [at_rate(3_000, keeps_up=False)])])

    assert "| none | 3,000 | not held | not held | not held |" in table


def test_figures_come_back_as_they_were_written_and_a_part_alone_keeps_the_others(tmp_path: Path) -> None:
    """`--only steady` after `--only compare` adds to the file."""
    file, compared = tmp_path / "figures.json", Comparison(1, [program("worker", 5.0, rates={10: [at_rate()]})])
    write_figures(file, Figures({"compare": MACHINE}, compare=compared))
    write_figures(file, Figures({"steady": MACHINE}, steady=[WorkerAtRates(0, [at_rate()])], idle_cores=0.0))

    found = read_figures(file)

    assert found == Figures({"compare": MACHINE, "steady": MACHINE}, compared, [WorkerAtRates(0, [at_rate()])], 0.0)


def test_the_page_is_what_its_template_and_figures_give() -> None:
    """A figure that is corrected by hand would be lost with the next run."""
    assert PAGE.read_text() == page(TEMPLATE.read_text(), read_figures(DEFAULT_FIGURES))


def test_a_place_of_the_template_without_figures_is_refused() -> None:
    """A typing error in the template must not reach a reader."""
    with pytest.raises(KeyError):
        page("{{compair}}", Figures())
