"""Variance of the mean of a dependent series, with the degrees of freedom of that estimate.

The estimate is an equal-weighted cosine (EWC) estimate: the mean square of the first cosine coefficients of the series,
with Student's distribution (Lazarus, Lewis, Stock and Watson 2018). Strong dependence biases it downwards. So the
spectra of a grid, AR(1) processes plus white noise, are weighted by their likelihood (Whittle 1953). The estimate is
multiplied by the weighted mean of its bias under each of them. The number of coefficients is the largest for which this
factor remains small. `benchmarks/error_rates.py` measures the coverage of the resulting intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import dct

_PERSISTENCE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # AR(1) coefficients of the grid
# Posterior weights over this grid cover .89 under strong dependence. A fixed number of coefficients covers .69 to .81,
# one from an AR(1) fit .85 (docs/log.md, 2026-11-28, "Intervals under strong dependence").
_SHARE = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # share of the AR(1) process in the variance; the rest is white noise
_INDEPENDENCE = 0.8  # prior probability of white noise alone; all other spectra share the rest
_WIDEST = 0.8  # the maximum number of coefficients is this times n_dates^(2/3)
_MAX_BIAS, _MIN_COEFFICIENTS = 1.2, 4  # coefficients are removed until the correction is at most this factor
_ROUNDING = 1e-10  # of a constant series
_CACHED_DATES = 4096  # spectra of longer series are large and rarely needed


@dataclass(frozen=True)
class MeanVariance:
    """Variance of the mean of a series, and the degrees of freedom of mean / sqrt(variance) (Student)."""

    variance: float
    degrees_of_freedom: int


def mean_variance(deviations: np.ndarray, horizon: int = 1) -> MeanVariance:
    """Return the variance of the mean of a stationary series.

    Parameters
    ----------
    deviations : ndarray of float, shape (n,)
        Series minus its mean, at least two values, in the order of time.
    horizon : int
        Dates that a label looks ahead; limits the degrees of freedom to fewer than the non-overlapping horizons.
    """
    n, power = len(deviations), _coefficients(deviations) ** 2
    n_coefficients, missed = _correction(power, _max_coefficients(n, horizon))
    variance = power[:n_coefficients].mean() * missed[n_coefficients - 1] / n
    return MeanVariance(float(variance), n_coefficients)


@dataclass(frozen=True)
class JointErrors:
    """Errors of the means of several series on the same dates.

    Attributes
    ----------
    se : ndarray of float, shape (q,)
        Standard errors; 0 for a constant series.
    degrees_of_freedom : int
        Common degrees of freedom: the median of those of the single series.
    draws : ndarray of float, shape (n_draws, q)
        Errors in standard errors, drawn from the multivariate Student distribution with the correlations of the means.
    """

    se: np.ndarray
    degrees_of_freedom: int
    draws: np.ndarray


def joint_errors(deviations: np.ndarray, horizon: int, n_draws: int, rng: np.random.Generator) -> JointErrors:
    """Return the standard errors of the means of several series and joint draws of their errors.

    Each cosine coefficient is an independent draw of the error of all means (Lazarus et al. 2018). Their sums with
    normal weights, divided by the root of a chi-squared variable, follow Student's distribution.

    Parameters
    ----------
    deviations : ndarray of float, shape (n, q)
        As in `mean_variance`, one series per column.
    """
    n = len(deviations)
    coefficients, max_coefficients = _coefficients(deviations), _max_coefficients(n, horizon)
    # A constant series has rounding errors.
    varies = np.ptp(deviations, axis=0) > _ROUNDING
    found = [_correction(column, max_coefficients) for column in coefficients[:, varies].T ** 2]
    freedom = int(np.median([k for k, _ in found])) if found else max_coefficients
    first = coefficients[:freedom, varies]
    spread = np.sqrt((first**2).mean(axis=0))
    se, draws = np.zeros(deviations.shape[1]), np.zeros((n_draws, deviations.shape[1]))
    se[varies] = spread * np.sqrt([missed[freedom - 1] / n for _, missed in found])
    # Normal coefficients of the same covariance: one is the error of the means, `freedom` others give its variance.
    _, size, axes = np.linalg.svd(first / spread / math.sqrt(freedom), full_matrices=False)
    root = size[:, None] * axes
    for k in range(n_draws):
        drawn = rng.standard_normal((freedom + 1, len(root))) @ root
        draws[k, varies] = drawn[0] / np.sqrt((drawn[1:] ** 2).mean(axis=0))
    return JointErrors(se, freedom, draws)


def _coefficients(deviations: np.ndarray) -> np.ndarray:
    """Return the cosine coefficients 1..n-1 along the first axis."""
    return np.asarray(dct(np.asarray(deviations, dtype=np.float64), axis=0, norm="ortho")[1:])


def _max_coefficients(n: int, horizon: int) -> int:
    return min(n - 1, max(2, int(_WIDEST * n ** (2 / 3))), max(1, n // horizon - 1))


def _correction(power: np.ndarray, max_coefficients: int) -> tuple[int, np.ndarray]:
    """Return the number of coefficients to use for a series, and the bias factors of the mean of the first 1..most."""
    if not power.any():
        return max_coefficients, np.ones(max_coefficients)
    n = len(power) + 1
    missed = _weights(power) @ np.array([_missed(spectrum, n, max_coefficients) for spectrum in _SPECTRA])
    small = np.flatnonzero(missed <= _MAX_BIAS)
    return max(min(_MIN_COEFFICIENTS, max_coefficients), int(small[-1]) + 1 if len(small) else 1), missed


_SPECTRA = ((0.0, 0.0), *((persistence, share) for persistence in _PERSISTENCE for share in _SHARE))


def _spectrum(spectrum: tuple[float, float], n: int) -> np.ndarray:
    """Return the spectral density at the frequencies of the cosine coefficients 1..n-1, for a series of variance 1."""
    persistence, share = spectrum
    frequency = np.pi * np.arange(1, n) / n
    ar1 = (1.0 - persistence**2) / (1.0 - 2.0 * persistence * np.cos(frequency) + persistence**2)
    return np.asarray(1.0 - share + share * ar1)


_cached_spectrum = lru_cache(maxsize=8 * len(_SPECTRA))(_spectrum)


def _density(spectrum: tuple[float, float], n: int) -> np.ndarray:
    return _cached_spectrum(spectrum, n) if n <= _CACHED_DATES else _spectrum(spectrum, n)


def _missed(spectrum: tuple[float, float], n: int, max_coefficients: int) -> np.ndarray:
    """Return the ratio of n times the variance of the mean of n dates to the mean of the first 1..most densities."""
    persistence, share = spectrum
    ar1 = (1.0 + persistence) / (1.0 - persistence)
    ar1 -= 2.0 * persistence * (1.0 - persistence**n) / (n * (1.0 - persistence) ** 2)
    first = _density(spectrum, n)[:max_coefficients]
    return np.asarray((1.0 - share + share * ar1) / (np.cumsum(first) / np.arange(1, max_coefficients + 1)))


def _weights(power: np.ndarray) -> np.ndarray:
    """Return the posterior probability of each spectrum with its scale integrated out; sum 1."""
    n = len(power) + 1
    # Cosine coefficients of a stationary series are nearly independent, with its density as variance (Whittle 1953).
    log_likelihood = np.empty(len(_SPECTRA))
    for k, spectrum in enumerate(_SPECTRA):
        density = _density(spectrum, n)
        log_likelihood[k] = -0.5 * np.log(density).sum() - 0.5 * len(power) * np.log((power / density).sum())
    prior = np.full(len(_SPECTRA), (1.0 - _INDEPENDENCE) / (len(_SPECTRA) - 1))
    prior[0] = _INDEPENDENCE
    weights = prior * np.exp(log_likelihood - log_likelihood.max())
    return np.asarray(weights / weights.sum())
