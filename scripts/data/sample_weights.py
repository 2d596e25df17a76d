"""Sample weights of training rows by uniqueness of their labels and by recency.

A label of a row at date t that reads up to the date e spans the steps (s, s + 1) of the calendar with t <= s < e; one
that ends on its own date counts as one step. Two labels of one ticker are concurrent at a step that both span: they
are functions of the same return (Lopez de Prado 2018, section 4.3). Labels of several tickers count as independent
here; what they share is left to the bootstrap over dates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scripts.data.dataset import Dataset
from scripts.errors import InputError

SampleWeights = Literal["none", "uniqueness"]


def training_weights(dataset: Dataset, rows: np.ndarray, kind: SampleWeights, half_life: float) -> np.ndarray | None:
    """Return the weights of the training rows of a split, from these rows only: shape (len(rows),) with mean 1.

    Parameters
    ----------
    rows : ndarray of int64
        Training rows of the split.
    kind : {"none", "uniqueness"}
    half_life : float
        In dates; 0 means that old rows count as much as new ones. The product is taken where both are on.

    Returns
    -------
    ndarray or None
        None if both are off.

    Raises
    ------
    InputError
        A half-life for rows without time.
    """
    if kind == "none" and not half_life:
        return None
    if half_life and not dataset.has_time:
        raise InputError(
            f"a half-life of {half_life:g} dates needs time",
            "search_space.recency_half_life",
            "name data.time_column, or leave it out",
        )
    date = dataset.date[rows]
    weights = np.ones(len(rows))
    if kind == "uniqueness":
        weights *= average_uniqueness(date, dataset.label_end[rows], dataset.ticker[rows])
    if half_life:
        weights *= recency_weights(date, half_life)
    return weights / weights.mean()


def average_uniqueness(date: np.ndarray, label_end: np.ndarray, ticker: np.ndarray) -> np.ndarray:
    """Mean over a label's span of 1 / c, c being the labels concurrent at a step (Lopez de Prado 2018, section 4.4).

    Parameters
    ----------
    date, label_end : ndarray of int64, shape (n,)
        Positions in the calendar, label_end >= date; in any order, dates of a ticker may be missing or occur twice.
    ticker : ndarray of int64, shape (n,)
        At least 0.

    Returns
    -------
    ndarray of float64, shape (n,)
        In (0, 1]; 1 where no other label of the ticker shares a step.
    """
    if not len(date):
        return np.empty(0)
    stop = np.maximum(label_end, date + 1)
    # All tickers on one line, with gaps so that spans of different tickers do not meet.
    offset = ticker * (int(stop.max()) - int(date.min()) + 1)
    # Concurrency changes only where a span starts or stops, so that long calendars cost nothing.
    edges, place = np.unique(np.concatenate([date + offset, stop + offset]), return_inverse=True)
    start_edge, stop_edge = place[: len(date)], place[len(date) :]
    n_edges = len(edges)
    changes = np.bincount(start_edge, minlength=n_edges) - np.bincount(stop_edge, minlength=n_edges)
    concurrent = np.maximum(changes.cumsum()[:-1], 1)  # zero between tickers or spans, which is not used
    total = np.concatenate([[0.0], np.cumsum(np.diff(edges) / concurrent)])
    return np.asarray((total[stop_edge] - total[start_edge]) / (stop - date))


def effective_labels(date: np.ndarray, label_end: np.ndarray, ticker: np.ndarray) -> float:
    """Number of independent labels that overlapping ones are worth: the sum of their average uniqueness.

    Arguments as `average_uniqueness`. n where no labels of a ticker overlap, about n / horizon where every date of a
    ticker has a label of that horizon.
    """
    return float(average_uniqueness(date, label_end, ticker).sum())


def recency_weights(date: np.ndarray, half_life: float) -> np.ndarray:
    """Weights that halve with every `half_life` dates before the last one; float64 of shape (n,) with mean 1.

    Parameters
    ----------
    date : ndarray of int64, shape (n,)
        Positions in the calendar, at least one.
    half_life : float
        In dates, above 0.
    """
    with np.errstate(over="ignore"):  # a half-life near 0 keeps only the last date
        weights = np.exp2((date - date.max()) / half_life)
    return np.asarray(weights / weights.mean())
