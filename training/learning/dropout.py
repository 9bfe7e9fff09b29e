"""Dropout that draws a byte per element: drawing numbers is what takes long, and one serves eight elements."""

import torch
from torch import Tensor

_LEVELS = 256  # of a byte


class Dropout:
    """Sets a share of elements to zero and makes the others as much larger.

    Source: Srivastava et al. 2014. The share is rounded to a 256th.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        self._dropped = round(share * _LEVELS)
        self._scale = _LEVELS / (_LEVELS - self._dropped)
        self._generator = generator

    def __call__(self, values: Tensor) -> Tensor:
        """Give float32 values of the same shape."""
        if not self._dropped:
            return values
        numbers = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device)
        numbers.random_(-(2**63), None, generator=self._generator)
        drawn = numbers.view(torch.uint8)[: values.numel()].view(values.shape)
        return values * (drawn >= self._dropped).to(values.dtype).mul_(self._scale)
