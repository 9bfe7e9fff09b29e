"""The classic example of three users and five fruits: what a network learns from them, and what it says to a new user.

Run as `python -m training.fruit_example`; `docs/fruit-example.md` explains what it prints. It trains the network that
the stream serves, at a size where every number can be looked at, in two forms:

- `rnn`: a tanh cell as wide as there are items, softmax over the items, the binary loss, plain gradient descent;
- `lstm`: an embedding and an LSTM of 64, a sigmoid per item, Adam. An item is recommended at 0.5 or more.

It trains in float64, so that the printed digits are the same on every machine.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from training.learning.losses import binary_cross_entropy, multi_label_binary_cross_entropy
from training.learning.sequences import ClickColumns, Ints, Sequences, group_by_user, padded_rows, training_windows

ITEM_IDS = ["apple", "banana", "orange", "kiwi", "grapefruit"]
USERS = [["apple", "banana", "orange"], ["banana", "kiwi", "grapefruit"], ["orange", "grapefruit"]]
NEW_USERS = [["banana"], ["apple", "banana"]]
DECISION = 0.5  # an item that is at least so probable is recommended
_SEED = 0


class Form(NamedTuple):
    """One way to predict.

    Attributes:
        title: one line.
        config: of the network.
        loss: of logits, int64 targets, and the number of users.
        optimizer: for the network's weights.
        passes: over the three users; what the network says is shown after the few and after the many.
        probabilities: of logits.
    """

    title: str
    config: NetworkConfig
    loss: Callable[[Tensor, Tensor, int], Tensor]
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]
    passes: tuple[int, int]
    probabilities: Callable[[Tensor], Tensor]


def _loss_of_baskets(logits: Tensor, target: Tensor, n_users: int) -> Tensor:
    """Every step's basket holds the one item that is clicked next."""
    return multi_label_binary_cross_entropy(logits, functional.one_hot(target, len(ITEM_IDS)).to(logits), n_users)


FORMS = [
    Form(
        "rnn: tanh cell of 5, softmax over the items",
        NetworkConfig(len(ITEM_IDS), len(ITEM_IDS), "rnn", tied=False),
        binary_cross_entropy,
        lambda weights: torch.optim.SGD(weights, lr=0.1),
        (20, 300),
        lambda logits: logits.softmax(-1),
    ),
    Form(
        "lstm: embedding and LSTM of 64, sigmoid per item",
        NetworkConfig(len(ITEM_IDS), 64, "lstm", tied=False),
        _loss_of_baskets,
        lambda weights: torch.optim.Adam(weights, lr=0.003),
        (30, 100),
        torch.sigmoid,
    ),
]


def sequences_of(users: list[list[str]]) -> Sequences:
    """Give the clicks of users who click one item after another; the times do not matter."""
    items = [ITEM_IDS.index(item_id) for clicked in users for item_id in clicked]
    user = np.repeat(np.arange(len(users)), [len(clicked) for clicked in users])
    nothing = np.zeros(len(items), dtype=np.int64)
    return group_by_user(ClickColumns(user, np.array(items), nothing, nothing, ITEM_IDS))


def trained(form: Form, passes: int) -> tuple[Network, float]:
    """Train a new network on the three users.

    Returns:
        The network, and its loss before the last pass.
    """
    torch.manual_seed(_SEED)
    network = Network(form.config).double()
    sequences = sequences_of(USERS)
    windows = training_windows(sequences, len(sequences), len(sequences))
    rows, is_real = padded_rows(windows.first, windows.end - windows.first - 1)
    target = torch.from_numpy(sequences.item_index[rows + 1][is_real])
    optimizer = form.optimizer(list(network.parameters()))
    loss = torch.zeros(())
    for _ in range(passes):
        logits = _logits(network, sequences, rows)[torch.from_numpy(is_real)]
        loss = form.loss(logits, target, len(windows))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network, loss.item()


def probabilities(network: Network, form: Form, clicked: list[str]) -> list[tuple[str, float]]:
    """Give each item's probability to be what a new user clicks next, the most probable first."""
    sequences = sequences_of([clicked])
    with torch.inference_mode():
        logits = _logits(network, sequences, np.arange(len(clicked))[None])[0, -1]
    of_item = zip(ITEM_IDS, form.probabilities(logits).tolist(), strict=True)
    return sorted(of_item, key=lambda pair: -pair[1])


def _logits(network: Network, sequences: Sequences, rows: Ints) -> Tensor:
    """Run the network over padded rows, from the zero state: (users, steps, n_items)."""
    item, event, gap = (
        torch.from_numpy(column[rows]) for column in (sequences.item_index, sequences.event_type, sequences.gap_s)
    )
    zero = torch.zeros(len(rows), network.config.state_size, dtype=torch.float64)
    outputs, _ = network.run(network.inputs(item, event, gap), zero)
    return network.scores(outputs.flatten(0, 1)).view(*rows.shape, -1)


def report() -> str:
    """Train both forms, and write down what they say."""
    lines = [f"user {number}: {', '.join(clicked)}" for number, clicked in enumerate(USERS, 1)]
    for form in FORMS:
        lines += ["", f"== {form.title}"]
        for passes in form.passes:
            network, loss = trained(form, passes)
            lines += ["", f"after {passes} passes, loss {loss:.2f}"]
            for clicked in NEW_USERS:
                lines += [f"  a new user clicks {', '.join(clicked)}"]
                lines += [_line(*ranked) for ranked in probabilities(network, form, clicked)]
    return "\n".join(lines)


def _line(item_id: str, probability: float) -> str:
    return f"    {item_id:<10}  {probability:.2f}  {'recommend' if probability >= DECISION else '-'}"


if __name__ == "__main__":
    print(report())
