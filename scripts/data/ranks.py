"""Ranks of values within each date."""

from __future__ import annotations

import numpy as np


def rank_by_date(x: np.ndarray, date: np.ndarray) -> np.ndarray:
    """Rank of each value among those of its date, from 1, equal ones at the mean of theirs; NaN for NaN.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    date : ndarray of int64, shape (n,)
        Not negative.
    """
    order = np.flatnonzero(~np.isnan(x))
    order = order[np.argsort(x[order])]
    # Whole numbers of 16 bits are sorted by counting them.
    small = date.astype(np.uint16) if len(date) and date.max() < 2**16 else date
    order = order[np.argsort(small[order], kind="stable")]
    day, value = date[order], x[order]
    new_day = np.concatenate([np.ones(min(1, len(day)), bool), day[1:] != day[:-1]])
    start = np.flatnonzero(new_day | np.concatenate([np.zeros(min(1, len(day)), bool), value[1:] != value[:-1]]))
    count = np.diff(np.append(start, len(order)))
    first_of_day = np.maximum.accumulate(np.where(new_day, np.arange(len(order)), 0))[start]
    ranks = np.full(len(x), np.nan)
    ranks[order] = np.repeat(start - first_of_day + (count + 1) / 2, count)
    return ranks
