"""All figures of an evaluation: accuracy with its uncertainty, skill against the naive rules, returns, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scripts.config import DataConfig, Experiment
from scripts.data.dataset import Dataset
from scripts.evaluation.baselines import best_naive, naive_accuracies
from scripts.evaluation.metrics import auc, balanced_accuracy, brier, confusion, ece, log_loss, mcc, reliability
from scripts.evaluation.returns import ReturnSeries, ReturnSimulator, equity_curve, summarise
from scripts.evaluation.statistics import (
    Interval,
    accuracy_interval,
    difference_interval,
    minimum_detectable_skill,
    verdict,
)
from scripts.random_keys import numpy_generator

_FEW_DATES = 60  # below this many dates an interval by blocks of dates says little
_FEW_BLOCKS = 10
_UNCALIBRATED = 0.05  # expected calibration error worth a warning
_RARE = 0.35  # share of the rarest of two classes below which accuracy misleads


@dataclass(frozen=True)
class Scores:
    """Fields of evaluation_results.json, and what the report draws beside them.

    Attributes
    ----------
    fields : dict
    position : ndarray of float64, shape (n,), or None
        Simulated position of each row; None where there are no returns.
    dates, net_equity, buy_and_hold : list
        Equity after costs and of always +1, as multiples of the starting capital.
    reliability : list of dict
    confusion : list of list of int
    """

    fields: dict[str, Any]
    position: np.ndarray | None
    dates: list[str]
    net_equity: list[float]
    buy_and_hold: list[float]
    reliability: list[dict[str, Any]]
    confusion: list[list[int]]


def score(
    development: Dataset,
    dataset: Dataset,
    probabilities: np.ndarray,
    references: Mapping[str, np.ndarray],
    experiment: Experiment,
) -> Scores:
    """Judge probabilities on the usable rows of a data set.

    Parameters
    ----------
    development : Dataset
        What the model was trained on; its most frequent class is the majority rule.
    dataset : Dataset
    probabilities : ndarray, shape (n, n_classes)
    references : mapping of str to ndarray, shape (n, n_classes)
        Probabilities of the reference models on the same rows.
    experiment : Experiment
    """
    rows = dataset.rows
    y, predicted = dataset.y[rows], probabilities.argmax(axis=1)
    hits = (predicted == y).astype(np.float64)
    majority = int(np.bincount(development.y[development.rows]).argmax())
    rules = {name: rule[rows] for name, rule in dataset.naive.items()}
    best_rule, naive_hits = best_naive(y, majority, rules)
    date = dataset.date[rows] if dataset.has_time else None
    address = (experiment.seed, "evaluation")
    right = accuracy_interval(hits, date, dataset.horizon, numpy_generator(*address, "accuracy"))
    skill = difference_interval(
        hits, naive_hits.astype(np.float64), date, dataset.horizon, numpy_generator(*address, "skill")
    )
    fields: dict[str, Any] = {
        **_span(dataset),
        "accuracy": right.estimate,
        "accuracy_se": right.se,
        "accuracy_ci95": [right.low, right.high],
        "naive": naive_accuracies(y, majority, rules),
        "best_naive": best_rule,
        "references": {name: float((p.argmax(axis=1) == y).mean()) for name, p in references.items()},
        "skill": skill.estimate,
        "skill_se": skill.se,
        "skill_ci95": [skill.low, skill.high],
        "verdict": verdict(skill.low, skill.high),
        "block_length_dates": skill.block_length,
        "n_effective": right.n_effective,
        "ceiling": _ceiling(dataset),
        **_probability_fields(y, probabilities),
        "by_group": _by_group(dataset, hits),
        "by_year": _by_year(dataset, hits),
    }
    fields["versus_reference"] = _versus_reference(hits, y, references, date, dataset.horizon, address)
    returns, position, curves = _returns(dataset, probabilities, experiment.data)
    fields["returns"] = returns
    fields["warnings"] = _warnings(fields, dataset, skill)
    return Scores(
        fields,
        position,
        *curves,
        reliability=[asdict(b) for b in reliability(y, probabilities)],
        confusion=confusion(y, predicted, dataset.n_classes).tolist(),
    )


def _probability_fields(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Metrics beside accuracy."""
    predicted = probabilities.argmax(axis=1)
    return {
        "auc": auc(y, probabilities),
        "log_loss": log_loss(y, probabilities),
        "brier": brier(y, probabilities),
        "ece": ece(y, probabilities),
        "balanced_accuracy": balanced_accuracy(y, predicted),
        "mcc": mcc(y, predicted),
    }


def _versus_reference(
    hits: np.ndarray,
    y: np.ndarray,
    references: Mapping[str, np.ndarray],
    date: np.ndarray | None,
    horizon: int,
    address: tuple[int | str, ...],
) -> dict[str, Any]:
    """Paired difference in accuracy to the better reference model: whether a network was worth it."""
    right = {name: (p.argmax(axis=1) == y).astype(np.float64) for name, p in references.items()}
    name = max(right, key=lambda model: right[model].mean())
    lead = difference_interval(hits, right[name], date, horizon, numpy_generator(*address, "reference"))
    return {"name": name, "difference": lead.estimate, "se": lead.se, "ci95": [lead.low, lead.high]}


def _span(dataset: Dataset) -> dict[str, Any]:
    first = last = None
    if dataset.dates is not None:
        date = dataset.dates[dataset.date[dataset.rows]]
        first, last = str(date.min())[:10], str(date.max())[:10]
    return {"n_rows": len(dataset.rows), "first_date": first, "last_date": last}


def _ceiling(dataset: Dataset) -> float | None:
    """Best possible accuracy, where the market's probabilities are known."""
    if dataset.truth is None or dataset.classes != ("down", "up") or dataset.horizon != 1:
        return None
    p = dataset.truth[dataset.rows]
    return float(np.maximum(p, 1 - p).mean())


def _by_group(dataset: Dataset, hits: np.ndarray) -> dict[str, dict[str, Any]]:
    if len(dataset.tickers) < 2:
        return {}
    ticker = dataset.ticker[dataset.rows]
    return {name: _part(hits[ticker == k]) for k, name in enumerate(dataset.tickers) if (ticker == k).any()}


def _by_year(dataset: Dataset, hits: np.ndarray) -> dict[str, dict[str, Any]]:
    if dataset.dates is None:
        return {}
    year = dataset.dates[dataset.date[dataset.rows]].astype("datetime64[Y]")
    return {str(value): _part(hits[year == value]) for value in np.unique(year)}


def _part(hits: np.ndarray) -> dict[str, Any]:
    return {"accuracy": float(hits.mean()), "n_rows": len(hits)}


def _returns(
    dataset: Dataset, probabilities: np.ndarray, config: DataConfig
) -> tuple[dict[str, Any] | None, np.ndarray | None, tuple[list[str], list[float], list[float]]]:
    """Summary, positions, and the curves (dates, net equity, buy and hold)."""
    rows = dataset.rows
    if dataset.class_positions is None or not np.isfinite(dataset.forward_return[rows]).any():
        return None, None, ([], [], [])
    simulator = ReturnSimulator(dataset.date[rows], dataset.ticker[rows], dataset.forward_return[rows], config.trading)
    position = simulator.positions(probabilities, dataset.class_positions)
    series, hold = simulator.run(position), simulator.run(np.ones(len(rows)))
    summary = asdict(summarise(series, config.periods_per_year))
    summary["buy_and_hold"] = summarise(hold, config.periods_per_year).net
    summary["cost_bps"] = config.cost_bps
    dates = [str(d)[:10] for d in dataset.dates[series.dates]] if dataset.dates is not None else []
    return summary, position, (dates, _curve(series), _curve(hold)) if dates else ([], [], [])


def _curve(series: ReturnSeries) -> list[float]:
    curve: list[float] = equity_curve(series.net).tolist()
    return curve


def _warnings(fields: Mapping[str, Any], dataset: Dataset, skill: Interval) -> list[str]:
    """What the reader must know before believing the figures."""
    said = []
    n_blocks = int(skill.n_dates / max(1.0, skill.block_length))
    if dataset.has_time and (skill.n_dates < _FEW_DATES or n_blocks < _FEW_BLOCKS):
        said.append(f"{skill.n_dates} dates in {n_blocks} blocks are too few to tell")
    if skill.se == 0:
        said.append("the model gives the same answers as the best naive rule")
    elif fields["verdict"] == "no skill":
        least = minimum_detectable_skill(skill.se)
        said.append(f"this test set can tell a skill of {least:.3f} or more (with 80 % power)")
    reference = fields["versus_reference"]
    if fields["verdict"] == "skill" and reference["ci95"][0] <= 0:
        name, (low, high) = reference["name"].replace("_", " "), reference["ci95"]
        lead = f"{reference['difference']:+.4f} (95 % {low:+.4f} to {high:+.4f})"
        said.append(f"the network is not clearly better than {name}: {lead}")
    returns = fields["returns"]
    if fields["verdict"] == "skill" and returns is not None and returns["net"] <= 0:
        said.append("more accurate than the naive rules, but not profitable after costs")
    if fields["ece"] > _UNCALIBRATED:
        said.append(f"probabilities are not calibrated (expected calibration error {fields['ece']:.3f})")
    shares = np.bincount(dataset.y[dataset.rows], minlength=dataset.n_classes) / len(dataset.rows)
    if shares.min() < _RARE * 2 / dataset.n_classes:
        said.append(
            f"classes are imbalanced: look at balanced accuracy {fields['balanced_accuracy']:.3f} and "
            f"MCC {fields['mcc']:.3f} first"
        )
    return said
