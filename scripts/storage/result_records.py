"""Typed records of the selection and the final training: a part of `records` and of the final model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from scripts.config.search_space import Scalar
from scripts.storage.record_base import Count, Curve, Files, Made, Pair, Record

Replaced = dict[str, list[Scalar | None]]  # of what phase 3 replaces: the value searched and the value trained with


class DecisionRule(Record):
    """Rule that turns probabilities into decisions."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | None
    margin: Annotated[float, Field(ge=0, lt=2)]
    reason: str


class Gain(Record):
    """Figure of an ensemble compared with that of the single configuration."""

    ensemble: float
    single: float
    gain: float
    gain_ci95: Pair


class EnsembleMember(Record):
    """A configuration of an ensemble."""

    trial_number: Count
    family: str
    weight: float


class Ensemble(Record):
    """Reason and gain of an ensemble."""

    most_draws: Count = 0
    members: Annotated[Sequence[EnsembleMember], Field(min_length=1)]
    single_trial_number: Count
    n_rows: Count
    accuracy: Gain
    log_loss: Gain
    is_better: bool


class Selection(Record):
    """Chosen configuration, with the reason."""

    trial_number: Count | None = None
    reason: str
    avg_accuracy: float | None = None
    std_accuracy: float | None = None
    best_constant_accuracy: float | None = None
    skill: float | None = None
    skill_se: float | None = None
    decision: DecisionRule | None = None
    ensemble: Ensemble | None = None


class SeedCurves(Record):
    """Results on the hold-out and learning curves of a network of the final model."""

    holdout_accuracy: float | None = None
    holdout_loss: float | None = None
    holdout_simulated_return: float | None = None
    history: Curve = Field([])
    history_all: Curve = Field([])


class FinalMember(Record):
    """A member of the final model."""

    trial_number: Count | None = None
    weight: float = 1.0
    family: str = ""
    epochs_spent: Count = 0
    best_epochs: list[Count] = Field([])
    holdout_accuracy: float | None = None
    holdout_loss: float | None = None
    temperature: float = 1.0
    bias: list[float] = Field([])
    n_parameters: Count = 0
    seeds: list[SeedCurves]
    replaced: Replaced = Field({})


class Final(Made):
    """final_training_results.json."""

    epochs_spent: Count
    holdout_rows: Count
    holdout_accuracy: float
    holdout_loss: float | None = None
    n_parameters: Count = 0
    duration_s: float
    members: list[FinalMember]
    files: Files
