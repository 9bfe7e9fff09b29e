"""Where training computes and in which arithmetic: chosen by what is there and by what is measured, never by name."""

import time
from functools import cache

import torch

from nextclick.errors import PermanentError

_ROWS, _WIDTH, _COLUMNS = 384, 128, 8_192  # the product of a training step, about
_REPEATS = 10
_PAYS = 1.5  # bfloat16 must be so many times as fast: its scores are rounded to 3 digits


def chosen_device(name: str) -> torch.device:
    """Give the device of the setting `device`: `auto` is the first GPU, if there is one, else the CPU.

    Raises:
        PermanentError: a GPU is asked for and there is none.
    """
    if name == "cpu":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise PermanentError(
            "setting device expects, for cuda, a GPU that torch can use, found none; set device=auto or device=cpu"
        )
    return torch.device("cpu")


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Measure whether products in bfloat16, which sum in float32, are faster than in float32 on this machine."""
    # No random numbers: the first training of a process would get others than the next one with the same seed.
    left, right = torch.ones(_ROWS, _WIDTH, device=device), torch.ones(_COLUMNS, _WIDTH, device=device)
    exact = _fastest_s(left, right)
    return _fastest_s(left.bfloat16(), right.bfloat16()) * _PAYS < exact


def _fastest_s(left: torch.Tensor, right: torch.Tensor) -> float:
    taken = []
    for _ in range(_REPEATS):
        began_s = time.perf_counter()
        left @ right.T
        if left.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began_s)
    return min(taken)
