"""Sharpe ratios with their uncertainty: probabilistic and deflated Sharpe ratio.

Everything is per period: divide an annualised Sharpe ratio by sqrt(periods per year) first. `sharpe_with_error` allows
for autocorrelation (Lo, The statistics of Sharpe ratios, 2002); the others assume that returns are independent over the
periods (Bailey and Lopez de Prado, The Sharpe ratio efficient frontier, 2012, and The deflated Sharpe ratio, 2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import kurtosis, norm, skew

from scripts.statistics.bootstrap import ratio_block_length


@dataclass(frozen=True)
class SharpeMoments:
    """Sharpe ratio of a series and the moments that its standard error needs.

    Attributes
    ----------
    sharpe : float
        Mean / standard deviation (ddof 1), per period.
    n : int
        Number of returns.
    skew, kurtosis : float
        Plain moment ratios; the kurtosis of a normal distribution is 3.
    """

    sharpe: float
    n: int
    skew: float = 0.0
    kurtosis: float = 3.0

    @property
    def standard_error(self) -> float:
        """Standard error of the Sharpe ratio, per period."""
        return math.sqrt(_variance_factor(self.sharpe, self.skew, self.kurtosis) / (self.n - 1))


def sharpe_moments(returns: np.ndarray) -> SharpeMoments | None:
    """Return the moments of a series of returns (n,); None for fewer than two returns or constant returns."""
    if len(returns) < 2 or np.ptp(returns) == 0.0:
        return None
    ratio = float(np.mean(returns) / np.std(returns, ddof=1))
    return SharpeMoments(ratio, len(returns), float(skew(returns)), float(kurtosis(returns, fisher=False)))


@dataclass(frozen=True)
class SharpeEstimate:
    """Sharpe ratio of a series per period, its standard error, and the standard deviation of its denominator."""

    sharpe: float
    standard_error: float
    deviation: float


def sharpe_with_error(returns: np.ndarray, overlap: int = 1) -> SharpeEstimate | None:
    """Return the Sharpe ratio with a standard error that allows for autocorrelation.

    The error is that of the delta method for mean and variance (Lo 2002, appendix), with the influences z - S (z^2 - 1)
    / 2 of the standardised returns z. It is sqrt(long-run variance / n) with Bartlett weights (Newey and West 1987) up
    to the largest of 4 (n / 100)^(2/9), `overlap` - 1 and the optimal block length (Politis and White 2004).

    Parameters
    ----------
    returns : ndarray, shape (n,)
    overlap : int
        Periods that one return spans. Above 1, the deviation includes the autocovariances up to `overlap` - 1 (Hansen
        and Hodrick 1980), because overlapping returns have too small a variance without them.

    Returns
    -------
    SharpeEstimate or None
        None for fewer than two returns or constant returns.
    """
    n = len(returns)
    if n < 2 or np.ptp(returns) == 0.0:
        return None
    mean, spread = float(np.mean(returns)), float(np.std(returns, ddof=1))
    centred = returns - mean
    if overlap > 1:
        flat = long_run_variance(centred, overlap - 1, np.ones(overlap))
        flat = flat if flat > 0.0 else long_run_variance(centred, 2 * overlap)
        spread = math.sqrt(flat * n / (n - 1))
    ratio, z = mean / spread, centred / spread
    influence = z - 0.5 * ratio * (z**2 - np.mean(z**2))
    block = ratio_block_length(influence, np.ones(n))
    lags = min(n - 1, max(int(4.0 * (n / 100.0) ** (2.0 / 9.0)), overlap - 1, round(block)))
    error = math.sqrt(max(0.0, long_run_variance(influence, lags)) / n)
    return SharpeEstimate(ratio, error, spread)


def long_run_variance(values: np.ndarray, lags: int, weights: np.ndarray | None = None) -> float:
    """Return the variance of sqrt(n) times the mean of values (n,) with mean 0, from autocovariances with divisor n.

    Parameters
    ----------
    lags : int
        Largest lag, below n.
    weights : ndarray, shape (lags + 1,), optional
        Weights of the lags 0, 1, ...; by default Bartlett's, 1 - k / (lags + 1).
    """
    lags = min(lags, len(values) - 1)
    share = 1.0 - np.arange(lags + 1) / (lags + 1.0) if weights is None else weights[: lags + 1]
    products = [float(values[k:] @ values[: len(values) - k]) / len(values) for k in range(lags + 1)]
    return float(share[0] * products[0] + 2.0 * (share[1:] @ np.array(products[1:])))


def probabilistic_sharpe_ratio(moments: SharpeMoments, benchmark: float = 0.0) -> float | None:
    """Return the probability in [0, 1] that the true Sharpe ratio exceeds `benchmark`; None if its s.e. is 0."""
    error = moments.standard_error
    return float(norm.cdf((moments.sharpe - benchmark) / error)) if error > 0.0 else None


def expected_max_sharpe(n_trials: float, variance: float) -> float:
    """Return the expected largest Sharpe ratio of `n_trials` independent trials without skill (2014, eq. 1).

    Parameters
    ----------
    n_trials : float
        May be an effective number. The result is 0 for one or fewer, where the approximation would be negative.
    variance : float
        Variance of the trials' Sharpe ratios per period (ddof 1).
    """
    if n_trials <= 1.0:
        return 0.0
    weight = np.euler_gamma
    quantiles = (1.0 - weight) * norm.ppf(1.0 - 1.0 / n_trials) + weight * norm.ppf(1.0 - 1.0 / (n_trials * math.e))
    return max(0.0, math.sqrt(variance) * float(quantiles))


def deflated_sharpe_ratio(moments: SharpeMoments, n_trials: float, variance: float) -> float | None:
    """Return the probability that the best of `n_trials` has a true Sharpe ratio above 0 (2014, eq. 2).

    `moments` are those of the best trial, `variance` as in `expected_max_sharpe`; None if the standard error is 0.
    """
    return probabilistic_sharpe_ratio(moments, expected_max_sharpe(n_trials, variance))


def mean_correlation(returns: np.ndarray) -> float | None:
    """Return the mean correlation over all pairs of columns of (n_periods, n_trials).

    None for fewer than two trials that vary; a constant column has no correlation.
    """
    varying = returns[:, np.ptp(returns, axis=0) > 0.0]
    n = varying.shape[1]
    if n < 2:
        return None
    return float((np.corrcoef(varying, rowvar=False).sum() - n) / (n * (n - 1)))


def effective_trials(n_trials: float, correlation: float) -> float:
    """Return the effective number of independent trials at this mean correlation: rho + (1 - rho) N (2014)."""
    return correlation + (1.0 - correlation) * n_trials


def _variance_factor(sharpe: float, skewness: float, kurt: float) -> float:
    """Return (n - 1) times the squared standard error; at least 0, because kurtosis >= 1 + skew^2."""
    return max(0.0, 1.0 - skewness * sharpe + (kurt - 1.0) / 4.0 * sharpe**2)
