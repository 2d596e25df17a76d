"""What the models of phase 2 say of rows that they have not seen: one table, and how sure their accuracies are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scripts.data.dataset import Dataset
from scripts.data.splits import Split
from scripts.evaluation.baselines import best_naive
from scripts.evaluation.shift import n_rows_in_both
from scripts.evaluation.statistics import mean_intervals
from scripts.random_keys import numpy_generator


def prediction_table(
    dataset: Dataset, folds: Sequence[Split], probabilities: Mapping[int, Sequence[np.ndarray]]
) -> pd.DataFrame:
    """Predictions of every tested row, one block per configuration and fold.

    Parameters
    ----------
    probabilities : mapping of int to sequence of ndarray
        Trial number -> class probabilities of the tested rows of each fold.

    Returns
    -------
    DataFrame
        Columns trial_number, fold, row, date, ticker, label, forward_return and a probability_* per class.
    """
    frames = []
    for number, by_fold in probabilities.items():
        for fold, ((_, rows), shares) in enumerate(zip(folds, by_fold, strict=True)):
            columns: dict[str, Any] = {"trial_number": number, "fold": fold, "row": rows}
            columns["date"] = dataset.date[rows] if dataset.dates is None else dataset.dates[dataset.date[rows]]
            columns["ticker"] = np.array(dataset.tickers, dtype=object)[dataset.ticker[rows]]
            columns["label"] = dataset.y[rows]
            columns["forward_return"] = dataset.forward_return[rows]
            columns |= {f"probability_{name}": shares[:, k] for k, name in enumerate(dataset.classes)}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def judge(
    dataset: Dataset, rows: np.ndarray, correct: Mapping[int, np.ndarray], best: int, seed: int
) -> tuple[str, dict[int, dict[str, Any]]]:
    """Name of the best naive rule on the tested rows, and by trial number how sure the accuracies are.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Tested rows of all folds; a row that is tested twice comes twice.
    correct : mapping of int to ndarray of bool, shape (n,)
        Trial number -> where its predictions are right.
    best : int
        Trial whose mean accuracy is the best.
    seed : int

    Returns
    -------
    tuple
        Per trial pooled_accuracy, accuracy_se, skill (over the best naive rule), skill_se, skill_ci95, behind (by how
        much the accuracy lies below that of `best`) and behind_se; all by blocks of dates.
    """
    majority = int(np.bincount(dataset.y[dataset.rows]).argmax())
    name, naive = best_naive(dataset.y[rows], majority, {key: rule[rows] for key, rule in dataset.naive.items()})
    date = dataset.date[rows] if dataset.has_time else None
    found: dict[int, dict[str, Any]] = {}
    for number, hits in correct.items():
        own = hits.astype(np.float64)
        values = {"accuracy": own, "skill": own - naive, "behind": correct[best] - own}
        generator = numpy_generator(seed, "out of fold", number)
        interval = mean_intervals(values, date, dataset.horizon, generator)
        found[number] = {
            "pooled_accuracy": interval["accuracy"].estimate,
            "accuracy_se": interval["accuracy"].se,
            "skill": interval["skill"].estimate,
            "skill_se": interval["skill"].se,
            "skill_ci95": [interval["skill"].low, interval["skill"].high],
            "behind": interval["behind"].estimate,
            "behind_se": interval["behind"].se,
        }
    return name, found


def n_duplicates(dataset: Dataset, folds: Sequence[Split]) -> int:
    """Tested rows, over all folds, that have exactly the features of a row of their training set."""
    return sum(n_rows_in_both(dataset.x[train], dataset.x[test]) for train, test in folds)
