"""The example of three users: what a new user is recommended, and that its page shows what the command prints."""

from functools import cache
from pathlib import Path

import pytest
import torch

from nextclick.network import Network
from training.fruit_example import DECISION, FORMS, Form, probabilities, report, trained

PAGE = Path(__file__).parents[2] / "docs/fruit-example.md"
BY_CELL = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.config.cell)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Other tests share the cores."""
    torch.set_num_threads(1)


@cache
def network_after(form: Form, passes: int) -> Network:
    """Train once what several tests look at."""
    return trained(form, passes)[0]


@BY_CELL
def test_at_first_the_two_items_that_followed_banana_lead_and_neither_is_sure(form: Form) -> None:
    """Banana was followed by orange once and by kiwi once."""
    network = network_after(form, form.passes[0])

    first, second, third, *_ = probabilities(network, form, ["banana"])

    assert {first[0], second[0]} == {"orange", "kiwi"}
    assert DECISION > first[1] > second[1] > 1.3 * third[1]


@BY_CELL
@pytest.mark.parametrize(("clicked", "item_id"), [(["banana"], "kiwi"), (["apple", "banana"], "orange")])
def test_in_the_end_the_state_decides_what_follows_banana(form: Form, clicked: list[str], item_id: str) -> None:
    """From the zero state kiwi, as for user 2; after an apple orange, as for user 1; nothing else is recommended."""
    network = network_after(form, form.passes[1])

    ranked = probabilities(network, form, clicked)

    assert [found for found, p in ranked if p >= DECISION] == [item_id]
    assert ranked[0][1] > 0.95


@BY_CELL
def test_the_loss_falls(form: Form) -> None:
    """From that of a guess to nearly nothing."""
    losses = [trained(form, passes)[1] for passes in (1, *form.passes)]

    assert losses[0] > 4 > 3 > losses[1] > 0.1 > losses[2]


def test_probabilities_of_the_softmax_compete_and_those_of_sigmoids_do_not() -> None:
    """The first add up to 1, the second need not."""
    sums = []
    for form in FORMS:
        network = network_after(form, form.passes[0])
        sums.append(sum(p for _, p in probabilities(network, form, ["banana"])))

    assert sums[0] == pytest.approx(1.0)
    assert sums[1] != pytest.approx(1.0, abs=0.01)


def test_the_classic_cell_is_as_wide_as_its_input() -> None:
    """Tanh, five items, five numbers."""
    config = FORMS[0].config

    assert (config.cell, config.hidden_size) == ("rnn", config.n_items)


def test_the_page_shows_what_the_command_prints() -> None:
    """Every line of it."""
    assert f"```\n{report()}\n```" in PAGE.read_text(encoding="utf-8")
