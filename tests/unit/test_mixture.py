"""The mixture: weights sum to 1, clicks that are not there have none, each term is worth what its source says."""

import math

import pytest
import torch

from nextclick.mixture import Context, Mixture
from nextclick.network_config import N_AGES, N_TERMS
from tests.networks import fill

N_ITEMS, N_NEIGHBOURS = 7, 2
Click = tuple[int, float]  # item_index, age in s


def context(*users: list[Click], n_session: float = 2.0) -> Context:
    """Histories of users, each given by the last clicks, the newest first."""
    item_index = torch.full((len(users), N_AGES), -1)
    age_s = torch.zeros(len(users), N_AGES)
    for row, clicks in enumerate(users):
        for place, (item, age) in enumerate(clicks):
            item_index[row, place], age_s[row, place] = item, age
    return Context(item_index, age_s, torch.full((len(users),), n_session))


def mixture(seed: int = 1) -> Mixture:
    """A gate and neighbours at random; items 0, 3 and 6 have no counts."""
    torch.manual_seed(seed)
    made = Mixture(N_ITEMS, N_NEIGHBOURS)
    fill(made)
    return made


def even(made: Mixture) -> Mixture:
    """Let the gate weigh all terms that are there alike."""
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
    return made


def neighbour_of(item: int, neighbour: int, share: float) -> Mixture:
    """An even gate, and one pair that is known."""
    made = even(Mixture(N_ITEMS, N_NEIGHBOURS))
    made.neighbours[item, 0], made.shares[item, 0], made.support[item] = neighbour, share, 1.0
    return made


LONG = [(1, 0.0), (2, 5.0), (1, 60.0), (0, 61.0), (6, 900.0), (4, 4_000.0), (5, 1e5), (3, 1e9)]
CONTEXTS = context([], [(1, 0.0)], [(0, 30.0)], LONG)


def slow_probabilities(made: Mixture, scores: torch.Tensor, of: Context) -> list[list[float]]:
    """The formula of the module, term by term, in Python's numbers."""
    result = []
    for row in range(len(scores)):
        items, ages = of.item_index[row].tolist(), of.age_s[row].tolist()
        supports = [made.support[item].item() if item >= 0 else 0.0 for item in items]
        logits = {}
        for term in range(N_TERMS):
            age = (term - 1) % N_AGES if term else 0
            is_usable = term == 0 or (items[age] >= 0 and (term > N_AGES or supports[age] > 0))
            if is_usable:
                logits[term] = (
                    made.of_term[term].item()
                    + made.of_length[term].item() * of.n_session[row].item() / 10
                    + made.of_support[term].item() * supports[age]
                    + made.of_newest_support[term].item() * supports[0]
                    + (made.of_age[term].item() * math.log2(ages[age] + 1) / 10 if term else 0.0)
                )
        total = sum(map(math.exp, logits.values()))
        weights = {term: math.exp(logit) / total for term, logit in logits.items()}
        exponents = [math.exp(score) for score in scores[row].tolist()]
        mixed = [weights[0] * exponent / sum(exponents) for exponent in exponents]
        for age, item in enumerate(items):
            if 1 + age in weights:
                for neighbour, share in zip(made.neighbours[item].tolist(), made.shares[item].tolist(), strict=True):
                    mixed[neighbour] += weights[1 + age] * share
            if 1 + N_AGES + age in weights:
                mixed[item] += weights[1 + N_AGES + age]
        result.append(mixed)
    return result


@pytest.mark.parametrize("seed", range(5))
@torch.inference_mode()
def test_probabilities_equal_the_formula_written_out_slowly(seed: int) -> None:
    """For users without a click, with one, with one of which no count is known, and with more than are looked at."""
    made = mixture(seed)
    scores = torch.randn(4, N_ITEMS)

    expected = slow_probabilities(made, scores, CONTEXTS)
    found = made.probabilities(scores.clone(), CONTEXTS)

    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert (found > 0).all()
    assert (found.sum(1) <= 1 + 1e-6).all()
    assert found[0].sum().item() == pytest.approx(1.0, abs=1e-6)


@torch.inference_mode()
def test_weights_sum_to_1_and_clicks_that_are_not_there_have_none() -> None:
    """Neither their neighbours nor they themselves; and no neighbours where nothing was ever counted."""
    made = mixture()

    weights = made.log_weights(CONTEXTS, made.support[CONTEXTS.item_index.clamp(min=0)]).exp()

    neighbours, reclicks = weights[:, 1 : 1 + N_AGES], weights[:, 1 + N_AGES :]
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert weights[0, 0] == 1
    assert (neighbours > 0).sum(1).tolist() == [0, 1, 0, 5]
    assert (reclicks > 0).sum(1).tolist() == [0, 1, 1, 8]


@torch.inference_mode()
def test_what_stands_where_there_is_no_click_is_ignored() -> None:
    """Support and age of row 0, which an absent click points to, change nothing."""
    made = mixture()
    of = context([(1, 0.0)])
    support = made.support[of.item_index.clamp(min=0)]
    other = support.clone()
    other[:, 1:] = 1e6

    assert torch.equal(made.log_weights(of, support), made.log_weights(of, other))


@torch.inference_mode()
def test_a_mixture_by_hand() -> None:
    """One click on item 1, whose neighbour is item 0 by half: three terms of 1/3 each."""
    made = neighbour_of(1, 0, 0.5)

    found = made.probabilities(torch.zeros(1, N_ITEMS), context([(1, 0.0)]))

    network = 1 / 3 / N_ITEMS
    expected = [[network + 1 / 3 * 0.5, network + 1 / 3, *[network] * (N_ITEMS - 2)]]
    torch.testing.assert_close(found, torch.tensor(expected))


@torch.inference_mode()
def test_an_item_that_was_clicked_twice_is_counted_twice() -> None:
    """As neighbours' source and as what may be clicked again: five terms of 1/5."""
    made = neighbour_of(1, 0, 0.5)

    found = made.probabilities(torch.zeros(1, N_ITEMS), context([(1, 0.0), (1, 0.0)]))

    network = 1 / 5 / N_ITEMS
    assert found[0, :3].tolist() == pytest.approx([network + 2 / 5 * 0.5, network + 2 / 5, network])


@torch.inference_mode()
def test_neighbours_with_share_0_add_nothing() -> None:
    """Short lists are filled up with row 0."""
    made = neighbour_of(1, 2, 0.5)

    found = made.probabilities(torch.zeros(1, N_ITEMS), context([(1, 0.0)]))

    assert found[0, 0].item() == pytest.approx(1 / 3 / N_ITEMS)
    assert found.sum().item() == pytest.approx(1 - 1 / 3 * 0.5)


def test_a_fresh_gate_trusts_the_network_most_and_new_clicks_more_than_old_ones() -> None:
    """What it has not learnt it does not do: length, age and support do not matter yet."""
    made = Mixture(N_ITEMS, N_NEIGHBOURS)
    of = context([(item % N_ITEMS, 50.0 * item) for item in range(N_AGES)])

    with torch.inference_mode():
        weights = made.log_weights(of, torch.ones(1, N_AGES)).exp()[0]
        others = made.log_weights(
            of._replace(age_s=of.age_s * 2, n_session=of.n_session * 3), torch.full((1, N_AGES), 9.0)
        )

    neighbours, reclicks = weights[1 : 1 + N_AGES], weights[1 + N_AGES :]
    torch.testing.assert_close(others.exp()[0], weights)
    assert weights.argmax() == 0
    assert (neighbours.diff() < 0).all()
    assert (reclicks.diff() < 0).all()
    assert (reclicks < neighbours).all()


def test_every_weight_of_the_gate_learns() -> None:
    """Each of them moves some term."""
    made = mixture()
    names, weights = zip(*made.named_parameters(), strict=True)
    support = made.support[CONTEXTS.item_index.clamp(min=0)]

    terms = made.log_weights(CONTEXTS, support)
    gradients = torch.autograd.grad((terms * torch.rand(4, N_TERMS) * (terms > -1e6)).sum(), weights)

    assert [name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()] == []
