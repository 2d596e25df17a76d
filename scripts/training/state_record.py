"""Typed record of the state of a training run, with checks against the run that resumes from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.storage.record_base import Count, first_problem
from scripts.training.spec import FailureKind, RunState, StateDict

if TYPE_CHECKING:
    from scripts.training.run import TrainingRun

Weights = dict[str, torch.Tensor]


class _Part(BaseModel):
    """Base record; unlike other records, a diverged epoch may contain numbers that are not finite."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)


class EpochPart(_Part):
    """`EpochReport` of an epoch."""

    epoch: Count
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None
    simulated_return: float | None
    duration_s: float
    examples_per_s: float


class OutcomePart(_Part):
    """`Outcome` of a run."""

    state: RunState
    epochs: Count
    best_epoch: Count
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    simulated_return: float | None
    n_parameters: Count
    duration_s: float
    inference_us_per_row: float | None
    failure: str | None = None
    operations_per_row: Count | None = None
    failure_kind: FailureKind | None = None
    max_duration_s: float | None = None


class StoppingPart(_Part):
    """Early stopping."""

    best: float | None
    best_epoch: Count


class OptimiserPart(_Part):
    """State of the optimiser by parameter; its settings are those of the run."""

    state: dict[int, StateDict]
    param_groups: list[StateDict]


class State(_Part):
    """State of a run."""

    made_for: str | None = None
    model: Weights
    optimiser: OptimiserPart
    average: list[torch.Tensor]
    best_weights: Weights | None
    stopping: StoppingPart
    history: list[EpochPart]
    micro_batch: Annotated[int, Field(ge=1)]
    outcome: OutcomePart | None
    validation_logits: torch.Tensor


def checked_state(state: StateDict) -> StateDict:
    """Raise ValueError, which names the field, unless `state` is that of a run; the state itself."""
    try:
        State.model_validate(state)
    except ValidationError as error:
        raise ValueError(f"is not the state of a run: {first_problem(error)}") from error
    if [report["epoch"] for report in state["history"]] != list(range(1, len(state["history"]) + 1)):
        raise ValueError("is not the state of a run: history: its epochs do not follow each other")
    if state["stopping"]["best_epoch"] > len(state["history"]):
        raise ValueError("is not the state of a run: stopping: its best epoch has not been")
    return state


def check_fits(run: TrainingRun) -> None:
    """Raise ValueError unless what `run` has loaded fits its own parameters and rows."""
    shapes = [parameter.shape for parameter in run.parameters]
    if run.average and [average.shape for average in run.average] != shapes:
        raise ValueError("the averaged weights do not fit the parameters")
    expected = {name: value.shape for name, value in run.model.state_dict().items()}
    if run.best_weights and {name: value.shape for name, value in run.best_weights.items()} != expected:
        raise ValueError("the best weights do not fit the parameters")
    kinds = {"momentum_buffer"} if run.spec.hyperparameters.optimizer == "sgd" else {"step", "exp_avg", "exp_avg_sq"}
    for parameter, kept in run.optimiser.state.items():
        tensors = [value for name, value in kept.items() if name != "step" and value is not None]
        if kept.keys() != kinds or any(getattr(value, "shape", None) != parameter.shape for value in tensors):
            raise ValueError("the state of the optimiser does not fit the parameters")
    logits, n_rows = run.validation_logits, len(run.spec.validation_rows)
    if logits.numel() and (logits.dim() != 2 or len(logits) != n_rows or logits.dtype != torch.float32):
        raise ValueError("the validation logits do not fit the validated rows")
