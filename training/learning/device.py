"""Where training computes and in which precision: chosen by what is there and by what is measured, never by name."""

import platform
import time
from functools import cache

import torch
from torch import Tensor

from nextclick.errors import PermanentError


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
        raise PermanentError("device=cuda is set, but torch finds no GPU; set device=auto or device=cpu")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """Say what a device is: the model of the GPU, or the kind of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Measure whether products in bfloat16, which sum in float32, are faster than in float32 on this machine."""
    n_rows, width, n_columns = 384, 128, 8_192  # the product of a training step, about
    pays = 1.5  # bfloat16 must be so many times as fast, because its scores are rounded to 3 digits
    # No random numbers: the first training of a process would get others than the next one with the same seed.
    left, right = torch.ones(n_rows, width, device=device), torch.ones(n_columns, width, device=device)
    return _fastest_s(left.bfloat16(), right.bfloat16()) * pays < _fastest_s(left, right)


def _fastest_s(left: Tensor, right: Tensor) -> float:
    """Time a product ten times and give the least time, in seconds."""
    times_s = []
    for _ in range(10):
        began_s = time.perf_counter()
        left @ right.T
        if left.is_cuda:
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - began_s)
    return min(times_s)
