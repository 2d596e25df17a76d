"""Optimiser steps of several models in a fixed number of calls, for GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class StackedOptimizers:
    """AdamW, Adam and SGD with Nesterov momentum on rows of buffers, with one optimiser per row.

    The same formulas as the framework's (Loshchilov and Hutter 2019; Kingma and Ba 2015; Sutskever et al. 2013), and
    the same results up to rounding. A step needs nothing from the CPU.

    Parameters
    ----------
    optimisers : sequence of torch.optim.Optimizer
        By row; their weight decay, momentum, betas and eps are taken once, the learning rate with every step.
    values, gradients, first, second, averages : Tensor, shape (models, n)
        Parameters, gradients, which a step overwrites, moments, and averages; of SGD the momentum is `first`.
    """

    def __init__(
        self,
        optimisers: Sequence[torch.optim.Optimizer],
        values: torch.Tensor,
        gradients: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
        averages: torch.Tensor,
    ) -> None:
        self._buffers = values, gradients, first, second, averages
        groups = [optimiser.param_groups[0] for optimiser in optimisers]

        def column(numbers: Sequence[float]) -> torch.Tensor:
            return values.new_tensor(numbers)[:, None]

        # Optimisers of different kinds share the calls of a step, so each kind is a set of coefficients. AdamW decays
        # the weights, Adam and SGD add the decay to the gradient, and SGD adds whole gradients to its momentum.
        sgd = [isinstance(optimiser, torch.optim.SGD) for optimiser in optimisers]
        decoupled = [isinstance(optimiser, torch.optim.AdamW) for optimiser in optimisers]
        decays = [group["weight_decay"] for group in groups]
        self._decoupled = column([decay * is_adamw for decay, is_adamw in zip(decays, decoupled, strict=True)])
        self._added = column([decay * (not is_adamw) for decay, is_adamw in zip(decays, decoupled, strict=True)])
        betas = [group.get("betas", (group.get("momentum"), 0.0)) for group in groups]
        self._beta1, self._beta2 = (column(both) for both in zip(*betas, strict=True))
        self._new1 = column([1.0 if is_sgd else 1.0 - beta for is_sgd, (beta, _) in zip(sgd, betas, strict=True)])
        self._eps = column([group.get("eps", 0.0) for group in groups])
        self._sgd = torch.tensor(sgd, device=values.device)[:, None]

    def step(self, slots: slice, counts: torch.Tensor, settings: torch.Tensor) -> None:
        """One step of some models.

        Parameters
        ----------
        slots : slice
            Rows of the buffers.
        counts : Tensor, shape (models, 1)
            Of the steps of each, this one included.
        settings : Tensor, shape (2, models)
            Learning rates, and what the weights count in their averages.
        """
        values, gradients, first, second, averages = (buffer[slots] for buffer in self._buffers)
        beta1, beta2 = self._beta1[slots], self._beta2[slots]
        rates, weights = settings.to(values.dtype)[:, :, None]
        gradients.addcmul_(values, self._added[slots])
        values.mul_(1.0 - rates * self._decoupled[slots])
        first.mul_(beta1).addcmul_(gradients, self._new1[slots])
        second.mul_(beta2).addcmul_(gradients * (1.0 - beta2), gradients)
        # Of Adam the corrected moments; of SGD the momentum, looked ahead.
        moments = torch.where(self._sgd[slots], gradients + beta1 * first, first / (1.0 - beta1**counts))
        spread = (second / (1.0 - beta2**counts)).sqrt_().add_(self._eps[slots])
        values.sub_(torch.where(self._sgd[slots], moments, moments / spread).mul_(rates))
        averages.lerp_(values, weights)
