"""One resumable training run on tensors that live on the device: the engine of all three phases.

Every random draw of an epoch comes from a generator keyed by the run's address and the epoch, so that a run that is
interrupted and resumed from the state after any epoch ends in the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.data.sample_weights import training_weights
from scripts.evaluation.returns import total_return
from scripts.models.layers import redraw_dropout
from scripts.models.registry import build_model, operations_per_row, window_offsets
from scripts.random_keys import key, torch_generator
from scripts.training.early_stopping import EarlyStopping
from scripts.training.explicit_backward import ExplicitBackward
from scripts.training.optimisation import clipped_step, learning_rate_share, loss_sum, make_optimiser, update_average
from scripts.training.simulated_trading import SimulatedTrading
from scripts.training.spec import EpochReport, Outcome, RunSpec

_PREDICTION_ROWS = 2048  # rows per forward pass without gradients: large enough for the products, small enough for L2


class _OutOfTime(Exception):
    """The run has used its allowed seconds."""


class TrainingRun:
    """Trains one model on one split.

    The loss of a step is the sum of s w l over its rows divided by the sum of w: l is the cross-entropy of a row with
    label smoothing, w the weight of its class (1 without class weights), s its sample weight (1 without). The s have
    mean 1 over the training rows and stay out of the divisor, so that a step on rows that count little is a small
    one: without class weights, the steps of an epoch add up to the weighted mean. Validation is never weighted.

    Parameters
    ----------
    spec : RunSpec
    dataset : Dataset
    preprocessor : Preprocessor or None
        Fitted on the training rows if None.
    """

    def __init__(self, spec: RunSpec, dataset: Dataset, preprocessor: Preprocessor | None = None) -> None:
        self.spec = spec
        self.device = torch.device(spec.device)
        self.preprocessor = preprocessor or Preprocessor.fit(dataset.x[spec.train_rows], dataset.categorical)
        self.model = self._initial_model(dataset.n_classes)
        self.parameters = list(self.model.parameters())
        self.optimiser = make_optimiser(self.parameters, spec.hyperparameters)
        self._place_data(dataset)
        smoothing = spec.hyperparameters.label_smoothing
        self.explicit = ExplicitBackward.of(self.model, self.optimiser, self.class_weights, smoothing)
        self.average = [p.detach().clone() for p in self.parameters] if spec.ema_decay else []
        self.stopping = EarlyStopping(spec.patience, spec.min_delta)
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history: list[EpochReport] = []
        self.outcome: Outcome | None = None
        self.validation_logits = torch.empty(0)
        self.micro_batch = min(spec.hyperparameters.batch_size, len(spec.train_rows))

    # --- data -------------------------------------------------------------------------------------------------------

    def _place_data(self, dataset: Dataset) -> None:
        spec, device = self.spec, self.device
        offsets = window_offsets(spec.hyperparameters)
        self.inputs = torch.from_numpy(self.preprocessor.transform(dataset.x)).to(device)
        self.offsets = None if offsets is None else torch.tensor(list(offsets), device=device)
        self.train_rows = torch.from_numpy(spec.train_rows).to(device)
        self.targets = torch.from_numpy(dataset.y[spec.train_rows]).to(device)
        counts = torch.bincount(self.targets, minlength=dataset.n_classes)
        self.class_weights: torch.Tensor | None = None
        if spec.hyperparameters.class_weights == "balanced":
            self.class_weights = len(self.targets) / ((counts > 0).sum() * counts.clamp(min=1)).float()
        self.sample_weights = self._sample_weights(dataset)
        rows = spec.validation_rows
        self.validation_targets = torch.from_numpy(dataset.y[rows]).to(device)
        self.trading = SimulatedTrading.of(dataset, rows, spec.trading)

    def _sample_weights(self, dataset: Dataset) -> torch.Tensor | None:
        """Weights of the training rows, float32 with mean 1; None where all count the same."""
        hp = self.spec.hyperparameters
        weights = training_weights(dataset, self.spec.train_rows, hp.sample_weights, hp.recency_half_life)
        return None if weights is None else torch.from_numpy(weights).float().to(self.device)

    def _gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Inputs of `rows`: (batch, n_features), or windows (batch, window, n_features) gathered by index."""
        return self.inputs[rows] if self.offsets is None else self.inputs[rows[:, None] + self.offsets]

    def _initial_model(self, n_classes: int) -> nn.Module:
        spec = self.spec
        with torch.random.fork_rng():
            torch.manual_seed(key(*spec.address, "initial weights"))
            model = build_model(spec.hyperparameters, self.preprocessor.n_outputs, n_classes, spec.factories)
        return model.to(self.device)

    # --- training ---------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether the outcome is known."""
        return self.outcome is not None

    def advance(self, epochs: int = 1) -> EpochReport | None:
        """Train up to `epochs` further epochs; the last report, None if the run ended before finishing one."""
        report = None
        for _ in range(epochs):
            if self.finished:
                break
            report = self._advance_one()
        return report

    def _advance_one(self) -> EpochReport | None:
        start = time.perf_counter()
        try:
            train_loss = self._train_epoch(self.epoch + 1, start)
        except _OutOfTime:
            self._finish("stopped", f"stopped after {self.spec.max_duration_s:g} s of training")
            return None
        seconds = time.perf_counter() - start
        evaluated = self._is_evaluated(self.epoch + 1)
        loss, accuracy, earned = self._evaluate() if evaluated else (None, None, None)
        rate = len(self.train_rows) / seconds
        report = EpochReport(self.epoch + 1, train_loss, loss, accuracy, earned, time.perf_counter() - start, rate)
        self.history.append(report)
        self._decide(report, evaluated)
        return report

    def _is_evaluated(self, epoch: int) -> bool:
        last = epoch == self.spec.epochs
        return len(self.spec.validation_rows) > 0 and (last or epoch % self.spec.evaluation_frequency == 0)

    def _decide(self, report: EpochReport, evaluated: bool) -> None:
        """Remember the best weights; end the run if it diverged, ran out of patience or of epochs."""
        loss = report.val_loss if evaluated and report.val_loss is not None else report.train_loss
        if not (math.isfinite(report.train_loss) and math.isfinite(loss)):
            self._finish("failed", f"diverged in epoch {report.epoch}")
            return
        if evaluated:
            score = -loss if self.spec.monitor == "val_loss" else report.val_accuracy
            if score is not None and self.stopping.update(report.epoch, score):
                self.best_weights = self._evaluated_weights()
        if report.epoch >= self.spec.epochs:
            self._finish("complete")
        elif evaluated and self.stopping.should_stop(report.epoch):
            self._finish("stopped")

    def _train_epoch(self, epoch: int, start: float) -> float:
        """One pass over the training rows; the mean loss of its steps."""
        n = len(self.train_rows)
        order = torch.randperm(n, generator=torch_generator(*self.spec.address, epoch, "order"))
        order = order.to(self.device)
        # One gather of the whole epoch leaves contiguous batches; windows would not fit and are gathered by batch.
        rows, targets = self.train_rows[order], self.targets[order]
        weights = None if self.sample_weights is None else self.sample_weights[order]
        inputs = self._gather(rows) if self.offsets is None else None
        bounds = _batch_bounds(n, self.spec.hyperparameters.batch_size)
        losses: list[torch.Tensor] = []
        self.model.train()
        with torch.random.fork_rng():
            torch.manual_seed(key(*self.spec.address, epoch, "dropout"))
            redraw_dropout(self.model)
            for step, (a, b) in enumerate(bounds):
                self._check_time(start)
                step_number = (epoch - 1) * len(bounds) + step
                self._set_learning_rate(step_number, len(bounds))
                batch = (rows if inputs is None else inputs)[a:b], targets[a:b], _part(weights, slice(a, b))
                losses.append(self._step(*batch, gathered=inputs is not None))
                if self.average:
                    update_average(self.average, self.parameters, self.spec.ema_decay, step_number)
        return float(torch.stack(losses) @ torch.tensor([b - a for a, b in bounds], device=self.device).float()) / n

    def _step(
        self, batch: torch.Tensor, targets: torch.Tensor, sample_weights: torch.Tensor | None, gathered: bool
    ) -> torch.Tensor:
        """One optimiser step; out of GPU memory, the micro-batch is halved and the effective batch stays."""
        while True:
            try:
                loss = self._accumulate(batch, targets, sample_weights, gathered)
                break
            except torch.OutOfMemoryError:
                if self.micro_batch <= 1:
                    raise
                self.micro_batch = max(1, min(self.micro_batch, len(targets)) // 2)
        step = self.explicit.flat.step if self.explicit else partial(clipped_step, self.optimiser, self.parameters)
        step(self.spec.hyperparameters.gradient_clip)
        return loss

    def _accumulate(
        self, batch: torch.Tensor, targets: torch.Tensor, sample_weights: torch.Tensor | None, gathered: bool
    ) -> torch.Tensor:
        """Gradients of the weighted loss of the batch, by autograd one micro-batch after the other."""
        weight, smoothing = self.class_weights, self.spec.hyperparameters.label_smoothing
        mass = len(targets) if weight is None else weight[targets].sum()
        if self.explicit and len(targets) <= self.micro_batch + 1:  # a merged last row splits nothing
            return self.explicit.loss(batch, targets, sample_weights, mass)
        self.optimiser.zero_grad(set_to_none=self.explicit is None)
        loss = torch.zeros((), device=self.device)
        for a in range(0, len(targets), self.micro_batch):
            rows = slice(a, a + self.micro_batch)
            logits = self.model(batch[rows] if gathered else self._gather(batch[rows]))
            share = loss_sum(logits, targets[rows], weight, smoothing, _part(sample_weights, rows)) / mass
            share.backward()
            loss += share.detach()
        return loss

    def _set_learning_rate(self, step: int, steps_per_epoch: int) -> None:
        hp, spec = self.spec.hyperparameters, self.spec
        n_steps, warmup = (spec.schedule_epochs or spec.epochs) * steps_per_epoch, spec.warmup_epochs * steps_per_epoch
        self.optimiser.param_groups[0]["lr"] = hp.learning_rate * learning_rate_share(
            step, n_steps, warmup, hp.schedule
        )

    def _check_time(self, start: float) -> None:
        limit = self.spec.max_duration_s
        if limit is not None and sum(r.duration_s for r in self.history) + time.perf_counter() - start > limit:
            raise _OutOfTime

    # --- evaluation -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, rows: np.ndarray) -> torch.Tensor:
        """Logits, float32 of shape (len(rows), n_classes) on the CPU, by the weights that are evaluated."""
        self.model.eval()
        index = torch.from_numpy(rows).to(self.device)
        with self._averaged():
            parts = [self.model(self._gather(part)) for part in index.split(_PREDICTION_ROWS)]
        return torch.cat(parts).float().cpu()

    def _evaluate(self) -> tuple[float, float, float | None]:
        """Loss, accuracy and simulated return on the validation rows; one copy to the CPU."""
        logits = self.predict(self.spec.validation_rows)
        targets = self.validation_targets.cpu()
        loss = float(F.cross_entropy(logits, targets))
        accuracy = float((logits.argmax(dim=1) == targets).double().mean())
        if self.trading is None or not math.isfinite(loss):
            return loss, accuracy, None
        return loss, accuracy, total_return(self.trading.returns(logits).net)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights take the model's place."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=False):
            kept = parameter.detach().clone()  # by value: parameters may be views of a buffer
            parameter.data.copy_(average)
            average.copy_(kept)

    def _evaluated_weights(self) -> dict[str, torch.Tensor]:
        with self._averaged():
            return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _finish(self, state: str, failure: str | None = None) -> None:
        """Restore the best weights and settle the outcome."""
        seconds = sum(r.duration_s for r in self.history)
        n_parameters = sum(p.numel() for p in self.parameters)
        evaluated = len(self.spec.validation_rows) > 0
        if state == "failed" or (evaluated and not self.best_weights):
            self.outcome = Outcome.failed(failure or "no epoch was evaluated", self.epoch, seconds, n_parameters)
            return
        if not evaluated:
            self.best_weights = self._evaluated_weights()
        paused = {}
        if self.spec.pauses and state == "complete":
            paused = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        average, self.average = self.average, []
        self.model.load_state_dict(self.best_weights)
        best = self.history[(self.stopping.best_epoch or self.epoch) - 1]
        start = time.perf_counter()
        self.validation_logits = self.predict(self.spec.validation_rows) if evaluated else torch.empty(0)
        latency = (time.perf_counter() - start) / max(1, len(self.spec.validation_rows)) * 1e6
        if paused:
            self.model.load_state_dict(paused)
            self.average = average
        else:
            self.optimiser.state.clear()  # a finished run takes no further step
        self.outcome = Outcome(
            "stopped" if state == "stopped" else "complete",
            self.epoch,
            best.epoch,
            best.train_loss,
            best.val_loss,
            best.val_accuracy,
            best.simulated_return,
            n_parameters,
            seconds,
            latency if evaluated else None,
            failure,
            operations_per_row(self.model, self._gather(self.train_rows[:1])),
        )

    # --- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on: tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "best_weights": self.best_weights,
            "stopping": self.stopping.state_dict(),
            "history": [asdict(report) for report in self.history],
            "micro_batch": self.micro_batch,
            "outcome": asdict(self.outcome) if self.outcome else None,
            "validation_logits": self.validation_logits,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, for a run made with the same spec and data set."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = [a.to(self.device) for a in state["average"]]
        self.best_weights = state["best_weights"]
        self.stopping.load_state_dict(state["stopping"])
        self.history = [EpochReport(**values) for values in state["history"]]
        self.micro_batch = state["micro_batch"]
        self.outcome = Outcome.from_dict(state["outcome"]) if state["outcome"] else None
        if self.spec.pauses and self.outcome and self.outcome.state == "complete" and self.epoch < self.spec.epochs:
            self.outcome = None  # it was paused, and goes on
        self.validation_logits = state["validation_logits"]
        if self.explicit and not self.finished:
            self.explicit.flat.adopt_state()


def _part(values: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if values is None else values[rows]


def _batch_bounds(n: int, size: int) -> list[tuple[int, int]]:
    """Bounds of the batches of an epoch; a last batch of one row is merged, since its statistics mean nothing."""
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))
