"""Probability of backtest overfitting by combinatorially symmetric cross-validation (Bailey et al. 2017)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import rankdata


def probability_of_backtest_overfitting(performance: np.ndarray, n_blocks: int = 16) -> float:
    """Estimate how often the best trial by mean performance on half of the dates is below the median on the other half.

    Parameters
    ----------
    performance : ndarray of float, shape (n_dates, n_trials)
        Higher is better: accuracy or net return of each trial on each date. At least two trials.
    n_blocks : int
        Even, at least 2 and at most the number of dates. Number of blocks of dates; the first ones are one date
        longer if the number of dates is not divisible.

    Returns
    -------
    float
        Share of the splits in which the best trial of one half is below the median of all trials in the other. A
        rank at the median counts half, and trials that tie inside share their split.

    Raises
    ------
    ValueError
        If the shape or the number of blocks is invalid.
    """
    values = np.asarray(performance, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or n_blocks < 2 or n_blocks % 2 or len(values) < n_blocks:
        raise ValueError(f"performance of shape {values.shape} cannot be cut into {n_blocks} blocks, an even number")
    halves = np.array(list(combinations(range(n_blocks), n_blocks // 2)))
    chosen = np.zeros((len(halves), n_blocks))
    np.put_along_axis(chosen, halves, 1.0, axis=1)
    return _below_median(_means(values, chosen), _means(values, 1.0 - chosen))


def _below_median(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of the splits, shape (n_splits, n_trials), in which the best inside is below the outside median."""
    rank = rankdata(outside, axis=1) - (outside.shape[1] + 1) / 2
    chosen = inside == inside.max(axis=1, keepdims=True)
    below = (rank < 0) + 0.5 * (rank == 0)
    return float(((below * chosen).sum(axis=1) / chosen.sum(axis=1)).mean())


def _means(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return means over the chosen blocks, shape (n_splits, n_trials), from sums per block."""
    blocks = np.array_split(values, chosen.shape[1])
    n = chosen @ np.array([len(block) for block in blocks], dtype=np.float64)[:, None]
    return np.asarray(chosen @ np.array([block.sum(axis=0) for block in blocks]) / n)
