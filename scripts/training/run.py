"""One resumable training run: weights, optimiser, history and evaluation, in all three phases.

Every random draw of an epoch comes from a generator keyed by the run and the epoch. So a run that is interrupted and
resumed after any epoch has bitwise identical results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.data.sample_weights import training_weights
from scripts.random_keys import key, torch_generator
from scripts.statistics.returns import total_return
from scripts.training.early_stopping import EarlyStopping
from scripts.training.engines.engine import Engine, OutOfTime, engine_of, train_epoch
from scripts.training.inputs import Inputs, inputs_of
from scripts.training.models.registry import build_model, operations_per_row, window_offsets
from scripts.training.optimisation import learning_rate_share, make_optimiser
from scripts.training.order import batch_bounds, shuffled
from scripts.training.precision import matmul_precision
from scripts.training.spec import EpochReport, FailureKind, Outcome, RunSpec, StateDict
from scripts.training.trading import SimulatedTrading

# Rows per forward pass without gradients: large enough for the products, and on the CPU small enough for L2.
_PREDICTION_ROWS = {"cpu": 2048, "cuda": 16_384}


class TrainingRun:
    """Trains one model on one split.

    The loss of a step is the sum of s w l over its rows divided by the sum of w: l is the cross-entropy of a row with
    label smoothing, w the weight of its class (1 without class weights), s its sample weight (1 without). The s have
    mean 1 over the training rows and stay out of the divisor, so that a step on rows that count little is a small
    one: without class weights, the steps of an epoch add up to the weighted mean. Validation is never weighted.

    Parameters
    ----------
    preprocessor : Preprocessor or None
        Fitted on the training rows if None.
    share_inputs_with : TrainingRun or None
        Another run on the same training rows, data set and device, whose inputs it shares.
    """

    preprocessor: Preprocessor
    inputs: Inputs  # of every row of the data set
    train_rows: torch.Tensor
    targets: torch.Tensor  # of the training rows, as the weights
    sample_weights: torch.Tensor | None

    def __init__(
        self,
        spec: RunSpec,
        dataset: Dataset,
        preprocessor: Preprocessor | None = None,
        share_inputs_with: TrainingRun | None = None,
    ) -> None:
        self.spec = spec
        self.device = torch.device(spec.device)
        self._made_for = spec.made_for(dataset.fingerprint)
        if share_inputs_with is not None:
            preprocessor = share_inputs_with.preprocessor
        self.preprocessor: Preprocessor = preprocessor or Preprocessor.fit(
            dataset.x, dataset.categorical, spec.train_rows
        )
        self.model = self._initial_model(dataset.n_classes)
        self.parameters = list(self.model.parameters())
        self._place_data(dataset, share_inputs_with)
        self.bounds = batch_bounds(len(spec.train_rows), spec.hyperparameters.batch_size)
        self.engine: Engine | None = None
        self.average = [p.detach().clone() for p in self.parameters] if spec.ema_decay else []
        self.stopping = EarlyStopping(spec.patience, spec.min_delta)
        self.best_weights: dict[str, torch.Tensor] = {}
        self.history: list[EpochReport] = []
        self.outcome: Outcome | None = None
        self.validation_logits = torch.empty(0)
        self.micro_batch = min(spec.hyperparameters.batch_size, len(spec.train_rows))

    # --- data -------------------------------------------------------------------------------------------------------

    def _place_data(self, dataset: Dataset, share_inputs_with: TrainingRun | None) -> None:
        spec, device = self.spec, self.device
        offsets = window_offsets(spec.hyperparameters)
        self.n_classes = dataset.n_classes
        self.inputs = (
            inputs_of(dataset, self.preprocessor, device) if share_inputs_with is None else share_inputs_with.inputs
        )
        self._shuffle_block_rows = dataset.shuffle_block_rows
        self.offsets = None if offsets is None else torch.tensor(list(offsets), device=device)
        self.train_rows = torch.from_numpy(spec.train_rows).to(device)
        self.targets = torch.from_numpy(dataset.y[spec.train_rows]).to(device)
        counts = torch.bincount(self.targets, minlength=dataset.n_classes)
        self.class_weights: torch.Tensor | None = None
        if spec.hyperparameters.class_weights == "balanced":
            self.class_weights = len(self.targets) / ((counts > 0).sum() * counts.clamp(min=1)).float()
        self.sample_weights = self._sample_weights(dataset)
        rows = spec.validation_rows
        self.validation_rows = torch.from_numpy(rows).to(device)
        self.validation_targets = torch.from_numpy(dataset.y[rows]).to(device)
        self.trading = SimulatedTrading.of(dataset, rows, spec.trading)

    def _sample_weights(self, dataset: Dataset) -> torch.Tensor | None:
        """Weights of the training rows, float32 with mean 1; None where all count the same."""
        hp = self.spec.hyperparameters
        weights = training_weights(dataset, self.spec.train_rows, hp.sample_weights, hp.recency_half_life)
        return None if weights is None else torch.from_numpy(weights).float().to(self.device)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Inputs of `rows`: (batch, n_features), or windows (batch, window, n_features) gathered by index."""
        return self.inputs[rows] if self.offsets is None else self.inputs[rows[:, None] + self.offsets]

    def _initial_model(self, n_classes: int) -> nn.Module:
        spec = self.spec
        # Drawn on the CPU on every device: a GPU's generator would give other initial weights for the same key.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(*spec.random_key, "initial weights"))
            model = build_model(spec.hyperparameters, self.preprocessor.n_outputs, n_classes, spec.factories)
        return model.to(self.device)

    # --- training ---------------------------------------------------------------------------------------------------

    @cached_property
    def optimiser(self) -> torch.optim.Optimizer:
        """Made when it is first needed: PyTorch then imports its compiler, which takes a second."""
        return make_optimiser(self.parameters, self.spec.hyperparameters)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    @property
    def in_parts(self) -> bool:
        """True if a whole batch did not fit in memory."""
        return self.micro_batch < min(self.spec.hyperparameters.batch_size, len(self.train_rows))

    @property
    def finished(self) -> bool:
        """True if the outcome is known."""
        return self.outcome is not None

    def advance(self, epochs: int = 1) -> EpochReport | None:
        """Train up to `epochs` further epochs; the last report, None if the run ended before finishing one."""
        report = None
        for _ in range(epochs):
            if self.finished:
                break
            (report,) = train_epoch(engine_of([self]))
        return report

    def conclude_epoch(self, train_loss: float, seconds: float) -> EpochReport:
        """Evaluate after an epoch of training that took `seconds`, and decide whether the run continues."""
        start = time.perf_counter()
        evaluated = self._is_evaluated(self.epoch + 1)
        loss, accuracy, earned = self._evaluate() if evaluated else (None, None, None)
        duration, rate = seconds + time.perf_counter() - start, len(self.train_rows) / seconds
        report = EpochReport(self.epoch + 1, train_loss, loss, accuracy, earned, duration, rate)
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
            self._finish("failed", f"diverged in epoch {report.epoch}", "diverged")
            return
        if evaluated:
            score = report.score(self.spec.monitor)
            if score is not None and self.stopping.update(report.epoch, score):
                self.best_weights = self._evaluated_weights()
        if report.epoch >= self.spec.epochs:
            self._finish("complete")
        elif evaluated and self.stopping.should_stop(report.epoch):
            self._finish("stopped")

    def order(self, epoch: int) -> torch.Tensor:
        """Order of the training rows in an epoch, on the CPU."""
        generator = torch_generator(*self.spec.random_key, epoch, "order")
        return shuffled(len(self.train_rows), self._shuffle_block_rows, generator)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from the start of the run."""
        hp, spec, n = self.spec.hyperparameters, self.spec, len(self.bounds)
        n_steps, warmup = (spec.schedule_epochs or spec.epochs) * n, spec.warmup_epochs * n
        return hp.learning_rate * learning_rate_share(step, n_steps, warmup, hp.schedule)

    def check_time(self, start: float) -> None:
        """Raise OutOfTime if the run, whose epoch started at `start`, has used its allowed seconds."""
        limit = self.spec.max_duration_s
        if limit is not None and sum(r.duration_s for r in self.history) + time.perf_counter() - start > limit:
            raise OutOfTime

    def stop_for_time(self) -> None:
        """End the run in the middle of an epoch, which does not count."""
        self._finish("stopped", f"stopped by --max-trial-time {self.spec.max_duration_s:g}s", "out_of_time")

    # --- evaluation -------------------------------------------------------------------------------------------------

    @property
    def _prediction_rows(self) -> int:
        """Rows per forward pass; each counts once for every head of a TabM."""
        hp, max_rows = self.spec.hyperparameters, _PREDICTION_ROWS[self.device.type]
        if self.in_parts:
            max_rows = min(max_rows, self.micro_batch)  # more did not fit
        return max(64, max_rows // hp.n_members) if hp.family == "tabm" else max(64, max_rows)

    def predict(self, rows: np.ndarray) -> torch.Tensor:
        """Logits, float32 of shape (len(rows), n_classes) on the CPU, by the weights that are evaluated."""
        return self._logits(torch.from_numpy(rows).to(self.device)).cpu()

    @torch.no_grad()
    def _logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Predict as `predict`, on the device; in full precision, whatever the precision of training."""
        self.model.eval()
        with self._averaged(), matmul_precision("float32"):
            return torch.cat([self.model(self.gather(part)) for part in rows.split(self._prediction_rows)]).float()

    def _evaluate(self) -> tuple[float, float, float | None]:
        """Loss, accuracy and simulated return on the validation rows."""
        logits, targets = self._logits(self.validation_rows), self.validation_targets
        hits = (logits.argmax(dim=1) == targets).double().mean()
        loss, accuracy = torch.stack([F.cross_entropy(logits, targets).double(), hits]).tolist()  # one copy to the CPU
        if self.trading is None or not math.isfinite(loss):
            return loss, accuracy, None
        return loss, accuracy, total_return(self.trading.returns(logits.cpu()).net)

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

    def _finish(self, state: str, failure: str | None = None, kind: FailureKind | None = None) -> None:
        """Restore the best weights and settle the outcome."""
        seconds = sum(r.duration_s for r in self.history)
        n_parameters = sum(p.numel() for p in self.parameters)
        evaluated = len(self.spec.validation_rows) > 0
        if state == "failed" or (evaluated and not self.best_weights):
            cost = self.epoch, seconds, n_parameters, kind, self.spec.max_duration_s
            self.outcome = Outcome.failed(failure or "no epoch was evaluated", *cost)
            return
        if not evaluated:
            self.best_weights = self._evaluated_weights()
        # A search may resume the run at a later rung, from its last weights. The outcome needs those of the best epoch.
        paused = {}
        if self.spec.pauses and state == "complete":
            paused = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        average, self.average, self.engine = self.average, [], None
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
            operations_per_row(self.model, self.gather(self.train_rows[:1])),
            kind,
        )

    # --- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> StateDict:
        """Everything that the next epoch depends on: tensors and plain values."""
        return {
            "made_for": self._made_for,
            "model": _copied(self.model.state_dict()),
            "optimiser": _copied(self.optimiser.state_dict()),
            "average": _copied(self.average),
            "best_weights": self.best_weights,
            "stopping": {"best": self.stopping.best, "best_epoch": self.stopping.best_epoch},
            "history": [asdict(report) for report in self.history],
            "micro_batch": self.micro_batch,
            "outcome": asdict(self.outcome) if self.outcome else None,
            "validation_logits": self.validation_logits,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Inverse of `state_dict`, for a run made with the same spec and data set."""
        if state.get("made_for", self._made_for) != self._made_for:
            raise ValueError("it was made by another configuration or from other data")
        self.model.load_state_dict(state["model"])
        param_groups = self.optimiser.state_dict()["param_groups"]  # settings of this run, for any device of its state
        self.optimiser.load_state_dict(state["optimiser"] | {"param_groups": param_groups})
        self.average = [a.to(self.device) for a in state["average"]]
        self.best_weights = state["best_weights"]
        self.stopping = replace(self.stopping, **state["stopping"])
        self.history = [EpochReport(**values) for values in state["history"]]
        self.micro_batch = state["micro_batch"]
        self.outcome = Outcome(**state["outcome"]) if state["outcome"] else None
        if self.spec.pauses and self.outcome and self.outcome.state == "complete" and self.epoch < self.spec.epochs:
            self.outcome = None  # it was paused, and resumes
        self.validation_logits = state["validation_logits"]
        self.engine = None  # it refers to replaced parameters


def _copied(value: Any) -> Any:
    """Return the state with its own tensors: views would put the buffers of the whole population into a checkpoint."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
