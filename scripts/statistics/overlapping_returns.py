"""Detection of overlapping returns, whose rows each span several rows, by their autocorrelation.

Returns over h rows, one for each row, share h - k of their rows with the return k rows later. So their autocorrelation
at lag k is 1 - k / h (Hansen and Hodrick 1980), at least 0.5 at lag 1. Returns of one row have an autocorrelation near
0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

_LEVEL = 0.01  # one-sided level of the test for returns of one row
_MIN_CORRELATION = 0.3  # at lag 1: between the 0 of returns of one row and the 0.5 of those of two
_MIN_PAIRS = 30
_MAX_LAGS = 300


@dataclass(frozen=True)
class Overlap:
    """Autocorrelation at lag 1, and the number of rows that returns with these autocorrelations span."""

    correlation: float
    rows: int


def find_overlap(returns: np.ndarray, group: np.ndarray, date: np.ndarray) -> Overlap | None:
    """Test whether returns overlap; return None if they are compatible with returns of one row.

    The correlation is tested by sums over the groups of each date, which allows for correlated groups and changing
    volatility (White 1980). The test rejects returns of one row in at most 1% of the cases.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        NaN where unknown; a row's successor is the next row of its group, if that is known.
    group, date : ndarray of int64, shape (n,)
        Sorted by group and date.
    """
    centred = _centred(returns, group)
    products = _products(centred, group, 1)
    known = np.isfinite(products)
    variance = float(np.nanmean(centred**2)) if np.isfinite(centred).any() else 0.0
    if known.sum() < _MIN_PAIRS or variance == 0.0:
        return None
    by_date = np.bincount(date[:-1][known], products[known])
    correlation = float(by_date.sum()) / (variance * known.sum())
    error = math.sqrt(float((by_date**2).sum())) / (variance * known.sum())
    if correlation < max(_MIN_CORRELATION, -float(ndtri(_LEVEL)) * error):
        return None
    return Overlap(correlation, _rows_spanned(centred, group, variance))


def _centred(returns: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the returns minus the mean of their group."""
    _, index = np.unique(group, return_inverse=True)
    known = np.isfinite(returns)
    total = np.bincount(index[known], returns[known], index.max(initial=-1) + 1)
    counts = np.bincount(index[known], minlength=len(total))
    centred: np.ndarray = returns - (total / np.maximum(1, counts))[index]
    return centred


def _products(centred: np.ndarray, group: np.ndarray, lag: int) -> np.ndarray:
    """Return products of rows with those `lag` rows later, shape (n - lag,); NaN across groups."""
    products: np.ndarray = np.where(group[lag:] == group[:-lag], centred[:-lag] * centred[lag:], np.nan)
    return products


def _rows_spanned(centred: np.ndarray, group: np.ndarray, variance: float) -> int:
    """Return the number of rows h >= 2 whose autocorrelations 1 - k / h fit best, by least squares."""
    found = []
    for lag in range(1, min(_MAX_LAGS, len(centred) // 4) + 1):
        products = _products(centred, group, lag)
        if np.isfinite(products).sum() < _MIN_PAIRS:
            break
        found.append(float(np.nanmean(products)) / variance)
    lags, correlations = np.arange(1, len(found) + 1), np.array(found)
    spans = np.arange(2, len(found) + 2)
    expected = np.maximum(0.0, 1.0 - lags / spans[:, None])
    return int(spans[((expected - correlations) ** 2).sum(axis=1).argmin()])
