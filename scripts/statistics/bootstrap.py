"""Block bootstrap over whole dates of a panel, with automatic block length.

All rows of a date are drawn together and dates in blocks, which preserves the dependence between the tickers of a date
and between dates. Sources: Politis and Romano 1992 (circular blocks), Politis and White 2004 with the
correction of Patton, Politis and White 2009 (block length).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_AT_ONCE = 8  # resamples per product: reads the table less often, and stays small in memory

MIN_BLOCKS = 10  # minimum blocks of dates for a decision; fewer do not show the variation of an estimate


def date_bootstrap(
    sums: np.ndarray,
    counts: np.ndarray,
    n_resamples: int = 1000,
    block_length: float | None = None,
    min_block: float = 1,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return resampled means over rows from per-date sums, float64 of shape (n_resamples, q).

    Each value is the sum over the drawn dates of the rows' values divided by the number of rows drawn, so that dates
    with many rows keep their weight.

    Parameters
    ----------
    sums : ndarray, shape (n_dates, q) or (n_dates,)
        Per date, ascending: sums over its rows of q quantities, such as hits. Quantities stay paired.
    counts : ndarray, shape (n_dates,)
        Rows of each date, at least 1.
    block_length : float, optional
        Dates per block, at least 1; by default the longest that `ratio_block_length` finds for the q quantities.
    min_block : float
        Minimum block length, the label horizon in dates.
    """
    sums, counts = np.asarray(sums, dtype=np.float64).reshape(len(counts), -1), np.asarray(counts, dtype=np.float64)
    if block_length is None:
        block = max(ratio_block_length(column, counts, min_block) for column in sums.T)
    else:
        block = max(block_length, min_block)
    table = np.column_stack([sums, counts])
    totals = _independent_totals(table, n_resamples, rng) if block == 1.0 else None
    if totals is None:
        totals = _circular_totals(table, math.ceil(block), n_resamples, rng)
    return totals[:, :-1] / totals[:, -1:]


def _circular_totals(table: np.ndarray, block: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return column sums of circular resamples, shape (n_resamples, n_columns).

    Only the starts of the blocks are drawn and counted, because the sum of each block is known beforehand.
    """
    n, n_blocks = len(table), math.ceil(len(table) / block)
    whole, cut = (_block_sums(table, length) for length in (block, n - (n_blocks - 1) * block))
    totals = np.empty((n_resamples, table.shape[1]))
    for first in range(0, n_resamples, _AT_ONCE):
        part = totals[first : first + _AT_ONCE]
        starts = rng.integers(n, size=(len(part), n_blocks))
        counts = np.array([np.bincount(drawn[:-1], minlength=n) for drawn in starts], dtype=np.float64)
        part[:] = counts @ whole + cut[starts[:, -1]]
    return totals


def _block_sums(table: np.ndarray, length: int) -> np.ndarray:
    """Return sums of `length` rows from each row on, wrapping at the end; shape of `table`."""
    if length == 1:
        return table
    before = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(np.concatenate([table, table[:length]]), axis=0)])
    return np.asarray(before[length : length + len(table)] - before[: len(table)])


def _independent_totals(table: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray | None:
    """Return resampled column sums of independent rows, shape (n_resamples, n_columns); None if few rows are equal.

    The number of draws of each distinct row, such as the hits and misses of rows without dates, is one multinomial
    draw. A million rows then take seconds instead of minutes.
    """
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    if 10 * len(kinds) > len(table):
        return None
    return rng.multinomial(len(table), counts / len(table), size=n_resamples) @ kinds


@dataclass(frozen=True)
class BlockLengths:
    """Block lengths in periods, not rounded and possibly below 1, and the bandwidth m of their estimate."""

    stationary: float
    circular: float
    bandwidth: int


def optimal_block_lengths(x: np.ndarray) -> BlockLengths:
    """Return block lengths for the mean of a series (Politis and White 2004; Patton, Politis and White 2009).

    arch.bootstrap.optimal_block_length is not used: it divides the correlations by the overlap when it chooses the
    bandwidth, which changes the bandwidth of series of up to a few hundred values, and does not report it.

    Parameters
    ----------
    x : ndarray of float, shape (n,)
        Lengths are 1 for a constant series or fewer than three values.
    """
    n = len(x)
    if n < 3 or np.ptp(x) == 0.0:
        return BlockLengths(1.0, 1.0, 1)
    run = max(5, math.ceil(math.log10(n)))
    longest = math.ceil(math.sqrt(n)) + run
    covariance = _autocovariances(np.asarray(x, dtype=np.float64), longest)
    insignificant = np.abs(covariance / covariance[0]) < 2.0 * math.sqrt(math.log10(n) / n)
    openings = [lag for lag in range(1, longest - run + 2) if insignificant[lag : lag + run].all()]
    bandwidth = min(2 * openings[0], longest) if openings else longest
    lag = np.arange(1, bandwidth + 1)
    flat_top = np.minimum(1.0, 2.0 * (1.0 - lag / bandwidth))
    tapered = flat_top * covariance[1 : bandwidth + 1]
    bias, spectrum = 2.0 * float(tapered @ lag), float(covariance[0] + 2.0 * tapered.sum())
    cap = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))

    def length(variance: float) -> float:
        return min((2.0 * bias**2 / variance * n) ** (1.0 / 3.0), cap) if variance > 0.0 else float(cap)

    return BlockLengths(length(2.0 * spectrum**2), length(4.0 / 3.0 * spectrum**2), bandwidth)


def ratio_block_length(sums: np.ndarray, counts: np.ndarray, min_block: float = 1) -> float:
    """Return the dates per block for the ratio sum(sums) / sum(counts) of per-date values of shape (n_dates,).

    The series is the contribution of each date to the error of the ratio, sums - ratio x counts. If all dates have the
    same number of rows, it differs from the daily means by a constant and a factor only. The result is an integer of at
    least `min_block` and 1.
    """
    found = float(math.ceil(optimal_block_lengths(sums - sums.sum() / counts.sum() * counts).circular))
    # At most half of the dates, because a single block would show no variation.
    return max(1.0, min(max(found, float(min_block)), math.ceil(len(counts) / 2)))


def _autocovariances(x: np.ndarray, longest: int) -> np.ndarray:
    """Return autocovariances at the lags 0..longest with divisor n, 0 from lag n on; shape (longest + 1,)."""
    n, centred = len(x), x - x.mean()
    values = [float(centred[: n - lag] @ centred[lag:]) / n for lag in range(min(longest + 1, n))]
    return np.pad(np.array(values), (0, longest + 1 - len(values)))
