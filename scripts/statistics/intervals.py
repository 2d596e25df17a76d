"""Confidence intervals of accuracies, differences and other means on a panel.

Rows of one date share the market, and rows whose labels look several bars ahead share bars. So rows are summed by date,
and the standard error allows for dependence between dates (`long_run_variance`). Intervals for independent rows would
be much too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit  # scipy.stats takes long to import

from scripts.errors import InputError
from scripts.statistics.long_run_variance import MeanVariance, mean_variance

# Of the largest value: dates that differ by less are equal. Otherwise the dependence of rounding errors is estimated.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """Estimate of a mean with its uncertainty.

    Attributes
    ----------
    se : float
        Standard error.
    low, high : float
        Bounds by Student's law: estimate -+ quantile x se.
    n_dates : int
        Number of dates, or of rows without dates.
    degrees_of_freedom : float
        Degrees of freedom of the standard error.
    n_effective : float or None
        Effective sample size: independent rows with the same standard error; None if undefined.
    confidence : float
        Probability that the bounds contain the true value.
    """

    estimate: float
    se: float
    low: float
    high: float
    n_dates: int
    degrees_of_freedom: float
    n_effective: float | None = None
    confidence: float = 0.95

    @classmethod
    def of(
        cls, estimate: float, se: float, n_dates: int, degrees_of_freedom: float, n_effective: float | None = None
    ) -> Interval:
        """Return the 95% interval of an estimate with this standard error."""
        bare = cls(estimate, se, estimate, estimate, n_dates, degrees_of_freedom, n_effective)
        return bare.at(bare.confidence)

    def at(self, confidence: float) -> Interval:
        """Return the estimate with bounds of another confidence, such as 1 - 0.05 / k for the k-th opening."""
        half = student_quantile(self.degrees_of_freedom, confidence) * self.se
        return replace(self, low=self.estimate - half, high=self.estimate + half, confidence=confidence)

    @property
    def block_length(self) -> float:
        """Dates per block, such that the degrees of freedom are the number of blocks minus one."""
        return self.n_dates / (self.degrees_of_freedom + 1.0)

    @property
    def share_bounds(self) -> list[float]:
        """Return the bounds of a share, such as an accuracy, inside [0, 1] (Wilson 1927).

        They use the effective sample size of this standard error, and Student's quantile. So an accuracy of 1 also has
        an interval of positive width.
        """
        share, quantile = min(1.0, max(0.0, self.estimate)), student_quantile(self.degrees_of_freedom, self.confidence)
        n = share * (1.0 - share) / self.se**2 if self.se > 0.0 and 0.0 < share < 1.0 else self.n_effective
        # Wilson's bounds cover .93 where the symmetric ones cover .89, with 100 strongly dependent dates
        # (docs/log.md, 2026-11-28, "Intervals under strong dependence").
        unsure = quantile**2 / max(1.0, n or self.n_dates)
        middle = (share + unsure / 2.0) / (1.0 + unsure)
        half = math.sqrt(unsure * share * (1.0 - share) + unsure**2 / 4.0) / (1.0 + unsure)
        return [max(0.0, middle - half), min(1.0, middle + half)]

    @property
    def p_value(self) -> float | None:
        """Return the two-sided p-value of a mean of 0, by Student's distribution; None if every value is 0."""
        if self.se == 0.0:
            return None
        return float(2.0 * stdtr(self.degrees_of_freedom, -abs(self.estimate) / self.se))


def student_quantile(degrees_of_freedom: float, confidence: float) -> float:
    """Return the half-width of a two-sided interval of this confidence, in standard errors."""
    return float(stdtrit(degrees_of_freedom, 0.5 + confidence / 2.0))


def accuracy_interval(hits: np.ndarray, date: np.ndarray | None, horizon: int) -> Interval:
    """Return the mean of `hits` over all rows with its interval.

    Parameters
    ----------
    hits : ndarray, shape (n,)
        1 for a correct prediction, else 0; or any other value per row, such as log losses.
    date : ndarray of int, shape (n,), or None
        None if the rows have no dates and are independent.
    horizon : int
        Dates that a label looks ahead.

    Raises
    ------
    InputError
        If there are fewer than two dates (or rows without dates).
    """
    return mean_intervals({"accuracy": hits}, date, horizon)["accuracy"]


def difference_interval(hits_a: np.ndarray, hits_b: np.ndarray, date: np.ndarray | None, horizon: int) -> Interval:
    """Return the mean of a - b over the same rows, paired: the skill if b are the hits of the naive rule.

    Arguments and errors as `accuracy_interval`.
    """
    difference = np.asarray(hits_a, dtype=np.float64) - np.asarray(hits_b, dtype=np.float64)
    return accuracy_interval(difference, date, horizon)


def mean_intervals(values: Mapping[str, np.ndarray], date: np.ndarray | None, horizon: int) -> dict[str, Interval]:
    """Return the means of several quantities over the same rows, by name.

    Parameters
    ----------
    values : mapping of str to ndarray of float, shape (n,)
        A metric that is not a mean over rows is given by the influences of the rows, such as `metrics.auc_by_row`.

    Other arguments and errors as `accuracy_interval`.
    """
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    sums, counts = sums_by_date(np.column_stack(list(columns.values())), date)
    _require_dates(len(counts))
    return {
        name: _interval(column, column_sums, counts, date is None, horizon)
        for (name, column), column_sums in zip(columns.items(), sums.T, strict=True)
    }


def minimum_detectable_skill(
    se: float, degrees_of_freedom: float, power: float = 0.8, confidence: float = 0.95
) -> float:
    """Return the smallest true skill whose interval is above 0 with probability `power`, in the unit of `se`.

    The distribution is the noncentral t, because the standard error is an estimate.
    """
    quantile = student_quantile(degrees_of_freedom, confidence)
    return float(nctdtrinc(degrees_of_freedom, 1.0 - power, quantile)) * se


def sums_by_date(values: np.ndarray, date: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of the columns of (n, q) values, float64 of shape (n_dates, q), and rows per date, ascending by date.

    Without dates each row is its own date.
    """
    if date is None:
        return values.astype(np.float64), np.ones(len(values), dtype=np.int64)
    _, index, counts = np.unique(date, return_inverse=True, return_counts=True)
    return np.column_stack([np.bincount(index, column) for column in values.T]), counts


def _require_dates(n_dates: int) -> None:
    if n_dates < 2:
        raise InputError(
            f"{n_dates} date(s) of labelled rows are too few for an interval",
            "evaluated rows",
            "provide rows of at least two dates, preferably of a hundred",
        )


def _interval(column: np.ndarray, sums: np.ndarray, counts: np.ndarray, independent: bool, horizon: int) -> Interval:
    """Return the interval of the mean of one column, whose sums by date are `sums`."""
    estimate, n_dates, n = float(column.mean()), len(counts), len(column)
    # Deviations of sums, not of daily means: a date counts by its rows, as in the mean over rows.
    deviations = (sums - estimate * counts) * (n_dates / n)
    row_variance = float(column.var(ddof=1))
    if independent:
        found = MeanVariance(row_variance / n, n - 1)
    elif np.abs(deviations).max() <= _ROUNDING * np.abs(column).max():
        found = MeanVariance(row_variance / n, mean_variance(np.zeros(n_dates), horizon).degrees_of_freedom)
    else:
        found = mean_variance(deviations, horizon)
    if found.variance > 0.0:
        n_effective = row_variance / found.variance if row_variance > 0.0 else None
        return Interval.of(estimate, math.sqrt(found.variance), n_dates, found.degrees_of_freedom, n_effective)
    # Equal hits on every date show no variance, but a width of 0 would make any lead significant. Two added successes
    # and failures give a positive width.
    n_effective = n_dates / horizon
    return Interval.of(
        estimate, abs(estimate) * _certain_se(n_effective), n_dates, found.degrees_of_freedom, n_effective
    )


def _certain_se(n: float) -> float:
    """Standard error of a share of 1 over `n` cases, with two of each kind added (Agresti and Coull 1998)."""
    return math.sqrt(2.0 * (n + 2.0) / (n + 4.0) ** 3)
