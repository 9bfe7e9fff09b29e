"""The lead over counts: what is averaged, and how soon a decline is noticed that no comparison of two shows."""

import numpy as np
import pytest

from bench.gate import chain
from training.learning.lead import Lead, Leads, leads_after, leads_of

STEADY = Lead(0.05, 0.01)


@pytest.mark.parametrize("error", [0.005, 0.02, 0.06], ids=["20,000 predictions", "2,000", "200"])
def test_of_bundles_that_stay_as_good_hardly_a_chain_is_called_a_decline(error: float) -> None:
    """Over 100 rounds without a training from nothing: at most 5% of them."""
    rng = np.random.default_rng(1)

    noticed = [chain(100, 0.0, error, rng)[0] is not None for _ in range(200)]

    assert np.mean(noticed) <= 0.05


@pytest.mark.parametrize(
    ("error", "most"), [(0.005, 0.06), (0.02, 0.08), (0.06, 0.14)], ids=["20,000 predictions", "2,000", "200"]
)
@pytest.mark.parametrize("fall", [0.001, 0.003])
def test_a_slow_decline_is_noticed_before_it_costs_much(fall: float, error: float, most: float) -> None:
    """Each bundle is worse by a tenth of a percent or three: far below what a comparison of two can show."""
    rng = np.random.default_rng(2)

    lost = []
    for _ in range(50):
        number, _ = chain(400, fall, error, rng)
        assert number is not None
        lost.append(number * fall)

    assert np.median(lost) < most


def test_what_gets_better_for_certain_is_the_new_mark() -> None:
    """Else a chain that rose and fell again would be as good as at its beginning, and nothing said."""
    leads = leads_after(STEADY, None)
    for _ in range(40):
        leads = leads_after(Lead(0.12, 0.01), leads)

    assert leads.best.value == pytest.approx(0.12, abs=0.02)
    for _ in range(40):
        leads = leads_after(STEADY, leads)
    assert leads.decline


def test_a_single_bad_measurement_is_no_decline() -> None:
    """An hour in which users did something else."""
    leads = leads_after(STEADY, None)
    for _ in range(20):
        leads = leads_after(STEADY, leads)

    assert not leads_after(Lead(0.02, 0.01), leads).decline


def test_leads_are_read_back_from_a_manifests_metrics() -> None:
    """What a bundle passes on to the next one."""
    leads = leads_after(Lead(0.07, 0.01), leads_after(STEADY, None))

    assert leads_of(leads.metrics()) == leads


@pytest.mark.parametrize("changed", [{"lead_error": 0.0}, {"best_lead": float("inf")}, {"recent_lead_error": 1e-9}])
def test_what_no_round_measures_is_not_taken_over(changed: dict[str, float]) -> None:
    """A manifest may come from anywhere."""
    metrics = Leads(STEADY, STEADY, STEADY).metrics()

    assert leads_of({"recall@20": 0.3}) is None
    assert leads_of(metrics | changed) is None
