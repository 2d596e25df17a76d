"""Variance of the mean of a dependent series, with the degrees of freedom of that estimate.

The estimate is an equal-weighted cosine (EWC) estimate: the mean square of the first cosine coefficients of the series,
whose law is Student's (Lazarus, Lewis, Stock and Watson 2018). Strong dependence biases it downwards. So the spectra of
a grid, AR(1) processes plus white noise, are weighted by their likelihood (Whittle 1953). The estimate is multiplied by
the weighted mean of what it misses under each of them. The number of coefficients is the largest for which that factor
stays small. `benchmarks/error_rates.py` measures the coverage of the resulting intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import dct

_PERSISTENCE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # AR(1) coefficients of the grid
_SHARE = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the variance that the AR(1) process has; the rest is white noise
_INDEPENDENCE = 0.8  # prior probability of white noise alone; all other spectra share the rest
_WIDEST = 0.8  # the most coefficients are this times n_dates^(2/3)
_MOST_BIAS, _LEAST_COEFFICIENTS = 1.2, 4  # fewer coefficients are taken until the correction is at most this factor
_CACHED_DATES = 4096  # longer series are rare and their spectra large


@dataclass(frozen=True)
class MeanVariance:
    """Variance of the mean of a series and the degrees of freedom of Student's law for mean / sqrt(variance)."""

    variance: float
    degrees_of_freedom: int


def mean_variance(deviations: np.ndarray, horizon: int = 1) -> MeanVariance:
    """Return the variance of the mean of a stationary series.

    Parameters
    ----------
    deviations : ndarray of float, shape (n,)
        The series less its mean, at least two values, in the order of time.
    horizon : int
        Dates that a label looks ahead: fewer degrees of freedom than there are stretches of so many dates.
    """
    n = len(deviations)
    power = dct(np.asarray(deviations, dtype=np.float64), norm="ortho")[1:] ** 2
    most = min(n - 1, max(2, int(_WIDEST * n ** (2 / 3))), max(1, n // horizon - 1))
    if not power.any():
        return MeanVariance(0.0, most)
    missed = _weights(power) @ np.array([_missed(spectrum, n, most) for spectrum in _SPECTRA])
    small = np.flatnonzero(missed <= _MOST_BIAS)
    n_coefficients = max(min(_LEAST_COEFFICIENTS, most), int(small[-1]) + 1 if len(small) else 1)
    variance = power[:n_coefficients].mean() * missed[n_coefficients - 1] / n
    return MeanVariance(float(variance), n_coefficients)


_SPECTRA = ((0.0, 0.0), *((persistence, share) for persistence in _PERSISTENCE for share in _SHARE))


def _spectrum(spectrum: tuple[float, float], n: int) -> np.ndarray:
    """Spectral density at the frequencies of the cosine coefficients 1..n-1, for a series of variance 1."""
    persistence, share = spectrum
    frequency = np.pi * np.arange(1, n) / n
    ar1 = (1.0 - persistence**2) / (1.0 - 2.0 * persistence * np.cos(frequency) + persistence**2)
    return np.asarray(1.0 - share + share * ar1)


_cached_spectrum = lru_cache(maxsize=8 * len(_SPECTRA))(_spectrum)


def _density(spectrum: tuple[float, float], n: int) -> np.ndarray:
    return _cached_spectrum(spectrum, n) if n <= _CACHED_DATES else _spectrum(spectrum, n)


def _missed(spectrum: tuple[float, float], n: int, most: int) -> np.ndarray:
    """Ratio of n times the variance of the mean of n dates to the mean of the first 1..most densities."""
    persistence, share = spectrum
    ar1 = (1.0 + persistence) / (1.0 - persistence)
    ar1 -= 2.0 * persistence * (1.0 - persistence**n) / (n * (1.0 - persistence) ** 2)
    first = _density(spectrum, n)[:most]
    return np.asarray((1.0 - share + share * ar1) / (np.cumsum(first) / np.arange(1, most + 1)))


def _weights(power: np.ndarray) -> np.ndarray:
    """Posterior probability of each spectrum, its scale integrated out; sum 1."""
    n = len(power) + 1
    log_likelihood = np.empty(len(_SPECTRA))
    for k, spectrum in enumerate(_SPECTRA):
        density = _density(spectrum, n)
        log_likelihood[k] = -0.5 * np.log(density).sum() - 0.5 * len(power) * np.log((power / density).sum())
    prior = np.full(len(_SPECTRA), (1.0 - _INDEPENDENCE) / (len(_SPECTRA) - 1))
    prior[0] = _INDEPENDENCE
    weights = prior * np.exp(log_likelihood - log_likelihood.max())
    return np.asarray(weights / weights.sum())
