"""Layers that several families share: activations and a dropout that is cheap on the CPU."""

from __future__ import annotations

import torch
from torch import nn

_ALIGNMENT = 16  # floats; an unaligned slice of the pool doubles the cost of the multiplication
_SPARE = 2.0  # size of the pool in masks of the largest layer
_GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 fill an interval evenly, however many are taken (Weyl)

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class PooledDropout(nn.Module):
    """Inverted dropout whose masks are slices of one pool of scaled Bernoulli numbers.

    Drawing Bernoulli numbers costs more than the matrix products of a small network on the CPU; a slice costs next
    to nothing. The pool is drawn again when `redraw` is called (each epoch) or when a mask exceeds it. The start of a
    slice depends only on the number of masks since then, so models of one shape can take theirs in one call.
    On a GPU the layer itself is the framework's own dropout, whose numbers are free.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.redraw()

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Forget the pool; the next mask draws a new one on the generator's device, by the global one if None."""
        self._generator, self._pool = generator, torch.empty(0)
        self._largest = self._places = self._uses = 0

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Apply to activations of any shape."""
        if not self.training or self.p == 0.0:
            return h
        if h.device.type != "cpu":
            return nn.functional.dropout(h, self.p)
        pool, start = self.pool(h.numel(), h.dtype), self.start(self._uses)
        self._uses += 1
        return h * pool[start : start + h.numel()].view(h.shape)

    def pool(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        """Numbers that are 0 with probability p, else 1 / (1 - p), enough for masks of `size`."""
        if size > self._largest:
            length, keep = int(size * _SPARE) + 1024 * _ALIGNMENT, 1.0 - self.p
            device = self._generator.device if self._generator else None
            numbers = torch.empty(length, dtype=dtype, device=device).bernoulli_(keep, generator=self._generator)
            self._pool, self._largest = numbers.mul_(1.0 / keep), size
            self._places = (length - size) // _ALIGNMENT + 1
        return self._pool

    def start(self, use: int) -> int:
        """Return the start of the mask with number `use` since the last redraw."""
        return int(use * _GOLDEN % 1.0 * self._places) * _ALIGNMENT


def dropout_layers(model: nn.Module) -> list[PooledDropout]:
    """Dropout layers of `model` in the order of their use."""
    return [module for module in model.modules() if isinstance(module, PooledDropout)]
