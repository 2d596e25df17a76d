"""Parameters, gradients and moments of models of one shape in one buffer each: a step is one call, or one a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from scripts.training.joint_step import JointStep

# Floats. Kernels round differently in their vector body and their scalar tail, and matrix products choose another
# kernel for unaligned memory, so every tensor fills whole vectors: what becomes of it does not depend on where it lies.
_ALIGNMENT = 64


class FlatParameters:
    """Moves the parameters of models into rows of buffers and takes their optimisers' steps; the padding stays zero.

    The optimisers go on to hold settings and state by parameter, so that their state is the same with and without
    buffers; their own `step` costs several times the arithmetic of a small network.

    Parameters
    ----------
    parameters : sequence of sequence of Parameter
        By model; the shapes are the same in each model.
    optimisers : sequence of torch.optim.Optimizer
        AdamW, Adam, or SGD with Nesterov momentum, each of the parameters of one model as one group.
    averages : sequence of list of Tensor
        By model, averages of its parameters, which move into a buffer too, or nothing.
    """

    def __init__(
        self,
        parameters: Sequence[Sequence[nn.Parameter]],
        optimisers: Sequence[torch.optim.Optimizer],
        averages: Sequence[list[torch.Tensor]],
    ) -> None:
        self._shapes = [p.shape for p in parameters[0]]
        self._starts = [0]
        for shape in self._shapes:
            self._starts.append(self._starts[-1] + -(-shape.numel() // _ALIGNMENT) * _ALIGNMENT)
        like, size = parameters[0][0].detach(), (len(parameters), self._starts[-1])
        self.values, self.gradients, self.averages, self._first, self._second = (like.new_zeros(size) for _ in range(5))
        self._counts = like.new_zeros(len(parameters), len(self._shapes))  # the framework counts steps by parameter
        self._optimisers = optimisers
        for k, (own, optimiser, average) in enumerate(zip(parameters, optimisers, averages, strict=True)):
            for parameter, value in zip(own, self._moved(self.values[k], own), strict=True):
                parameter.data = value
            average[:] = self._moved(self.averages[k], average)
            self._move_state(k, own, optimiser)
        self._updates = [self._update(k) for k in range(len(parameters))]
        self._joint: JointStep | None = None
        if like.device.type != "cpu":  # where a call costs more than its arithmetic on all models
            self._joint = JointStep(optimisers, self.values, self.gradients, self._first, self._second)

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

    def stacked(self, members: slice) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each parameter of the models and its gradient, shape (models, *shape)."""
        places = [(slice(a, a + shape.numel()), shape) for a, shape in zip(self._starts, self._shapes, strict=False)]
        values, gradients = self.values[members], self.gradients[members]
        return [(values[:, at].unflatten(1, shape), gradients[:, at].unflatten(1, shape)) for at, shape in places]

    def step(self, members: slice, largest_norms: Sequence[float]) -> None:
        """Clip the gradients as `torch.nn.utils.clip_grad_norm_` does (not if the norm is 0), then step; by member."""
        if any(largest_norms):
            norms = torch.linalg.vector_norm(self.gradients[members], dim=1)
            largest = norms.new_tensor([norm or math.inf for norm in largest_norms])
            shares = (largest / (norms + 1e-6)).clamp_(max=1.0).nan_to_num_(nan=1.0)
            self.gradients[members].mul_(shares[:, None])
        self._counts[members] += 1
        if self._joint is not None:
            self._joint.step(members, self._counts[members, :1])
            return
        for optimiser, update in zip(self._optimisers[members], self._updates[members], strict=True):
            update(lr=optimiser.param_groups[0]["lr"])

    def _update(self, k: int) -> Callable[..., None]:
        """The fused kernel of an optimiser on its row, which lacks the learning rate alone."""
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
