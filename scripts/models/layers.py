"""Layers that several families share: activations and a dropout that is cheap on the CPU."""

from __future__ import annotations

import torch
from torch import nn

_ALIGNMENT = 16  # floats; an unaligned slice of the pool doubles the cost of the multiplication
_SPARE = 2.0  # size of the pool in masks of the largest layer

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class PooledDropout(nn.Module):
    """Inverted dropout whose masks are slices, at random offsets, of one pool of scaled Bernoulli numbers.

    Drawing Bernoulli numbers costs more than the matrix products of a small network on the CPU; a slice costs next
    to nothing. The pool is drawn anew from the global generator when `redraw` is called (each epoch) or when a mask
    outgrows it. On a GPU the framework's own dropout is used, whose numbers are free.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._pool = torch.empty(0)
        self._offsets: list[int] = []

    def redraw(self) -> None:
        """Forget the pool; the next mask draws a new one."""
        self._pool = torch.empty(0)
        self._offsets = []

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Apply to activations of any shape."""
        if not self.training or self.p == 0.0:
            return h
        if h.device.type != "cpu":
            return nn.functional.dropout(h, self.p)
        return h * self.mask(h)

    def mask(self, h: torch.Tensor) -> torch.Tensor:
        """What to multiply `h` by in training, on the CPU: 0 with probability p, else 1 / (1 - p)."""
        return self._slice(h.numel(), h.dtype).view(h.shape)

    def _slice(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        if len(self._pool) < size + _ALIGNMENT:
            length = int(size * _SPARE) + 1024 * _ALIGNMENT
            keep = 1.0 - self.p
            self._pool = torch.empty(length, dtype=dtype).bernoulli_(keep).mul_(1.0 / keep)
            self._offsets = []
        if not self._offsets:
            places = (len(self._pool) - size) // _ALIGNMENT
            self._offsets = (torch.randint(places + 1, (256,)) * _ALIGNMENT).tolist()
        start = self._offsets.pop()
        if start + size > len(self._pool):  # offsets drawn for a smaller mask
            start = start % (len(self._pool) - size) // _ALIGNMENT * _ALIGNMENT
        return self._pool[start : start + size]


def redraw_dropout(model: nn.Module) -> None:
    """Begin new dropout masks in every layer of `model`."""
    for module in model.modules():
        if isinstance(module, PooledDropout):
            module.redraw()
