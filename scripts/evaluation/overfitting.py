"""Probability of backtest overfitting by combinatorially symmetric cross-validation (Bailey et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.special import logit
from scipy.stats import rankdata

Metric = Literal["mean", "sharpe"]


@dataclass(frozen=True)
class Overfitting:
    """What became outside of the trial that was best inside, over all ways to halve the dates.

    Attributes
    ----------
    pbo : float
        Probability of backtest overfitting: share of the splits in which the best trial falls below the median of all
        outside. At the median counts as half, and trials that are equally good inside share their split.
    degradation_slope : float or None
        Slope of the outside performance of the best trial on its inside performance; None if that never varies.
    probability_of_loss : float
        Share of the splits in which the best trial's outside performance is below 0.
    inside : ndarray of int, shape (n_splits, n_blocks / 2)
        Blocks that the choice was made on.
    best : ndarray of int, shape (n_splits,)
        The trial chosen, the first on a tie.
    rank, omega, logits : ndarray of float, shape (n_splits,)
        Its average rank outside (1 is worst), rank / (n_trials + 1), ln(omega / (1 - omega)).
    """

    pbo: float
    degradation_slope: float | None
    probability_of_loss: float
    inside: np.ndarray
    best: np.ndarray
    rank: np.ndarray
    omega: np.ndarray
    logits: np.ndarray

    @property
    def n_splits(self) -> int:
        """Number of ways to halve the blocks, C(n_blocks, n_blocks / 2)."""
        return len(self.best)


def probability_of_backtest_overfitting(
    performance: np.ndarray, n_blocks: int = 16, metric: Metric = "mean"
) -> Overfitting:
    """Judge a choice among trials by their performance per date.

    Parameters
    ----------
    performance : ndarray of float, shape (n_dates, n_trials)
        Higher is better: accuracy or net return of each trial on each date. At least two trials.
    n_blocks : int
        Even, at least 2 and at most the number of dates (half of it for the Sharpe ratio). The dates are cut into so
        many blocks, the first ones one date longer where they do not divide.
    metric : {"mean", "sharpe"}
        Performance over several blocks: the mean, or mean / standard deviation (ddof 1). A trial that never varies
        has a Sharpe ratio of 0.

    Raises
    ------
    ValueError
        If the shape or the number of blocks is not as described.
    """
    values = np.asarray(performance, dtype=np.float64)
    least = n_blocks if metric == "mean" else 2 * n_blocks
    if values.ndim != 2 or values.shape[1] < 2 or n_blocks < 2 or n_blocks % 2 or len(values) < least:
        raise ValueError(f"performance of shape {values.shape} cannot be cut into {n_blocks} blocks, an even number")
    inside = np.array(list(combinations(range(n_blocks), n_blocks // 2)))
    chosen = np.zeros((len(inside), n_blocks))
    np.put_along_axis(chosen, inside, 1.0, axis=1)
    performance_inside = _performance(values, chosen, metric)
    performance_outside = _performance(values, 1.0 - chosen, metric)
    best = performance_inside.argmax(axis=1)
    split = np.arange(len(best))
    best_inside, best_outside = performance_inside[split, best], performance_outside[split, best]
    below = (performance_outside < best_outside[:, None]).sum(axis=1)
    equal = (performance_outside == best_outside[:, None]).sum(axis=1)
    rank = below + (equal + 1) / 2
    omega = rank / (values.shape[1] + 1)
    return Overfitting(
        pbo=_below_median(performance_inside, performance_outside),
        degradation_slope=_slope(best_inside, best_outside),
        probability_of_loss=float(np.mean(best_outside < 0.0)),
        inside=inside,
        best=best,
        rank=rank,
        omega=omega,
        logits=logit(omega),
    )


def _below_median(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of the splits, shape (n_splits, n_trials), in which the best inside is below the median rank outside."""
    rank = rankdata(outside, axis=1) - (outside.shape[1] + 1) / 2
    chosen = inside == inside.max(axis=1, keepdims=True)
    below = (rank < 0) + 0.5 * (rank == 0)
    return float(((below * chosen).sum(axis=1) / chosen.sum(axis=1)).mean())


def _performance(values: np.ndarray, chosen: np.ndarray, metric: Metric) -> np.ndarray:
    """Metric over the chosen blocks, shape (n_splits, n_trials), from sums per block."""
    blocks = np.array_split(values, chosen.shape[1])
    n = chosen @ np.array([len(block) for block in blocks], dtype=np.float64)[:, None]
    mean = chosen @ np.array([block.sum(axis=0) for block in blocks]) / n
    if metric == "mean":
        return mean
    # Centred by trial, so that the sums of squares lose no digits.
    centre = values.mean(axis=0)
    squares = chosen @ np.array([((block - centre) ** 2).sum(axis=0) for block in blocks])
    variance = (squares - n * (mean - centre) ** 2) / (n - 1.0)
    varies = variance > 1e-12 * np.maximum(centre**2, np.finfo(np.float64).tiny)
    return np.where(varies, mean / np.sqrt(np.where(varies, variance, 1.0)), 0.0)


def _slope(x: np.ndarray, y: np.ndarray) -> float | None:
    """Least-squares slope of y on x; None if x never varies."""
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred)) if np.ptp(x) > 0.0 else None
