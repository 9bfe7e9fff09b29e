"""Where training computes, and in which arithmetic."""

import pytest
import torch

from nextclick.errors import PermanentError
from training.learning.device import bfloat16_pays, chosen_device


def test_measuring_takes_nothing_from_the_random_numbers_of_a_training() -> None:
    """Else the first training of a process would differ from the next one with the same seed."""
    bfloat16_pays.cache_clear()
    torch.manual_seed(1)
    before = torch.get_rng_state()

    found = bfloat16_pays(torch.device("cpu"))

    assert torch.equal(torch.get_rng_state(), before)
    assert found in (True, False)


def test_a_named_device_is_taken_as_it_is() -> None:
    """And without one there is always the CPU."""
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to set instead; torch itself would end in a stack trace, and later."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(PermanentError, match="torch finds no GPU; set device=auto or device=cpu"):
        chosen_device("cuda")
