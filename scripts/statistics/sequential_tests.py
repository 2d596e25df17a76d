"""Racing rule: sequential tests that find configurations unlikely to be the best, with a bounded error.

A race (Maron and Moore 1994; Birattari et al. 2002) compares all candidates on the same rows and drops those that are
clearly worse, so that effort goes to the others. The only relevant error is to drop the best one. It occurs only
if some rival appears better. So a one-sided test of each rival, with the level divided by the number of rivals
(Bonferroni), bounds it at every look, whatever was dropped before. The error rate is divided among all looks by a
spending function (Lan and DeMets 1983).

A difference of two accuracies varies for two reasons. First, the dates are a sample: whole dates are resampled in
blocks, for all configurations together. Second, each fold has only one network of each configuration, and another seed
would give a better or worse one. Resampling rows does not show this. The residuals of an additive model of
configuration and fold include both, but there are few of them, and they assume equal variances of all configurations.
So the larger of the two variances is used. If folds test the same dates, the residuals share the effect of these dates
and hide it, so both variances are added.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtr  # scipy.stats slow to import

from scripts.statistics.bootstrap import MIN_BLOCKS, date_bootstrap, ratio_block_length
from scripts.statistics.intervals import sums_by_date


def spent_level(error_rate: float, share: float) -> float:
    """Return the error that may be spent once `share` of the evidence is in: a ln(1 + (e - 1) t).

    The spending function of Lan and DeMets (1983) that approximates the constant bounds of Pocock (1977). A race gains
    by early stopping, which the bounds of O'Brien and Fleming rarely allow.

    Parameters
    ----------
    error_rate : float
        Total error rate of all looks, above 0 and below 1.
    share : float
        From 0 to 1.
    """
    return error_rate * math.log(1.0 + (math.e - 1.0) * share)


def run_noise(scores: np.ndarray) -> tuple[float, int]:
    """Return the variance of a single network's accuracy on its fold beyond configuration and fold, and its freedom.

    Parameters
    ----------
    scores : ndarray, shape (n_configurations, n_folds)
        NaN if a configuration was not trained.

    Returns
    -------
    tuple of float and int
        Mean square of the residuals of the additive model, and the degrees of freedom: (c - 1)(f - 1) if all were
        trained. Without degrees of freedom, as after one fold, the variance is infinite.
    """
    configuration, fold = np.nonzero(np.isfinite(scores))
    values = scores[configuration, fold]
    design = np.column_stack([np.eye(scores.shape[0])[configuration], np.eye(scores.shape[1])[fold]])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(values) - int(rank)
    if freedom < 1:
        return math.inf, 0
    return float(np.sum((values - design @ solution) ** 2)) / freedom, freedom


def p_values_of_being_best(
    hits: np.ndarray,
    fold: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    noise: tuple[float, int],
    n_rivals: int,
    rng: np.random.Generator,
    n_resamples: int = 1000,
) -> np.ndarray:
    """Return, for each configuration, a bound on the p-value of the hypothesis that it is the best.

    Parameters
    ----------
    hits : ndarray, shape (n, m)
        1 for a correct prediction, else 0, on the same rows.
    fold : ndarray of int, shape (n,)
        Fold that tested the row.
    date : ndarray of int, shape (n,), or None
        None if the rows have no dates; rows are then drawn independently.
    horizon : int
        Dates that a label looks ahead: the minimum block length.
    noise : tuple of float and int
        Variance of a single network's accuracy on a fold, from `run_noise`.
    n_rivals : int
        Number of rivals of each at the start of the race.

    Returns
    -------
    ndarray, shape (m,)
        In [0, 1], by Student's distribution. All 1 with too few dates, or if the noise of the networks is unknown.
    """
    hits = np.asarray(hits, dtype=np.float64)
    sums, counts = sums_by_date(hits, date)
    block = 1.0 if date is None else _block_length(sums, counts, horizon)
    variance, freedom = noise
    if freedom < 1 or len(counts) < MIN_BLOCKS * block:
        return np.ones(hits.shape[1])
    covariance = np.cov(date_bootstrap(sums, counts, n_resamples, block, rng=rng), rowvar=False)
    variances = np.diag(covariance)
    shares = np.unique(fold, return_counts=True)[1] / len(fold)
    # Two networks differ in each fold; the mean over rows weights folds by their rows.
    trained = 2.0 * variance * float(np.sum(shares**2))
    sampled = np.maximum(variances[:, None] + variances[None, :] - 2.0 * covariance, 0.0)
    error = np.sqrt(sampled + trained if _test_same_dates(fold, date) else np.maximum(sampled, trained))
    mean = hits.mean(axis=0)
    lead = mean[None, :] - mean[:, None]  # of the rival (column) over the configuration (row)
    statistic = np.divide(lead, error, out=np.zeros_like(lead), where=error > 0.0)
    freedoms = min(float(freedom), len(counts) / block - 1.0)
    tail = stdtr(freedoms, -statistic.max(axis=1))
    return np.asarray(np.minimum(1.0, n_rivals * tail))


def _test_same_dates(fold: np.ndarray, date: np.ndarray | None) -> bool:
    """Return True if a date is tested by several folds."""
    if date is None:
        return False
    tested = np.unique(np.column_stack([fold, date]), axis=0)
    return len(tested) > len(np.unique(tested[:, 1]))


def _block_length(sums: np.ndarray, counts: np.ndarray, horizon: int) -> float:
    """Return the longest block length of the differences of all configurations from their mean."""
    centred = sums - sums.mean(axis=1, keepdims=True)
    return max(ratio_block_length(column, counts, horizon) for column in centred.T)
