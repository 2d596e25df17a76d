"""Out-of-fold predictions of phase 2: their table, accuracies with uncertainty, and decision rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig, Experiment
from scripts.data.dataset import Dataset
from scripts.data.splits import Split
from scripts.random_keys import numpy_generator
from scripts.statistics.decision_tuning import choose_policy
from scripts.statistics.decisions import NetReturns, simulated_net
from scripts.statistics.drift import n_shared_rows
from scripts.statistics.intervals import mean_intervals
from scripts.statistics.naive_rules import best_naive
from scripts.statistics.temperature_scaling import fit_calibration
from scripts.storage.extended_record import PooledAccuracy
from scripts.storage.result_records import DecisionRule
from scripts.training.trading import SimulatedTrading

_MIN_PROBABILITY = 2.2e-16  # that a logarithm is taken of


@dataclass(frozen=True)
class FoldSpan:
    """Dates that a fold tests (ISO; None where rows have no dates) and the share of its most frequent class."""

    fold: int
    first_date: str | None
    last_date: str | None
    best_constant: float


def prediction_table(
    dataset: Dataset, folds: Sequence[Split], probabilities: Mapping[int, Sequence[Sequence[np.ndarray]]]
) -> pd.DataFrame:
    """Predictions of every tested row, one block per configuration, fold and seed.

    Parameters
    ----------
    probabilities : mapping of int to sequence of sequence of ndarray
        Trial number -> for each fold that it was trained on, the first ones, the class probabilities of the tested rows
        by each of its networks.

    Returns
    -------
    DataFrame
        Columns trial_number, fold, seed, row, date, ticker, label, forward_return and a probability_* per class.
    """
    frames = []
    for number, by_fold in probabilities.items():
        blocks = [(fold, seed, shares) for fold, by_seed in enumerate(by_fold) for seed, shares in enumerate(by_seed)]
        for fold, seed, shares in blocks:
            rows = folds[fold][1]
            columns: dict[str, int | np.ndarray] = {"trial_number": number, "fold": fold, "seed": seed, "row": rows}
            columns["date"] = dataset.date[rows] if dataset.dates is None else dataset.dates[dataset.date[rows]]
            columns["ticker"] = np.array(dataset.tickers, dtype=object)[dataset.ticker[rows]]
            columns["label"] = dataset.y[rows]
            columns["forward_return"] = dataset.forward_return[rows]
            columns |= {f"probability_{name}": shares[:, k] for k, name in enumerate(dataset.classes)}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def scored_rows(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return hit and log loss of each row of out-of-fold predictions, as means over single networks.

    Parameters
    ----------
    table : DataFrame
        Result of `prediction_table`.
    keys : sequence of str
        Columns that name a row; they are the index of the result.

    Returns
    -------
    DataFrame
        Columns hit, loss (nats), label and date.
    """
    columns = [name for name in table.columns if name.startswith("probability_")]
    probabilities, label = table[columns].to_numpy(dtype=np.float64), table["label"].to_numpy()
    likelihood = np.maximum(probabilities[np.arange(len(label)), label], _MIN_PROBABILITY)
    hit = (probabilities.argmax(axis=1) == label).astype(np.float64)
    scored = table[[*keys, "date", "label"]].assign(hit=hit, loss=-np.log(likelihood))
    return scored.groupby(list(keys)).agg(
        hit=("hit", "mean"), loss=("loss", "mean"), label=("label", "first"), date=("date", "first")
    )


def fold_spans(table: pd.DataFrame) -> list[FoldSpan]:
    """Return the tested dates of each fold, from a table of `prediction_table`."""
    spans = []
    dated = pd.api.types.is_datetime64_any_dtype(table["date"])
    for fold in sorted(table["fold"].unique().tolist()):
        tested = table[table["fold"] == fold].drop_duplicates("row")
        first, last = (str(bound)[:10] if dated else None for bound in (tested["date"].min(), tested["date"].max()))
        shares = tested["label"].value_counts(normalize=True)
        spans.append(FoldSpan(fold, first, last, float(shares.iloc[0])))
    return spans


def pooled_accuracies(
    dataset: Dataset, rows: np.ndarray, correct: Mapping[int, np.ndarray], best: int
) -> tuple[str, dict[int, PooledAccuracy]]:
    """Return the name of the best naive rule on the tested rows, and the pooled accuracy of each trial.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Tested rows of all folds; a row that is tested twice comes twice.
    correct : mapping of int to ndarray, shape (n_own,)
        Hits by trial number, for the first rows: those of the folds that the trial was trained on. 1 for a correct
        prediction, otherwise 0; the mean over its networks if it has several.
    best : int
        Trial whose mean accuracy over all folds is the best.

    Returns
    -------
    tuple
        Skill is that over the best naive rule, `behind` is the accuracy of `best` minus that of the configuration;
        dependence between dates is allowed for.
    """
    majority = int(np.bincount(dataset.y[dataset.rows]).argmax())
    y = dataset.y[rows]
    name, rule_answers = best_naive(y, majority, {key: rule[rows] for key, rule in dataset.naive.items()})
    naive, winner = rule_answers == y, correct[best]
    found: dict[int, PooledAccuracy] = {}
    for number, hits in correct.items():
        accuracies, n = hits.astype(np.float64), len(hits)
        values = {"accuracy": accuracies, "skill": accuracies - naive[:n], "behind": winner[:n] - accuracies}
        date = dataset.date[rows[:n]] if dataset.has_time else None
        interval = mean_intervals(values, date, dataset.horizon)
        found[number] = PooledAccuracy(
            pooled_accuracy=interval["accuracy"].estimate,
            accuracy_se=interval["accuracy"].se,
            skill=interval["skill"].estimate,
            skill_se=interval["skill"].se,
            skill_ci95=[interval["skill"].low, interval["skill"].high],
            behind=interval["behind"].estimate,
            behind_se=interval["behind"].se,
        )
    return name, found


def n_duplicates(dataset: Dataset, folds: Sequence[Split]) -> int:
    """Tested rows, over all folds, that have exactly the features of a row of their training set."""
    return sum(n_shared_rows(dataset.x, train, dataset.x, test) for train, test in folds)


def choose_decision(
    dataset: Dataset, tested: Sequence[np.ndarray], logits: Sequence[np.ndarray], experiment: Experiment
) -> DecisionRule:
    """Choose threshold and margin of the decisions on out-of-fold predictions, with the reason.

    The logits of each fold are calibrated on those of the other folds, as those of the final model are on its hold-out.
    So the threshold does not correct errors that the calibration corrects.

    Parameters
    ----------
    tested : sequence of ndarray of int64
        Tested rows of each fold.
    logits : sequence of ndarray, shape (n_tested, n_classes)
    """
    probabilities = []
    for k, of_fold in enumerate(logits):
        others = [j for j in range(len(logits)) if j != k]
        y = np.concatenate([dataset.y[tested[j]] for j in others])
        probabilities.append(fit_calibration(np.concatenate([logits[j] for j in others]), y).probabilities(of_fold))
    return decision_on(dataset, np.concatenate(tested), np.concatenate(probabilities), experiment)


def decision_on(dataset: Dataset, rows: np.ndarray, probabilities: np.ndarray, experiment: Experiment) -> DecisionRule:
    """Threshold and margin chosen on calibrated predictions of `rows`, as `choose_decision`."""
    config = experiment.data
    chosen = choose_policy(
        dataset.y[rows],
        probabilities,
        dataset.date[rows] if dataset.has_time else None,
        dataset.horizon,
        numpy_generator(experiment.seed, "decision"),
        margin=config.margin,
        net_returns=_net_returns(dataset, rows, config),
    )
    return DecisionRule(threshold=chosen.policy.threshold, margin=chosen.policy.margin, reason=chosen.reason)


def _net_returns(dataset: Dataset, rows: np.ndarray, config: DataConfig) -> NetReturns | None:
    """Net return by date of given answers; None where a margin decides nothing: without returns, or unsigned positions.

    A row that several folds test (combinatorial folds) has several answers, but can be traded only once.
    """
    traded_once = len(np.unique(rows)) == len(rows)
    trading = SimulatedTrading.of(dataset, rows, config.trading)
    if trading is None or config.position != "sign" or not traded_once:
        return None
    return simulated_net(trading.simulator, trading.class_positions)
