"""Typed records of the scores of predictions on test rows, a part of `evaluation_record`.

A record with several bases has the fields of its last base first: the order of the JSON file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from scripts.storage.record_base import Count, IfGiven, Pair, Record
from scripts.storage.trading_records import Costs, Decay, DecisionScores, Returns

Verdict = Literal["skill", "no skill", "worse than naive"]


class Span(Record):
    """Number of test rows, and their first and last date if they have dates."""

    n_rows: Count
    first_date: str | None = None
    last_date: str | None = None


class PrimaryTest(Record):
    """Test of the probabilities against those of the naive rules."""

    name: str
    statistic: float | None
    degrees_of_freedom: int | float
    p_value: float | None


class ConstantAnswer(Record):
    """Class that a model predicts in nearly all rows."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="class")
    share: float


class AccuracyScores(Record):
    """Accuracy and skill over the best naive rule with intervals, the verdict, and the same for a first opening."""

    accuracy: float
    accuracy_se: float
    accuracy_ci95: Pair
    best_naive: str
    skill: float
    skill_se: float
    skill_degrees_of_freedom: int | float
    detectable_skill: float | None
    skill_ci95: Pair
    skill_p_value: float | None
    verdict: Verdict
    primary_test: PrimaryTest
    constant_answer: ConstantAnswer | None
    corrected_for_openings: Count
    accuracy_ci95_uncorrected: Pair
    skill_ci95_uncorrected: Pair
    skill_p_value_uncorrected: float | None
    verdict_uncorrected: Verdict
    n_dates: Count | None
    block_length_dates: float
    n_effective: float | None
    n_effective_labels: float | None


class Opponents(Record):
    """Accuracies of naive rules and reference models by name, and the best possible one if known."""

    naive: dict[str, float]
    references: dict[str, float]
    ceiling: float | None
    expected_accuracy: float | None


class ProbabilityScores(Record):
    """Metrics of probabilities and predictions besides accuracy, some with 95% intervals."""

    auc: float | None
    auc_ci95: Pair | None
    log_loss: float
    log_loss_ci95: Pair
    log_loss_skill: float
    log_loss_skill_ci95: Pair
    brier: float | None
    ece: float | None
    calibration_p_value: float = 1.0
    balanced_accuracy: float | None
    mcc: float | None
    average_precision: float | None


class McNemarTest(Record):
    """P-values of McNemar's test."""

    p_mid: float | None
    p_exact: float | None


class DieboldMarianoTest(Record):
    """Diebold-Mariano test by date."""

    statistic: float | None
    p: float | None
    kernel: str


class ClassicalTests(Record):
    """Classical tests against the best naive rule."""

    mcnemar: McNemarTest
    diebold_mariano: DieboldMarianoTest | None


class Lead(Record):
    """Accuracy of the model minus that of a reference model, paired on the same rows."""

    difference: float
    se: float
    ci95: Pair


class Versus(Record):
    """Comparison of the model with the better reference model."""

    name: str
    difference: float
    se: float
    ci95: Pair


class Promise(Record):
    """Out-of-fold skill measured by phase 2."""

    skill: float | None
    skill_se: float | None


class Part(Record):
    """Accuracy on a part of the rows; without an interval if there are too many parts."""

    accuracy: float
    n_rows: Count
    accuracy_ci95: Annotated[Pair | None, IfGiven] = None


class VolatilityPart(Part):
    """Accuracy on a tercile of volatility, with its bounds."""

    model_config = ConfigDict(populate_by_name=True)

    lower: float | None = Field(None, alias="from")
    upper: float | None = Field(None, alias="to")


class Drift(Record):
    """Drift of a feature between the development rows and the test rows."""

    feature: str
    psi: float
    ks: float
    p_value: float


class ComparisonScores(Record):
    """Comparisons with naive rules, with reference models and with phase 2."""

    tests: ClassicalTests
    versus_reference: Versus
    versus_references: dict[str, Lead]
    promised: Promise


class RowScores(Record):
    """Accuracy by seed and by part of the rows, and what these rows are like."""

    by_seed: list[float]
    by_group: dict[str, Part]
    by_year: dict[str, Part]
    by_volatility: dict[str, VolatilityPart]
    class_shares: list[float]
    drift: list[Drift]
    n_duplicates: Count


class DecidedScores(Record):
    """Returns, costs and decay of decisions."""

    class_positions: dict[str, float] | None
    returns: Returns | None
    costs: Costs | None
    decision: DecisionScores
    decay: Decay | None


class Scored(DecidedScores, RowScores, ComparisonScores, ProbabilityScores, Opponents, AccuracyScores, Span):
    """All scores of predictions on test rows."""

    imbalanced: bool = False
    warnings: list[str] = Field([])
