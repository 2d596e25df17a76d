"""Statistical tests that compare models: over folds, dates or rows, and among many models at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom, t

from scripts.statistics.long_run_variance import joint_errors

Kernel = Literal["rectangular", "bartlett"]


@dataclass(frozen=True)
class ResampledComparison:
    """Mean of score differences over folds or splits, with the corrected standard error.

    Attributes
    ----------
    mean, sd, se : float
        Moments of the differences (sd with ddof 1); se is corrected for overlapping training sets.
    t, p_two_sided : float or None
        Student statistic with `df` degrees of freedom; None if all differences are equal.
    low, high : float
        95% interval of the mean.
    """

    mean: float
    sd: float
    se: float
    t: float | None
    df: int
    p_two_sided: float | None
    low: float
    high: float


def corrected_resampled_ttest(differences: np.ndarray, test_over_train: float | np.ndarray) -> ResampledComparison:
    """Run Student's test for scores from overlapping training sets (Nadeau and Bengio 2003; Bouckaert and Frank 2004).

    Parameters
    ----------
    differences : ndarray, shape (n_splits,)
        Score of one model minus that of another, or scores of one model, on each fold or split. At least two.
    test_over_train : float or ndarray of shape (n_splits,)
        Test rows / training rows; 1 / (k - 1) for k folds. An array, as purged folds have, is averaged.
    """
    n = len(differences)
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    se, df = corrected_standard_error(sd, n, test_over_train), n - 1
    statistic = mean / se if np.ptp(differences) > 0.0 else None
    half = float(t.ppf(0.975, df)) * se
    p = None if statistic is None else float(2.0 * t.sf(abs(statistic), df))
    return ResampledComparison(mean, sd, se, statistic, df, p, mean - half, mean + half)


def corrected_standard_error(sd: float, n_splits: int, test_over_train: float | np.ndarray) -> float:
    """Standard error sd sqrt(1 / n_splits + ratio) of a mean over splits; a ratio of 0 means no correction."""
    return sd * math.sqrt(1.0 / n_splits + float(np.mean(test_over_train)))


@dataclass(frozen=True)
class DieboldMariano:
    """Statistic and two-sided p of equal expected loss, with the long-run variance and its kernel."""

    statistic: float | None
    p_two_sided: float | None
    long_run_variance: float
    kernel: Kernel


def diebold_mariano(differences: np.ndarray, horizon: int, kernel: Kernel | None = None) -> DieboldMariano:
    """Test equal expected loss over dates (Diebold and Mariano 1995; Harvey, Leybourne and Newbold 1997).

    Parameters
    ----------
    differences : ndarray, shape (n_dates,)
        Per date: mean over its rows of the loss of the naive rule minus that of the model. More dates than `horizon`.
    horizon : int
        Dates that a label looks ahead, at least 1.
    kernel : {"rectangular", "bartlett"}, optional
        Weights of the autocovariances: all 1, or 1 - k / horizon. By default rectangular, or Bartlett if that
        long-run variance is not positive. The result contains the kernel.

    Returns
    -------
    DieboldMariano
        A positive statistic means that the model has less loss. None if the long-run variance is not positive.
    """
    if kernel is None:
        plain = diebold_mariano(differences, horizon, "rectangular")
        return plain if plain.statistic is not None else diebold_mariano(differences, horizon, "bartlett")
    n, centred = len(differences), differences - np.mean(differences)
    lags = np.arange(1, horizon)
    weights = np.ones(len(lags)) if kernel == "rectangular" else 1.0 - lags / horizon
    covariances = np.array([centred[lag:] @ centred[: n - lag] for lag in lags]) / n
    variance = float(centred @ centred / n + 2.0 * weights @ covariances)
    if variance <= 0.0 or np.ptp(differences) == 0.0:
        return DieboldMariano(None, None, variance, kernel)
    small_sample = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    statistic = float(np.mean(differences)) / math.sqrt(variance / n) * math.sqrt(small_sample)
    return DieboldMariano(statistic, float(2.0 * t.sf(abs(statistic), n - 1)), variance, kernel)


@dataclass(frozen=True)
class McNemar:
    """McNemar test on the discordant rows; it assumes independent rows, so p is too small on a panel.

    Attributes
    ----------
    p_exact, p_mid : float
        Two-sided: binomial, and mid-p (Fagerland, Lydersen and Laake 2013).
    """

    p_exact: float
    p_mid: float


def mcnemar(only_model_right: int, only_naive_right: int) -> McNemar:
    """Compare two classifiers by the rows on which only one of them is right; without any such row p is 1."""
    fewer, n = min(only_model_right, only_naive_right), only_model_right + only_naive_right
    exact = min(1.0, 2.0 * float(binom.cdf(fewer, n, 0.5)))
    return McNemar(exact, exact - float(binom.pmf(fewer, n, 0.5)) if n else 1.0)


@dataclass(frozen=True)
class ModelConfidenceSet:
    """Columns of the models that tie with the best, ascending, and the p-value of each model."""

    included: tuple[int, ...]
    p_values: np.ndarray


def model_confidence_set(
    losses: np.ndarray, size: float, horizon: int, rng: np.random.Generator, n_draws: int = 1000
) -> ModelConfidenceSet:
    """Return the set that contains the best model with probability 1 - size (Hansen et al. 2011; range statistic).

    The distribution of the statistic under equal models comes from joint draws of the errors of all differences
    (`joint_errors`). A block bootstrap is too narrow for autocorrelated losses.

    Parameters
    ----------
    losses : ndarray, shape (n_dates, n_models)
        Per date, lower is better. Columns equal to an earlier one share its p-value.
    size : float
        In (0, 1).
    horizon : int
        Dates that a label looks ahead.
    rng : numpy.random.Generator
        Generator of the draws.
    """
    # Two equal columns differ by exactly 0 with variance 0, and the statistic would be 0 / 0.
    distinct, column = np.unique(losses, axis=1, return_inverse=True)
    n_models = distinct.shape[1]
    first, second = np.triu_indices(n_models, 1)
    differences = distinct[:, first] - distinct[:, second]
    mean = differences.mean(axis=0)
    errors = joint_errors(differences - mean, horizon, n_draws, rng)
    with np.errstate(divide="ignore"):
        statistic = mean / errors.se  # infinite for columns that differ by a constant
    left, p_values, p = np.ones(n_models, dtype=bool), np.ones(n_models), 0.0
    while left.sum() > 1:
        among = left[first] & left[second]
        widest = np.abs(statistic[among]).max()
        p = max(p, float((np.abs(errors.draws[:, among]).max(axis=1) >= widest).mean()))
        worst = np.full(n_models, -np.inf)
        np.maximum.at(worst, first[among], statistic[among])
        np.maximum.at(worst, second[among], -statistic[among])
        out = int(worst.argmax())
        p_values[out], left[out] = p, False
    p_values = p_values[column]
    return ModelConfidenceSet(tuple(int(k) for k in np.flatnonzero(p_values > size)), p_values)
