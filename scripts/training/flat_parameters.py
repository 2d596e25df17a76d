"""Parameters, gradients and moments of a model in one buffer each: a step is one call, however many tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

# Floats. The fused optimisers round differently in their vector body and their scalar tail, so every tensor fills whole
# vectors: what becomes of a tensor then does not depend on where in the buffer it lies.
_ALIGNMENT = 16


class FlatParameters:
    """Moves parameters and gradients into two buffers and takes the optimiser's steps on them; the padding stays zero.

    The optimiser goes on to hold settings and state by parameter, so that its state is the same with and without
    buffers; its own `step` costs several times the arithmetic of a small network.

    Parameters
    ----------
    parameters : sequence of Parameter
        On the CPU.
    optimiser : torch.optim.Optimizer
        AdamW, Adam, or SGD with Nesterov momentum, of these parameters as one group.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        self._parameters, self._optimiser = parameters, optimiser
        self._starts = [0]
        for parameter in parameters:
            self._starts.append(self._starts[-1] + -(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT)
        self._values = self._joined([p.detach() for p in parameters])
        self._gradient = torch.zeros_like(self._values)
        for parameter, value, gradient in zip(
            parameters, self._parts(self._values), self._parts(self._gradient), strict=True
        ):
            parameter.data, parameter.grad = value, gradient
        self.adopt_state()

    def adopt_state(self) -> None:
        """Move the optimiser's state into buffers, as must be done when it is new or was loaded."""
        counts_steps = not isinstance(self._optimiser, torch.optim.SGD)
        states = [self._optimiser.state[p] for p in self._parameters]
        # One count each, all equal, since the framework counts by parameter.
        self._steps = torch.stack([state.get("step", torch.zeros(())) for state in states])
        self._moments = []
        for name in ("exp_avg", "exp_avg_sq") if counts_steps else ("momentum_buffer",):
            moments = zip(states, self._parameters, strict=True)
            self._moments.append(self._joined([state.get(name, torch.zeros_like(p.detach())) for state, p in moments]))
            for state, part in zip(states, self._parts(self._moments[-1]), strict=True):
                state[name] = part
        if counts_steps:
            for state, step in zip(states, self._steps, strict=True):
                state["step"] = step

    def _parts(self, flat: torch.Tensor) -> list[torch.Tensor]:
        pairs = zip(self._starts[:-1], self._parameters, strict=True)
        return [flat[start : start + p.numel()].view(p.shape) for start, p in pairs]

    def _joined(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        flat = parts[0].new_zeros(self._starts[-1])
        for place, part in zip(self._parts(flat), parts, strict=True):
            place.copy_(part)
        return flat

    @torch.no_grad()
    def step(self, largest_norm: float) -> None:
        """Clip the gradient as `torch.nn.utils.clip_grad_norm_` does (not if `largest_norm` is 0), then step."""
        if largest_norm:
            norm = torch.linalg.vector_norm(self._gradient)
            self._gradient.mul_((largest_norm / (norm + 1e-6)).clamp_(max=1.0))
        group, values, gradients = self._optimiser.param_groups[0], [self._values], [self._gradient]
        rate, decay = group["lr"], group["weight_decay"]
        if isinstance(self._optimiser, torch.optim.SGD):
            torch._fused_sgd_(
                values,
                gradients,
                self._moments,
                lr=rate,
                weight_decay=decay,
                momentum=group["momentum"],
                dampening=0.0,
                nesterov=True,
                maximize=False,
                is_first_step=False,  # a buffer of zeros gives the same
            )
            return
        fused = torch._fused_adamw_ if isinstance(self._optimiser, torch.optim.AdamW) else torch._fused_adam_
        (beta1, beta2), (first, second) = group["betas"], self._moments
        self._steps += 1
        fused(
            values,
            gradients,
            [first],
            [second],
            [],
            [self._steps[0]],
            lr=rate,
            weight_decay=decay,
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
