"""Probability of backtest overfitting by combinatorially symmetric cross-validation (Bailey et al. 2017)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import rankdata


def probability_of_backtest_overfitting(performance: np.ndarray, n_blocks: int = 16) -> float:
    """Judge a choice among trials by their mean performance, over all ways to choose on half of the dates.

    Parameters
    ----------
    performance : ndarray of float, shape (n_dates, n_trials)
        Higher is better: accuracy or net return of each trial on each date. At least two trials.
    n_blocks : int
        Even, at least 2 and at most the number of dates. The dates are cut into so many blocks, the first ones one date
        longer where they do not divide.

    Returns
    -------
    float
        Share of the splits in which the best trial of one half falls below the median of all in the other. At the
        median counts as half, and trials that are equally good inside share their split.

    Raises
    ------
    ValueError
        If the shape or the number of blocks is not as described.
    """
    values = np.asarray(performance, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or n_blocks < 2 or n_blocks % 2 or len(values) < n_blocks:
        raise ValueError(f"performance of shape {values.shape} cannot be cut into {n_blocks} blocks, an even number")
    halves = np.array(list(combinations(range(n_blocks), n_blocks // 2)))
    chosen = np.zeros((len(halves), n_blocks))
    np.put_along_axis(chosen, halves, 1.0, axis=1)
    return _below_median(_means(values, chosen), _means(values, 1.0 - chosen))


def _below_median(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of the splits, shape (n_splits, n_trials), in which the best inside is below the median rank outside."""
    rank = rankdata(outside, axis=1) - (outside.shape[1] + 1) / 2
    chosen = inside == inside.max(axis=1, keepdims=True)
    below = (rank < 0) + 0.5 * (rank == 0)
    return float(((below * chosen).sum(axis=1) / chosen.sum(axis=1)).mean())


def _means(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Means over the chosen blocks, shape (n_splits, n_trials), from sums per block."""
    blocks = np.array_split(values, chosen.shape[1])
    n = chosen @ np.array([len(block) for block in blocks], dtype=np.float64)[:, None]
    return np.asarray(chosen @ np.array([block.sum(axis=0) for block in blocks]) / n)
