"""Simulated returns: positions from probabilities, traded with costs, booked on the date of the decision.

A position p decided at a bar earns the row's forward return f. On date t, over the rows A_t with a known forward
return: gross_t = mean of p f, turnover_t = mean of |p - p at the ticker's previous row| (0 before its first),
net_t = gross_t - cost_bps 1e-4 turnover_t. Returns and turnover are fractions of capital.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def positions(probabilities: np.ndarray, class_positions: Sequence[float], margin: float = 0.0) -> np.ndarray:
    """Position of each row, float64 of shape (n,).

    Parameters
    ----------
    probabilities : ndarray, shape (n, n_classes)
    class_positions : sequence of float
        Position held for each class.
    margin : float
        Two classes: 0 is held unless the probabilities differ by more than this. More classes: 0 on a shared maximum.
    """
    held = np.asarray(class_positions, dtype=np.float64)[probabilities.argmax(axis=1)]
    if probabilities.shape[1] == 2:
        decided = np.abs(probabilities[:, 1] - probabilities[:, 0]) > margin
    else:
        decided = (probabilities == probabilities.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return np.where(decided, held, 0.0)


@dataclass(frozen=True)
class ReturnSeries:
    """Per date, ascending: gross and net return and turnover, all of shape (n_dates,)."""

    dates: np.ndarray
    gross: np.ndarray
    net: np.ndarray
    turnover: np.ndarray


class ReturnSimulator:
    """Simulated returns on a fixed set of rows; what does not depend on the positions is computed once.

    Parameters
    ----------
    date, ticker : ndarray of int64, shape (n,)
    forward_return : ndarray of float64, shape (n,)
        NaN where unknown; such rows are left out.
    cost_bps : float
        Cost of one unit of turnover in basis points.
    """

    def __init__(self, date: np.ndarray, ticker: np.ndarray, forward_return: np.ndarray, cost_bps: float) -> None:
        order = np.lexsort((date, ticker))
        self._order = order[np.isfinite(forward_return[order])]
        self._returns = forward_return[self._order]
        self._first = np.diff(ticker[self._order], prepend=-1) != 0
        self.dates, self._date = np.unique(date[self._order], return_inverse=True)
        self._rows_per_date = np.bincount(self._date, minlength=len(self.dates))
        self._cost = cost_bps * 1e-4

    def run(self, position: np.ndarray) -> ReturnSeries:
        """Returns of holding `position`, shape (n,), in the order of the rows given at the start."""
        held = position[self._order]
        before = np.concatenate([[0.0], held[:-1]])[: len(held)]
        change = np.abs(held - np.where(self._first, 0.0, before))
        gross = self._mean_by_date(held * self._returns)
        turnover = self._mean_by_date(change)
        return ReturnSeries(self.dates, gross, gross - self._cost * turnover, turnover)

    def _mean_by_date(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._date, values, minlength=len(self.dates)) / self._rows_per_date
