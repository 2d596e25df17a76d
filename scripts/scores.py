"""All figures of an evaluation: accuracy with its uncertainty, skill against the naive rules, returns, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from scripts.caveats import caveats
from scripts.config import Experiment
from scripts.data.dataset import Dataset
from scripts.evaluation.baselines import best_naive, naive_accuracies
from scripts.evaluation.comparisons import diebold_mariano, mcnemar
from scripts.evaluation.metrics import (
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
from scripts.evaluation.returns import ReturnSeries, ReturnSimulator, equity_curve, summarise
from scripts.evaluation.shift import feature_drift, n_rows_in_both
from scripts.evaluation.statistics import Interval, accuracy_interval, mean_intervals, verdict
from scripts.random_keys import numpy_generator

_PARTS_WITH_INTERVALS = 100  # tickers or years; beyond that the report shows too many for an interval each
_PART_RESAMPLES = 200
_DRIFT_SHOWN = 20  # features


@dataclass(frozen=True)
class Predictions:
    """Class probabilities on the judged rows, each of shape (n, n_classes).

    Attributes
    ----------
    model : ndarray
        Of the final model.
    members : sequence of ndarray
        Of each of its networks, which differ by their seed alone.
    references : mapping of str to ndarray
        Of the reference models.
    """

    model: np.ndarray
    members: Sequence[np.ndarray]
    references: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Fields of evaluation_results.json, and what the report draws beside them.

    Attributes
    ----------
    fields : dict
    position : ndarray of float64, shape (n,), or None
        Simulated position of each row; None where there are no returns.
    dates : list of str
    curves : dict of str to list of float
        Equity after costs on each date, by name: the model, the best naive rule, always +1.
    reliability : list of dict
    confusion : list of list of int
    """

    fields: dict[str, Any]
    position: np.ndarray | None
    reliability: list[dict[str, Any]]
    confusion: list[list[int]]
    dates: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Judged:
    """The judged rows of a data set and what was right on them."""

    dataset: Dataset
    y: np.ndarray
    hits: np.ndarray
    naive_name: str
    naive_hits: np.ndarray
    date: np.ndarray | None
    address: tuple[int | str, ...]

    def intervals(self, values: Mapping[str, np.ndarray], purpose: str) -> dict[str, Interval]:
        """Means over the judged rows, by blocks of dates."""
        return mean_intervals(values, self.date, self.dataset.horizon, numpy_generator(*self.address, purpose))


def score(
    development: Dataset,
    dataset: Dataset,
    predictions: Predictions,
    promised: Mapping[str, Any],
    experiment: Experiment,
) -> Scores:
    """Judge predictions on the usable rows of a data set.

    Parameters
    ----------
    development : Dataset
        What the model was trained on; its most frequent class is the majority rule.
    dataset : Dataset
    predictions : Predictions
    promised : mapping
        What phase 2 said of the model: `skill` and `skill_se`, out of fold.
    experiment : Experiment
    """
    y, predicted = dataset.y[dataset.rows], predictions.model.argmax(axis=1)
    majority = int(np.bincount(development.y[development.rows]).argmax())
    rules = {name: rule[dataset.rows] for name, rule in dataset.naive.items()}
    naive_name, naive_hits = best_naive(y, majority, rules)
    judged = _Judged(
        dataset=dataset,
        y=y,
        hits=(predicted == y).astype(np.float64),
        naive_name=naive_name,
        naive_hits=naive_hits.astype(np.float64),
        date=dataset.date[dataset.rows] if dataset.has_time else None,
        address=(experiment.seed, "evaluation"),
    )
    shares = np.bincount(development.y[development.rows], minlength=dataset.n_classes) / len(development.rows)
    fields: dict[str, Any] = {
        **_span(dataset),
        **_accuracy_fields(judged),
        "naive": naive_accuracies(y, majority, rules),
        "references": {name: float((p.argmax(axis=1) == y).mean()) for name, p in predictions.references.items()},
        "ceiling": _ceiling(dataset),
        "expected_accuracy": _expected_accuracy(dataset, predicted),
        **_probability_fields(judged, predictions.model, shares),
        "tests": _tests(judged),
        "versus_reference": _versus_reference(judged, predictions.references),
        "promised": {name: promised.get(name) for name in ("skill", "skill_se")},
        "by_seed": [float((p.argmax(axis=1) == y).mean()) for p in predictions.members],
        "by_group": _by_group(judged),
        "by_year": _by_year(judged),
        "class_shares": (np.bincount(y, minlength=dataset.n_classes) / len(y)).tolist(),
        **_shift_fields(development, dataset),
    }
    returns, position, dates, curves = _returns(judged, predictions.model, experiment)
    fields["returns"] = returns
    fields["warnings"] = caveats(fields)
    return Scores(
        fields,
        position,
        [asdict(b) for b in reliability(y, predictions.model)],
        confusion(y, predicted, dataset.n_classes).tolist(),
        dates,
        curves,
    )


def _span(dataset: Dataset) -> dict[str, Any]:
    first = last = None
    if dataset.dates is not None:
        date = dataset.dates[dataset.date[dataset.rows]]
        first, last = str(date.min())[:10], str(date.max())[:10]
    return {"n_rows": len(dataset.rows), "first_date": first, "last_date": last}


def _accuracy_fields(judged: _Judged) -> dict[str, Any]:
    """Accuracy and skill, each with its interval, and the verdict."""
    right = judged.intervals({"": judged.hits}, "accuracy")[""]
    skill = judged.intervals({"": judged.hits - judged.naive_hits}, "skill")[""]
    return {
        "accuracy": right.estimate,
        "accuracy_se": right.se,
        "accuracy_ci95": [right.low, right.high],
        "best_naive": judged.naive_name,
        "skill": skill.estimate,
        "skill_se": skill.se,
        "skill_ci95": [skill.low, skill.high],
        "skill_p_value": skill.p_value,
        "verdict": verdict(skill.low, skill.high),
        "n_dates": skill.n_dates if judged.dataset.has_time else None,
        "block_length_dates": skill.block_length,
        "n_effective": right.n_effective,
    }


def _probability_fields(judged: _Judged, probabilities: np.ndarray, shares: np.ndarray) -> dict[str, Any]:
    """Metrics beside accuracy; those that are means over rows with intervals.

    `log_loss_skill` is what the log loss lies below that of always giving the development classes' shares.
    """
    y, predicted = judged.y, probabilities.argmax(axis=1)
    losses = log_losses(y, probabilities)
    values = {"log_loss": losses, "log_loss_skill": log_losses(y, np.tile(shares, (len(y), 1))) - losses}
    if (rows := auc_by_row(y, probabilities)) is not None:
        values["auc"] = rows
    found = judged.intervals(values, "probabilities")
    fields: dict[str, Any] = {"auc": None, "auc_ci95": None}
    for name, interval in found.items():
        fields |= {name: interval.estimate, f"{name}_ci95": [interval.low, interval.high]}
    return fields | {
        "brier": brier(y, probabilities),
        "ece": ece(y, probabilities),
        "balanced_accuracy": balanced_accuracy(y, predicted),
        "mcc": mcc(y, predicted),
        "average_precision": average_precision(y, probabilities),
    }


def _tests(judged: _Judged) -> dict[str, Any]:
    """Classical tests against the best naive rule, beside the interval that decides."""
    rows = mcnemar(
        int(((judged.hits == 1) & (judged.naive_hits == 0)).sum()),
        int(((judged.hits == 0) & (judged.naive_hits == 1)).sum()),
    )
    tests: dict[str, Any] = {"mcnemar": {"p_mid": rows.p_mid, "p_exact": rows.p_exact}, "diebold_mariano": None}
    if judged.date is not None:
        _, place, counts = np.unique(judged.date, return_inverse=True, return_counts=True)
        by_date = np.bincount(place, judged.hits - judged.naive_hits) / counts
        if len(by_date) > judged.dataset.horizon:
            found = diebold_mariano(by_date, judged.dataset.horizon)
            tests["diebold_mariano"] = {"statistic": found.statistic, "p": found.p_two_sided, "kernel": found.kernel}
    return tests


def _versus_reference(judged: _Judged, references: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Paired difference in accuracy to the better reference model: whether a network was worth it."""
    right = {name: (p.argmax(axis=1) == judged.y).astype(np.float64) for name, p in references.items()}
    name = max(right, key=lambda model: right[model].mean())
    lead = judged.intervals({"": judged.hits - right[name]}, "reference")[""]
    return {"name": name, "difference": lead.estimate, "se": lead.se, "ci95": [lead.low, lead.high]}


def _ceiling(dataset: Dataset) -> float | None:
    """Best possible accuracy, where the market's probabilities are known."""
    if (p := _probability_of_up(dataset)) is None:
        return None
    return float(np.maximum(p, 1 - p).mean())


def _expected_accuracy(dataset: Dataset, predicted: np.ndarray) -> float | None:
    """Accuracy that these predictions have in expectation, where the market's probabilities are known."""
    if (p := _probability_of_up(dataset)) is None:
        return None
    return float(np.where(predicted == 1, p, 1 - p).mean())


def _probability_of_up(dataset: Dataset) -> np.ndarray | None:
    if dataset.truth is None or dataset.classes != ("down", "up") or dataset.horizon != 1:
        return None
    return np.asarray(dataset.truth[dataset.rows])


def _by_group(judged: _Judged) -> dict[str, dict[str, Any]]:
    if len(judged.dataset.tickers) < 2:
        return {}
    return _parts(judged, judged.dataset.ticker[judged.dataset.rows], judged.dataset.tickers)


def _by_year(judged: _Judged) -> dict[str, dict[str, Any]]:
    if judged.dataset.dates is None:
        return {}
    year = judged.dataset.dates[judged.dataset.date[judged.dataset.rows]].astype("datetime64[Y]")
    years, part = np.unique(year, return_inverse=True)
    return _parts(judged, part, [str(value) for value in years])


def _parts(judged: _Judged, part: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Accuracy of each part of the rows; by blocks of dates where there are not too many parts."""
    found: dict[str, dict[str, Any]] = {}
    for k in np.unique(part):
        chosen = part == k
        hits, date = judged.hits[chosen], None if judged.date is None else judged.date[chosen]
        found[names[k]] = {"accuracy": float(hits.mean()), "n_rows": len(hits)}
        n_dates = len(hits) if date is None else len(np.unique(date))
        if n_dates > 1 and len(names) <= _PARTS_WITH_INTERVALS:
            generator = numpy_generator(*judged.address, "part", names[k])
            interval = accuracy_interval(hits, date, judged.dataset.horizon, generator, _PART_RESAMPLES)
            found[names[k]]["accuracy_ci95"] = [interval.low, interval.high]
    return found


def _shift_fields(development: Dataset, dataset: Dataset) -> dict[str, Any]:
    """What lies between the rows that were trained on and those judged: drift of the features, equal rows."""
    before, after = development.x[development.rows], dataset.x[dataset.rows]
    drift = feature_drift(before, after, dataset.feature_names, dataset.categorical)
    return {
        "drift": [asdict(feature) for feature in drift[:_DRIFT_SHOWN]],
        "n_duplicates": n_rows_in_both(before, after),
    }


def _returns(
    judged: _Judged, probabilities: np.ndarray, experiment: Experiment
) -> tuple[dict[str, Any] | None, np.ndarray | None, list[str], dict[str, list[float]]]:
    """Summary, positions, and the dates and curves of equity."""
    dataset, config, rows = judged.dataset, experiment.data, judged.dataset.rows
    if dataset.class_positions is None or not np.isfinite(dataset.forward_return[rows]).any():
        return None, None, [], {}
    simulator = ReturnSimulator(dataset.date[rows], dataset.ticker[rows], dataset.forward_return[rows], config.trading)
    position = simulator.positions(probabilities, dataset.class_positions)
    series, hold = simulator.run(position), simulator.run(np.ones(len(rows)))
    summary = asdict(summarise(series, config.periods_per_year))
    summary["buy_and_hold"] = summarise(hold, config.periods_per_year).net
    summary["cost_bps"] = config.cost_bps
    if dataset.dates is None:
        return summary, position, [], {}
    dates = [str(d)[:10] for d in dataset.dates[series.dates]]
    return summary, position, dates, {"model after costs": _curve(series), "buy and hold": _curve(hold)}


def _curve(series: ReturnSeries) -> list[float]:
    curve: list[float] = equity_curve(series.net).tolist()
    return curve
