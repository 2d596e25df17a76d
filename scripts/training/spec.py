"""Specification and reports of a training run: plain frozen records that travel between processes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from scripts.config.experiment import Experiment, ExtendedConfig, FinalConfig, TuningConfig
from scripts.config.search_space import Hyperparameters, Values
from scripts.data.splits import Split
from scripts.statistics.returns import TradingRules

RunState = Literal["complete", "stopped", "failed"]
FailureKind = Literal["diverged", "out_of_time", "out_of_memory", "worker_killed", "hung", "model_error"]
StateDict = dict[str, Any]
"""A state as PyTorch has it: tensors and plain values by name."""
_OF_CIRCUMSTANCES = ("out_of_time", "out_of_memory", "worker_killed")  # another try may succeed


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the result of one training run on a given data set.

    Attributes
    ----------
    name : str
        Name of the run, of its checkpoint and of its TensorBoard folder.
    random_key : tuple
        Address of its randomness, such as (seed, "trial", 7, "fold", 0).
    train_rows, validation_rows : ndarray of int64
        Rows of the data set; without validation rows every epoch is run and nothing is evaluated.
    epochs, evaluation_frequency, patience : int
        All in epochs.
    monitor : {"val_accuracy", "val_loss"}
        Decides the best epoch and early stopping.
    schedule_epochs : int or None
        Epochs over which the learning rate runs; None means `epochs`. A run that is to end earlier keeps its schedule.
    ema_decay : float
        Decay per step of the averaged weights that are evaluated and kept; 0 means the weights themselves.
    trading : TradingRules
        How predictions are traded in the simulated returns that are reported; decides nothing in training.
    factories : mapping
        The user's own model families.
    max_duration_s : float or None
        The run is stopped after this many seconds of training.
    pauses : bool
        After `epochs` epochs the run keeps its state with its outcome, and resumes under a spec with more epochs.
    """

    name: str
    random_key: tuple[int | str, ...]
    hyperparameters: Hyperparameters
    train_rows: np.ndarray
    validation_rows: np.ndarray
    epochs: int
    evaluation_frequency: int = 1
    patience: int = 10**9
    min_delta: float = 0.0
    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    schedule_epochs: int | None = None
    warmup_epochs: int = 0
    ema_decay: float = 0.0
    trading: TradingRules = field(default_factory=TradingRules)
    factories: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    max_duration_s: float | None = None
    pauses: bool = False

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        section: TuningConfig | ExtendedConfig | FinalConfig,
        name: str,
        random_key: tuple[int | str, ...],
        values: Hyperparameters | Values,
        split: Split,
        epochs: int,
        device: str,
        **differing: Any,
    ) -> RunSpec:
        """Return the spec of a run whose evaluation and early stopping follow the section of its phase.

        `differing` are fields that no section holds.
        """
        final = section if isinstance(section, FinalConfig) else None
        return cls(
            name,
            random_key,
            Hyperparameters.model_validate(values),
            *split,
            epochs,
            evaluation_frequency=section.evaluation_frequency if isinstance(section, ExtendedConfig) else 1,
            patience=section.early_stopping_patience,
            min_delta=section.early_stopping_min_delta,
            monitor=section.monitor,
            warmup_epochs=final.warmup_epochs if final else 0,
            ema_decay=final.ema_decay if final else 0.0,
            trading=experiment.data.trading,
            factories=experiment.models,
            device=device,
            **differing,
        )

    def made_for(self, data_fingerprint: str) -> str:
        """SHA-256 of everything that determines the states of the run, except its end; each checkpoint has one."""
        rows = [hashlib.sha256(r.tobytes()).hexdigest() for r in (self.train_rows, self.validation_rows)]
        schedule = self.schedule_epochs or self.epochs, self.warmup_epochs, self.ema_decay
        stopping = self.evaluation_frequency, self.patience, self.min_delta, self.monitor
        values = self.hyperparameters.model_dump_json()
        return hashlib.sha256(
            repr((self.random_key, values, rows, schedule, stopping, data_fingerprint)).encode()
        ).hexdigest()


@dataclass(frozen=True)
class EpochReport:
    """Metrics of one epoch; validation metrics are None where it was not evaluated.

    Losses in nats, accuracy and simulated return (net of costs, over the validation rows) as fractions.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None
    simulated_return: float | None
    duration_s: float
    examples_per_s: float

    def score(self, monitor: Literal["val_accuracy", "val_loss"]) -> float | None:
        """Return what early stopping compares, higher is better; None where the epoch was not evaluated."""
        if monitor == "val_accuracy":
            return self.val_accuracy
        return None if self.val_loss is None else -self.val_loss

    def values(self) -> dict[str, float | None]:
        """Plain values by name for people and artifacts; what is not finite, as in a diverged epoch, is None."""
        return {name: v if v is not None and math.isfinite(v) else None for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Outcome:
    """Result of a finished run; metrics are those of the best epoch, whose weights are kept.

    Attributes
    ----------
    state : {"complete", "stopped", "failed"}
        All planned epochs run, stopped early, or no usable result.
    failure : str or None
        Why a run failed or was ended from outside.
    operations_per_row : int or None
        Floating-point operations of the model for one row.
    failure_kind : str or None
        Kind of the failure.
    max_duration_s : float or None
        Limit that ended a run out of time.
    """

    state: RunState
    epochs: int
    best_epoch: int
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    simulated_return: float | None
    n_parameters: int
    duration_s: float
    inference_us_per_row: float | None
    failure: str | None = None
    operations_per_row: int | None = None
    failure_kind: FailureKind | None = None
    max_duration_s: float | None = None

    @classmethod
    def failed(
        cls,
        reason: str,
        epochs: int = 0,
        duration_s: float = 0.0,
        n_parameters: int = 0,
        kind: FailureKind | None = None,
        max_duration_s: float | None = None,
    ) -> Outcome:
        """Outcome of a run without a usable result; the epochs it cost still count."""
        counts = (None, None, None, None, n_parameters, duration_s, None)
        return cls("failed", epochs, 0, *counts, reason, None, kind, max_duration_s)

    @property
    def is_environment(self) -> bool:
        """True if a failure was caused by the machine: a killed worker or memory, not the configuration."""
        return self.failure_kind in ("out_of_memory", "worker_killed")

    @property
    def is_of_circumstances(self) -> bool:
        """True if the run failed for lack of time, memory or a worker, so that a retry may succeed."""
        return self.state == "failed" and self.failure_kind in _OF_CIRCUMSTANCES

    def may_succeed_now(self, max_duration_s: float | None) -> bool:
        """Return True if a retry with this time limit may succeed; the needed memory is unknown beforehand."""
        longer = max_duration_s is None or max_duration_s > (self.max_duration_s or 0.0)
        return self.is_of_circumstances and (self.failure_kind != "out_of_time" or longer)
