"""Engine by autograd, batch after batch, for models without an explicit backward pass."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from scripts.random_keys import key
from scripts.training.engines.cuda_graphs import CudaGraphStep, Step
from scripts.training.models.layers import dropout_layers
from scripts.training.optimisation import average_weight, clipped_step, loss_sum

if TYPE_CHECKING:
    from scripts.training.run import TrainingRun


class AutogradEngine:
    """Trains one run of any model."""

    def __init__(self, run: TrainingRun) -> None:
        self.runs = [run]
        # A user's own model may do what cannot be recorded, and a batch in parts has no room for a recording.
        user_family = run.spec.hyperparameters.family in run.spec.factories
        recorded = run.device.type == "cuda" and not user_family and not run.in_parts
        self._recorded: Step | None = CudaGraphStep(partial(_step, run)) if recorded else None

    def epoch(self) -> list[float]:
        """Train an epoch; the mean loss of its steps.

        Raises
        ------
        OutOfTime
            The run has used its allowed seconds.
        """
        (run,), start = self.runs, time.perf_counter()
        epoch, bounds = run.epoch + 1, run.bounds
        order = run.order(epoch).to(run.device)
        # One gather of the whole epoch leaves contiguous batches; what would not fit is gathered by batch.
        rows, targets = run.train_rows[order], run.targets[order]
        weights = None if run.sample_weights is None else run.sample_weights[order]
        inputs = run.gather(rows) if run.offsets is None and isinstance(run.inputs, torch.Tensor) else None
        losses: list[torch.Tensor] = []
        run.model.train()
        # PyTorch's dropout draws from the global generator. With a seed of run and epoch a resumed run draws the same
        # numbers, and the fork leaves those of other code unchanged.
        with torch.random.fork_rng(devices=[] if run.device.type == "cpu" else [run.device]):
            torch.manual_seed(key(*run.spec.random_key, epoch, "dropout"))
            for layer in dropout_layers(run.model):
                layer.redraw()
            for step, (a, b) in enumerate(bounds, run.epoch * len(bounds)):
                run.check_time(start)
                self._set_learning_rate(run.learning_rate(step))
                batch = (rows if inputs is None else inputs)[a:b], targets[a:b], _part(weights, slice(a, b))
                losses.append(self._step(*batch, gathered=inputs is not None))
                if run.average:
                    weight = average_weight(run.spec.ema_decay, step)
                    torch._foreach_lerp_(run.average, [p.detach() for p in run.parameters], weight)
        # Losses stay on the device until here: reading each one would make the CPU wait for a GPU after every step.
        counts = torch.tensor([b - a for a, b in bounds], device=run.device).float()
        return [float(torch.stack(losses) @ counts) / len(order)]

    def _set_learning_rate(self, rate: float) -> None:
        group = self.runs[0].optimiser.param_groups[0]
        if isinstance(group["lr"], torch.Tensor):  # where a recorded step reads it
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    def _step(
        self, batch: torch.Tensor, targets: torch.Tensor, sample_weights: torch.Tensor | None, gathered: bool
    ) -> torch.Tensor:
        """One optimiser step; out of GPU memory, the micro-batch is halved and the effective batch stays."""
        run = self.runs[0]
        while True:
            try:
                # A graph has fixed shapes, so the shorter last batch of an epoch is not replayed.
                if self._recorded is not None and len(targets) == run.spec.hyperparameters.batch_size:
                    inputs = batch if gathered else run.gather(batch)
                    return self._recorded(inputs, targets, *([] if sample_weights is None else [sample_weights]))
                return _step(run, batch, targets, sample_weights, gathered)
            except torch.OutOfMemoryError:
                if run.micro_batch <= 1:
                    raise
                # The recording has the size of a whole batch, which did not fit.
                run.micro_batch, self._recorded = max(1, min(run.micro_batch, len(targets)) // 2), None


def _step(
    run: TrainingRun,
    batch: torch.Tensor,
    targets: torch.Tensor,
    sample_weights: torch.Tensor | None = None,
    gathered: bool = True,
) -> torch.Tensor:
    """Loss of a batch, which was `gathered`, or whose rows are given; the optimiser takes a step."""
    loss = _accumulate(run, batch, targets, sample_weights, gathered)
    clipped_step(run.optimiser, run.parameters, run.spec.hyperparameters.gradient_clip)
    return loss


def _accumulate(
    run: TrainingRun, batch: torch.Tensor, targets: torch.Tensor, sample_weights: torch.Tensor | None, gathered: bool
) -> torch.Tensor:
    """Gradients of the weighted loss of the batch, one micro-batch after the other."""
    weight, hp = run.class_weights, run.spec.hyperparameters
    # Each part is divided by the mass of the whole batch, so that parts add up to the gradient of one step.
    mass = len(targets) if weight is None else weight[targets].sum()
    run.optimiser.zero_grad(set_to_none=True)
    loss = torch.zeros((), device=run.device)
    for a in range(0, len(targets), run.micro_batch):
        rows = slice(a, a + run.micro_batch)
        inputs = batch[rows] if gathered else run.gather(batch[rows])
        with torch.autocast(run.device.type, torch.bfloat16, hp.precision == "bfloat16", cache_enabled=False):
            logits = run.model(inputs)
        weights = _part(sample_weights, rows)
        share = loss_sum(logits.float(), targets[rows], weight, hp.label_smoothing, weights) / mass
        share.backward()
        loss += share.detach()
    return loss


def _part(values: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if values is None else values[rows]
