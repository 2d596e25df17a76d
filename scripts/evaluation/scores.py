"""All scores of an evaluation: accuracy and skill with intervals, probabilities, returns, parts of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scripts.config.experiment import Experiment
from scripts.data.dataset import Dataset
from scripts.data.sample_weights import effective_labels
from scripts.evaluation.comparisons import ceiling, classical_tests, expected_accuracy, leads_over
from scripts.evaluation.decision_scores import cost_scores, decay_scores, likeliest_class, policy_scores
from scripts.evaluation.tested_rows import EvaluatedRows
from scripts.evaluation.trading_scores import TradedRows, trading_scores
from scripts.evaluation.volatility_regimes import THIRDS, volatility_thirds
from scripts.evaluation.warnings import caveats, is_imbalanced
from scripts.statistics.calibration_check import calibration_p_value
from scripts.statistics.drift import FeatureDrift, feature_drift, n_shared_rows
from scripts.statistics.intervals import accuracy_interval, minimum_detectable_skill
from scripts.statistics.metrics import (
    ReliabilityBin,
    auc_by_row,
    average_precision,
    balanced_accuracy,
    brier,
    confusion,
    ece,
    log_losses,
    mcc,
    reliability,
)
from scripts.statistics.skill import ENCOMPASSING, verdict
from scripts.storage.result_records import Selection
from scripts.storage.score_records import (
    AccuracyScores,
    ComparisonScores,
    ConstantAnswer,
    Drift,
    Part,
    PrimaryTest,
    ProbabilityScores,
    Promise,
    RowScores,
    Scored,
    Span,
    Versus,
    VolatilityPart,
)
from scripts.training.trading import SimulatedTrading

_PARTS_WITH_INTERVALS = 100  # tickers or years; beyond that the report shows too many for an interval each
_DRIFT_SHOWN = 20  # features
_ALIKE = 0.05  # share of rows: a model that differs from a rule in fewer gives nearly its answers


@dataclass(frozen=True)
class Predictions:
    """Class probabilities on the test rows, each of shape (n, n_classes).

    Attributes
    ----------
    model : ndarray
        Of the final model.
    by_seed : sequence of ndarray
        Probabilities with a single network of each configuration, by seed.
    references : mapping of str to ndarray
        Of the reference models.
    traded : TradedRows or None
        Probabilities of the final model on all rows with features; None trades only the test rows.
    """

    model: np.ndarray
    by_seed: Sequence[np.ndarray]
    references: Mapping[str, np.ndarray]
    traded: TradedRows | None = None


@dataclass(frozen=True)
class Scores:
    """Figures of evaluation_results.json, and further data for the report.

    Attributes
    ----------
    position : ndarray of float64, shape (n,), or None
        Simulated position of each row; None without returns.
    curves : dict of str to list of float
        Equity after costs on each date, by name: the model, the best naive rule, always +1.
    """

    figures: Scored
    position: np.ndarray | None
    reliability: list[ReliabilityBin]
    confusion: list[list[int]]
    dates: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)


def score(
    development: Dataset,
    dataset: Dataset,
    predictions: Predictions,
    promised: Selection,
    experiment: Experiment,
    openings: int = 1,
) -> Scores:
    """Evaluate predictions on the usable rows of a data set.

    Parameters
    ----------
    development : Dataset
        What the model was trained on; its most frequent class is the majority rule.
    promised : Selection
        Skill of the model out of fold, and the decision rule that was chosen there.
    openings : int
        Looks at these rows so far, this one included: verdict, intervals and p-values are corrected for them.
    """
    tested = EvaluatedRows.of(development, dataset, predictions.model.argmax(axis=1), experiment.seed, openings)
    shares = np.bincount(development.y[development.rows], minlength=dataset.n_classes) / len(development.rows)
    rows = predictions.traded or TradedRows(dataset.rows, predictions.model)
    trading = SimulatedTrading.of(dataset, rows.rows, experiment.data.trading)
    traded = trading_scores(tested, trading, rows, experiment.data)
    references = {name: _accuracy(tested, p) for name, p in predictions.references.items()}
    figures = Scored(
        **dict(_span(dataset)),
        **dict(accuracy_scores(tested, predictions.model)),
        naive=tested.naive,
        references=references,
        ceiling=ceiling(dataset),
        expected_accuracy=expected_accuracy(tested),
        **dict(_probability_scores(tested, predictions.model, shares)),
        **dict(_comparison_scores(tested, predictions, references, promised)),
        **dict(_row_scores(tested, predictions, development)),
        class_positions=None if trading is None else dict(zip(dataset.classes, trading.class_positions, strict=True)),
        returns=traded.returns,
        costs=cost_scores(tested, predictions.model, experiment.data),
        decision=policy_scores(tested, trading, rows, promised.decision or likeliest_class(dataset, experiment.data)),
        decay=decay_scores(tested, development),
    )
    remarks = {"imbalanced": is_imbalanced(figures.class_shares), "warnings": caveats(figures)}
    return Scores(
        figures.model_copy(update=remarks),
        traded.position,
        reliability(tested.y, predictions.model),
        confusion(tested.y, tested.predicted, dataset.n_classes).tolist(),
        traded.dates,
        traded.curves,
    )


def _comparison_scores(
    tested: EvaluatedRows, predictions: Predictions, references: Mapping[str, float], promised: Selection
) -> ComparisonScores:
    leads, best = leads_over(tested, predictions.references), max(references, key=lambda name: references[name])
    return ComparisonScores(
        tests=classical_tests(tested),
        versus_reference=Versus(name=best, **dict(leads[best])),
        versus_references=leads,
        promised=Promise.from_object(promised),
    )


def _row_scores(tested: EvaluatedRows, predictions: Predictions, development: Dataset) -> RowScores:
    dataset = tested.dataset
    return RowScores(
        by_seed=[_accuracy(tested, p) for p in predictions.by_seed],
        by_group=_parts(tested, dataset.ticker[dataset.rows], dataset.tickers),
        by_year={} if tested.year is None else _parts(tested, *_numbered(tested.year)),
        by_volatility=_by_volatility(tested, development),
        class_shares=(np.bincount(tested.y, minlength=dataset.n_classes) / len(tested.y)).tolist(),
        drift=_drift(development, dataset),
        n_duplicates=n_shared_rows(development.x, development.rows, dataset.x, dataset.rows),
    )


def _accuracy(tested: EvaluatedRows, probabilities: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == tested.y).mean())


def _span(dataset: Dataset) -> Span:
    first = last = None
    if dataset.dates is not None:
        date = dataset.dates[dataset.date[dataset.rows]]
        first, last = str(date.min())[:10], str(date.max())[:10]
    return Span(n_rows=len(dataset.rows), first_date=first, last_date=last)


def accuracy_scores(tested: EvaluatedRows, probabilities: np.ndarray) -> AccuracyScores:
    """Return accuracy and skill with intervals, the verdict with its primary test, and all of it as of a first look."""
    right, skill = tested.interval(tested.hits), tested.skill.rival
    primary = tested.encompassing(probabilities)
    constant = _constant_answer(tested)
    differs = float(np.mean(tested.predicted != tested.naive_predicted))
    dataset = tested.dataset
    spans = (part[dataset.rows] for part in (dataset.date, dataset.label_end, dataset.ticker))
    return AccuracyScores(
        accuracy=right.estimate,
        accuracy_se=right.se,
        accuracy_ci95=right.share_bounds,
        best_naive=tested.naive_name,
        skill=skill.estimate,
        skill_se=skill.se,
        skill_degrees_of_freedom=skill.degrees_of_freedom,
        detectable_skill=None
        if constant is not None or differs < _ALIKE
        else minimum_detectable_skill(skill.se, skill.degrees_of_freedom, confidence=tested.confidence),
        skill_ci95=tested.skill.bounds(tested.confidence),
        skill_p_value=tested.p_value(tested.skill.p_value),
        verdict=verdict(tested.skill, primary, 1.0 - tested.confidence),
        primary_test=PrimaryTest(
            name=ENCOMPASSING,
            statistic=primary.statistic,
            degrees_of_freedom=primary.degrees_of_freedom,
            p_value=tested.p_value(primary.p_value),
        ),
        constant_answer=constant,
        corrected_for_openings=tested.openings,
        accuracy_ci95_uncorrected=right.at(0.95).share_bounds,
        skill_ci95_uncorrected=tested.skill.bounds(),
        skill_p_value_uncorrected=tested.skill.p_value,
        verdict_uncorrected=verdict(tested.skill, primary),
        n_dates=skill.n_dates if dataset.has_time else None,
        block_length_dates=skill.block_length,
        n_effective=right.n_effective,
        n_effective_labels=effective_labels(*spans) if dataset.has_time else None,
    )


def _constant_answer(tested: EvaluatedRows) -> ConstantAnswer | None:
    """Class that the model answers in nearly all rows, though others are not that rare, and its share; else None."""
    n_classes = tested.dataset.n_classes
    answered, true = (np.bincount(own, minlength=n_classes) / len(own) for own in (tested.predicted, tested.y))
    likeliest = int(answered.argmax())
    others_missed = 1.0 - answered[likeliest] < (1.0 - true[likeliest]) / 2.0
    if answered[likeliest] < 1.0 - _ALIKE or not others_missed:
        return None
    return ConstantAnswer(name=tested.dataset.classes[likeliest], share=float(answered[likeliest]))


def _probability_scores(tested: EvaluatedRows, probabilities: np.ndarray, shares: np.ndarray) -> ProbabilityScores:
    """Return metrics besides accuracy; means over rows have intervals.

    `log_loss_skill` is the log loss of the development class shares minus that of the model.
    """
    y, predicted = tested.y, probabilities.argmax(axis=1)
    losses = log_losses(y, probabilities)
    values = {"log_loss": losses, "log_loss_skill": log_losses(y, np.tile(shares, (len(y), 1))) - losses}
    if (rows := auc_by_row(y, probabilities)) is not None:
        values["auc"] = rows
    found = tested.intervals(values)
    auc, loss, skill = found.get("auc"), found["log_loss"], found["log_loss_skill"]
    return ProbabilityScores(
        auc=None if auc is None else auc.estimate,
        auc_ci95=None if auc is None else auc.share_bounds,
        log_loss=loss.estimate,
        log_loss_ci95=[loss.low, loss.high],
        log_loss_skill=skill.estimate,
        log_loss_skill_ci95=[skill.low, skill.high],
        brier=brier(y, probabilities),
        ece=ece(y, probabilities),
        calibration_p_value=calibration_p_value(y, probabilities, tested.date, tested.dataset.horizon),
        balanced_accuracy=balanced_accuracy(y, predicted),
        mcc=mcc(y, predicted),
        average_precision=average_precision(y, probabilities),
    )


def _numbered(names: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Number of each row's name, and the names."""
    distinct, number = np.unique(names, return_inverse=True)
    return number, [str(name) for name in distinct]


def _by_volatility(tested: EvaluatedRows, development: Dataset) -> dict[str, VolatilityPart]:
    """Accuracy of the rows of calm, usual and turbulent markets, with their bounds; empty without a market."""
    thirds = volatility_thirds(development, tested.dataset)
    if thirds is None:
        return {}
    parts = {}
    for name, part in _parts(tested, thirds.third, THIRDS).items():
        lower, upper = thirds.span(name)
        parts[name] = VolatilityPart(**part.body(), lower=lower, upper=upper)
    return parts


def _parts(tested: EvaluatedRows, part: np.ndarray, names: Sequence[str]) -> dict[str, Part]:
    """Accuracy of each part of the rows; by blocks of dates where there are not too many parts. Empty for one part."""
    found: dict[str, Part] = {}
    if len(names) < 2:
        return found
    order = np.argsort(part, kind="stable")
    numbers, starts = np.unique(part[order], return_index=True)
    for k, chosen in zip(numbers, np.split(order, starts[1:]), strict=True):
        hits, date = tested.hits[chosen], None if tested.date is None else tested.date[chosen]
        found[names[k]] = Part(accuracy=float(hits.mean()), n_rows=len(hits))
        n_dates = len(hits) if date is None else len(np.unique(date))
        if n_dates > 1 and len(names) <= _PARTS_WITH_INTERVALS:
            interval = accuracy_interval(hits, date, tested.dataset.horizon).at(tested.confidence)
            found[names[k]] = found[names[k]].model_copy(update={"accuracy_ci95": interval.share_bounds})
    return found


def _drift(development: Dataset, dataset: Dataset) -> list[Drift]:
    """Return the drift of the features between training and test rows, the largest first."""
    before, after = development.rows, dataset.rows
    drift = list[FeatureDrift]()
    for k, name in enumerate(dataset.feature_names):  # one column at a time, since there may be too much for memory
        one = slice(k, k + 1)
        pair = development.x[before, one], dataset.x[after, one]
        dates = (development.date[before], dataset.date[after]) if dataset.has_time else None
        drift += feature_drift(*pair, [name], dataset.categorical[one], dates, len(dataset.feature_names))
    drift.sort(key=lambda feature: (-feature.psi, feature.feature))
    return [Drift.from_object(feature) for feature in drift[:_DRIFT_SHOWN]]
