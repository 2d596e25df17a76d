"""Parameters, gradients and moments of several models in flat buffers, and their optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from scripts.training.engines.joint_optimiser import StackedOptimizers

# Floats. Kernels round differently in their vector body and their scalar tail, and matrix products choose another
# kernel for unaligned memory, so every tensor fills whole vectors: its result does not depend on its position.
_ALIGNMENT = 64


class FlatParameters:
    """Moves the parameters of models into rows of buffers and takes their optimisers' steps; the padding stays zero.

    The optimisers keep settings and state by parameter, so that their state is the same with and without
    buffers; their own `step` costs several times the arithmetic of a small network.

    Parameters
    ----------
    parameters : sequence of sequence of Parameter
        By model; the shapes are the same in each model.
    optimisers : sequence of torch.optim.Optimizer
        AdamW, Adam, or SGD with Nesterov momentum, each of the parameters of one model as one group.
    averages : sequence of list of Tensor
        By model, averages of its parameters, which move into a buffer too, or nothing.
    largest_norms : sequence of float
        By model, to which its gradients are clipped as `torch.nn.utils.clip_grad_norm_` does; 0 for not at all.
    products : torch.dtype
        Of the copies of parameters and gradients that products are taken with; the parameters stay what they are.
    """

    def __init__(
        self,
        parameters: Sequence[Sequence[nn.Parameter]],
        optimisers: Sequence[torch.optim.Optimizer],
        averages: Sequence[list[torch.Tensor]],
        largest_norms: Sequence[float],
        products: torch.dtype = torch.float32,
    ) -> None:
        self._shapes = [p.shape for p in parameters[0]]
        self._starts = [0]
        for shape in self._shapes:
            self._starts.append(self._starts[-1] + -(-shape.numel() // _ALIGNMENT) * _ALIGNMENT)
        like, size = parameters[0][0].detach(), (len(parameters), self._starts[-1])
        self.values, self.gradients, self.averages, self._first, self._second = (like.new_zeros(size) for _ in range(5))
        self._counts = like.new_zeros(len(parameters), len(self._shapes))  # the framework counts steps by parameter
        self._optimisers = optimisers
        self._clipped = [norm > 0.0 for norm in largest_norms]
        self._largest_norms = like.new_tensor([norm or math.inf for norm in largest_norms])
        for k, (tensors, optimiser, average) in enumerate(zip(parameters, optimisers, averages, strict=True)):
            for parameter, value in zip(tensors, self._moved(self.values[k], tensors), strict=True):
                parameter.data = value
            # In place, because the run keeps this list, and reads its averages from it.
            average[:] = self._moved(self.averages[k], average)
            self._move_state(k, tensors, optimiser)
        self._rounded = self.values, self.gradients
        if products == torch.bfloat16:
            self._rounded = self.values.to(products), self.gradients.to(products)
        self._updates = [self._update(k) for k in range(len(parameters))]
        self._joint: StackedOptimizers | None = None
        if like.device.type != "cpu":  # where a call costs more than its arithmetic on all models
            buffers = self.values, self.gradients, self._first, self._second, self.averages
            self._joint = StackedOptimizers(optimisers, *buffers)

    def _move_state(self, k: int, parameters: Sequence[nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        states = [optimiser.state[p] for p in parameters]
        if isinstance(optimiser, torch.optim.SGD):
            buffers = {"momentum_buffer": self._first[k]}
        else:
            buffers = {"exp_avg": self._first[k], "exp_avg_sq": self._second[k]}
            for state, count in zip(states, self._counts[k], strict=True):
                state["step"] = count.copy_(state.get("step", count))
        for name, row in buffers.items():
            for state, part in zip(states, self._moved(row, [state.get(name) for state in states]), strict=True):
                state[name] = part

    def _moved(self, row: torch.Tensor, tensors: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
        """Places of the tensors in a row of a buffer, with their values (zero for None)."""
        places = [row[a : a + shape.numel()].view(shape) for a, shape in zip(self._starts, self._shapes, strict=False)]
        for place, tensor in zip(places, tensors, strict=False):
            if tensor is not None:
                place.copy_(tensor.detach())
        return places[: len(tensors)]

    def stacked(self, slots: slice) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Parameters of the models and their gradients, each of shape (models, *shape), as the products use them."""
        places = [(slice(a, a + shape.numel()), shape) for a, shape in zip(self._starts, self._shapes, strict=False)]
        values, gradients = (buffer[slots] for buffer in self._rounded)
        return [(values[:, at].unflatten(1, shape), gradients[:, at].unflatten(1, shape)) for at, shape in places]

    def step(self, slots: slice, settings: torch.Tensor) -> None:
        """Clip the gradients, step, and let the averages follow.

        Parameters
        ----------
        slots : slice
            Of the models.
        settings : Tensor of float64, shape (2, models)
            Learning rate of each, and what its weights count in their average, 0 where none is kept.
        """
        if self._rounded[1] is not self.gradients:
            self.gradients[slots].copy_(self._rounded[1][slots])
        if any(self._clipped[slots]):
            # 1e-6 as in `clip_grad_norm_`. An infinite bound, of a model without clipping, gives a share of 1.
            norms = torch.linalg.vector_norm(self.gradients[slots], dim=1)
            shares = (self._largest_norms[slots] / (norms + 1e-6)).clamp_(max=1.0).nan_to_num_(nan=1.0)
            self.gradients[slots].mul_(shares[:, None])
        self._counts[slots] += 1
        if self._joint is not None:
            self._joint.step(slots, self._counts[slots, :1], settings)
        else:
            # On the CPU one fused call for each model keeps the bits of PyTorch's own optimisers
            # (docs/log.md, 2026-11-27, "Optimiser steps of all models").
            self._step_each(slots, *settings.tolist())
        if self._rounded[0] is not self.values:
            self._rounded[0][slots].copy_(self.values[slots])

    def _step_each(self, slots: slice, rates: list[float], weights: list[float]) -> None:
        for k, rate, weight in zip(range(len(self.values))[slots], rates, weights, strict=True):
            self._updates[k](lr=rate)
            if weight:
                self.averages[k].lerp_(self.values[k], weight)

    def _update(self, k: int) -> Callable[..., None]:
        """Return the fused kernel of an optimiser on its row, without the learning rate."""
        optimiser, values, gradients, first = self._optimisers[k], self.values[k], self.gradients[k], self._first[k]
        group = optimiser.param_groups[0]
        settings = {"weight_decay": group["weight_decay"], "maximize": False}
        if isinstance(optimiser, torch.optim.SGD):
            # A momentum of zeros gives the same as the framework's first step, which has none yet.
            settings |= {"momentum": group["momentum"], "dampening": 0.0, "nesterov": True, "is_first_step": False}
            return partial(torch._fused_sgd_, [values], [gradients], [first], **settings)
        fused = torch._fused_adamw_ if isinstance(optimiser, torch.optim.AdamW) else torch._fused_adam_
        (beta1, beta2), count = group["betas"], self._counts[k, 0]
        settings |= {"beta1": beta1, "beta2": beta2, "eps": group["eps"], "amsgrad": False}
        return partial(fused, [values], [gradients], [first], [self._second[k]], [], [count], **settings)
