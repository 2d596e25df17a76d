"""Loss, optimisers, learning-rate schedule and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from scripts.config.search_space import Hyperparameters

_MIN_SHARE = 0.01  # of the peak learning rate at the end of a cosine


def make_optimiser(parameters: Iterable[nn.Parameter], hyperparameters: Hyperparameters) -> torch.optim.Optimizer:
    """Fused optimiser named by the hyperparameters; on a GPU its steps can be recorded."""
    hp, parameters = hyperparameters, list(parameters)
    device, decay = parameters[0].device, hp.weight_decay
    on_gpu = device.type == "cuda"
    rate = torch.tensor(hp.learning_rate, device=device) if on_gpu else hp.learning_rate
    if hp.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[hp.optimizer]
    return kind(parameters, rate, weight_decay=decay, fused=True, capturable=on_gpu)


def clipped_step(optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], largest_norm: float) -> None:
    """Take a step with the gradients scaled to at most `largest_norm` in all; 0 leaves them as they are."""
    if largest_norm:
        nn.utils.clip_grad_norm_(parameters, largest_norm)
    optimiser.step()


def learning_rate_share(step: int, n_steps: int, warmup_steps: int, schedule: str) -> float:
    """Share of the peak learning rate at `step` of `n_steps`: linear warm-up, then constant or half a cosine."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, n_steps - warmup_steps))
    return _MIN_SHARE + (1.0 - _MIN_SHARE) * 0.5 * (1.0 + math.cos(math.pi * progress))


def loss_sum(
    logits: torch.Tensor,
    targets: torch.Tensor,
    class_weights: torch.Tensor | None,
    label_smoothing: float,
    sample_weights: torch.Tensor | None,
) -> torch.Tensor:
    """Sum over rows of the cross-entropy with class weights and label smoothing, times the row's sample weight.

    Parameters
    ----------
    logits : Tensor, shape (n, n_classes) or (n, n_heads, n_classes)
        Of several heads the mean of their losses is taken.
    targets : Tensor of int64, shape (n,)
    class_weights : Tensor, shape (n_classes,), or None
        With label smoothing, each class of the smoothed target has its own weight, as in PyTorch.
    sample_weights : Tensor, shape (n,), or None
        None: every row counts the same.
    """
    if logits.ndim == 3:
        n_heads = logits.shape[1]
        weights = None if sample_weights is None else sample_weights.repeat_interleave(n_heads)
        rows = (logits.flatten(0, 1), targets.repeat_interleave(n_heads))
        return loss_sum(*rows, class_weights, label_smoothing, weights) / n_heads
    if sample_weights is None:
        return F.cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=label_smoothing)
    losses = F.cross_entropy(logits, targets, class_weights, reduction="none", label_smoothing=label_smoothing)
    return (losses * sample_weights).sum()


def loss_factors(
    n_classes: int, class_weights: torch.Tensor | None, label_smoothing: float, device: torch.device | None = None
) -> torch.Tensor:
    """Return the matrix whose row y weights the log-probabilities of class y: `loss_sum` as one product."""
    smoothed = (1.0 - label_smoothing) * torch.eye(n_classes, device=device) + label_smoothing / n_classes
    return -smoothed if class_weights is None else -smoothed * class_weights


def average_weight(decay: float, step: int) -> float:
    """Return the weight of the weights after `step` in their moving average; larger at first, to forget the start."""
    return 1.0 - min(decay, (1 + step) / (10 + step))
