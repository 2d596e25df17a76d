"""Typed records of what was chosen, trained last and judged: a part of `records`, and of the final model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from scripts.storage.record_base import Count, Curve, Files, Made, Pair, Record


class DecisionRule(Record):
    """How probabilities become decisions."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | None
    margin: Annotated[float, Field(ge=0, lt=2)]
    reason: str


class Gain(Record):
    """A figure of an ensemble beside that of the single configuration."""

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
    """Why an ensemble was chosen, and what it gains."""

    single_trial_number: Count
    members: Annotated[Sequence[EnsembleMember], Field(min_length=1)]
    log_loss: Gain
    accuracy: Gain
    is_better: bool
    n_rows: Count


class Selection(Record):
    """Which configuration was chosen, and why."""

    trial_number: Count | None = None
    reason: str
    skill: float | None = None
    skill_se: float | None = None
    decision: DecisionRule | None = None
    ensemble: Ensemble | None = None


class SeedCurves(Record):
    """Learning curves of a network of the final model."""

    history: Curve = Field([])
    history_all: Curve = Field([])


class FinalMember(Record):
    """A member of the final model."""

    seeds: list[SeedCurves]


class Final(Made):
    """final_training_results.json."""

    epochs_spent: Count
    holdout_accuracy: float
    holdout_rows: Count
    duration_s: float
    files: Files
    members: list[FinalMember]


class Versus(Record):
    """The model against the better reference model."""

    name: str
    difference: float
    ci95: Pair


class Returns(Record):
    """Simulated returns."""

    gross: float
    net: float
    break_even_cost_bps: float | None
    foresight_hit_rate: float | None = None
    net_ci95: Pair | None = None
    mean_net: float | None = None
    mean_net_ci95: Annotated[list[float | None], Field(min_length=2, max_length=2)] | None = None


class CostedMember(EnsembleMember):
    """A configuration of an ensemble with its cost."""

    epochs_spent: Count
    n_parameters: Count
    one_row_p50_s: float


class CostedEnsemble(Ensemble):
    """An ensemble with its cost."""

    members: Annotated[Sequence[CostedMember], Field(min_length=1)]
    one_row_p50_s: float


class Call(Record):
    """Latency of a call."""

    p50_s: float
    n_rows: Count = 1


class Latency(Record):
    """Latency of one row and of a batch."""

    one_row: Call
    batch: Call


class Opened(Record):
    """Which model was evaluated on which rows: the SHA-256 of the model, and that of the data or "sealed"."""

    model_sha256: str
    data: str


class PrimaryTest(Record):
    """The test of the probabilities against those of the naive rules."""

    name: str
    statistic: float | None
    p_value: float | None


class ConstantAnswer(Record):
    """The class that a model gives in nearly all rows."""

    name: str = Field(alias="class")
    share: float


class Evaluation(Made):
    """evaluation_results.json."""

    inputs: Files = Field({})  # the model that it was made from is under `opened`
    opened: Opened
    opened_in_words: str
    files: Files
    epochs_spent_total: Count
    n_rows: Count
    n_effective: float | None
    accuracy: float
    accuracy_se: float
    accuracy_ci95: Pair
    skill: float
    skill_ci95: Pair
    skill_p_value: float | None
    verdict: str
    primary_test: PrimaryTest
    constant_answer: ConstantAnswer | None
    corrected_for_openings: Count
    skill_ci95_uncorrected: Pair
    verdict_uncorrected: str
    ceiling: float | None
    naive: dict[str, float]
    references: dict[str, float]
    versus_reference: Versus
    returns: Returns | None
    warnings: list[str]
    test_openings: Count
    openings_by_other_runs: list[str]
    last_date: str | None = None
    latency: Latency | None = None
    ensemble: CostedEnsemble | None = None
