"""How sure a result is: 95 % intervals of accuracies, differences and other metrics on a panel, and the verdict.

Rows of one date share the market, and rows whose labels look several bars ahead share bars. So whole dates are
resampled in blocks (`bootstrap`); to resample rows would claim far too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit  # scipy.stats takes long to import

from scripts.errors import InputError
from scripts.evaluation.bootstrap import date_bootstrap, ratio_block_length

Verdict = Literal["skill", "no skill", "worse than naive"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its uncertainty.

    Attributes
    ----------
    estimate : float
    se : float
        Bootstrap standard error.
    low, high : float
        95 % interval: percentiles of the resamples, moved away from the estimate by the ratio of Student's to the
        normal quantile, with one degree of freedom less than there are blocks.
    block_length : float
        Dates per block.
    n_dates : int
    n_effective : float or None
        Number of independent rows that would give the same standard error; None where undefined.
    """

    estimate: float
    se: float
    low: float
    high: float
    block_length: float
    n_dates: int
    n_effective: float | None = None

    @property
    def share_bounds(self) -> list[float]:
        """The 95 % interval of a share, such as an accuracy: inside [0, 1]."""
        return [max(0.0, self.low), min(1.0, self.high)]

    @property
    def p_value(self) -> float | None:
        """Two-sided p of a mean of 0, by Student's distribution with the blocks' degrees of freedom."""
        if self.se == 0.0:
            return None
        freedom = _degrees_of_freedom(self.n_dates, self.block_length)
        return float(2.0 * stdtr(freedom, -abs(self.estimate) / self.se))


def accuracy_interval(
    hits: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    rng: np.random.Generator,
    n_resamples: int = 1000,
) -> Interval:
    """Mean of `hits` over all rows, by a block bootstrap of whole dates.

    Parameters
    ----------
    hits : ndarray, shape (n,)
        1 where the prediction is right, else 0; or any other value per row whose mean is wanted, such as log losses.
    date : ndarray of int, shape (n,), or None
        None: the rows have no dates; each is drawn by itself.
    horizon : int
        Dates that a label looks ahead: the least block length.
    rng : numpy.random.Generator
    n_resamples : int

    Raises
    ------
    InputError
        If there are fewer than two dates (rows, where they have no dates).
    """
    return mean_intervals({"accuracy": hits}, date, horizon, rng, n_resamples)["accuracy"]


def difference_interval(
    hits_a: np.ndarray,
    hits_b: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    rng: np.random.Generator,
    n_resamples: int = 1000,
) -> Interval:
    """Mean of a - b over the same rows, paired: the skill, where b are the hits of the naive rule.

    Arguments and errors as `accuracy_interval`.
    """
    difference = np.asarray(hits_a, dtype=np.float64) - np.asarray(hits_b, dtype=np.float64)
    return accuracy_interval(difference, date, horizon, rng, n_resamples)


def mean_intervals(
    values: Mapping[str, np.ndarray],
    date: np.ndarray | None,
    horizon: int,
    rng: np.random.Generator,
    n_resamples: int = 1000,
) -> dict[str, Interval]:
    """Means of several quantities over the same rows; those with the same block length share their resamples.

    Parameters
    ----------
    values : mapping of str to ndarray of float, shape (n,)
        A metric that is no mean over rows comes as the rows' influences on it, such as `metrics.auc_by_row`.

    Other arguments and errors as `accuracy_interval`.
    """
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    sums, counts = sums_by_date(np.column_stack(list(columns.values())), date)
    blocks = [1.0 if date is None else ratio_block_length(column, counts, horizon) for column in sums.T]
    resampled = np.empty((n_resamples, len(columns)))
    for block in sorted(set(blocks)):
        chosen = [k for k, own in enumerate(blocks) if own == block]
        resampled[:, chosen] = date_bootstrap(sums[:, chosen], counts, n_resamples, block, rng=rng)
    return {
        name: _interval(float(column.mean()), drawn, block, len(counts), float(column.var()))
        for (name, column), drawn, block in zip(columns.items(), resampled.T, blocks, strict=True)
    }


def verdict(skill_low: float, skill_high: float) -> Verdict:
    """What the 95 % interval of the skill (accuracy minus that of the best naive rule) says."""
    if skill_low > 0.0:
        return "skill"
    return "worse than naive" if skill_high < 0.0 else "no skill"


def minimum_detectable_skill(se: float, power: float = 0.8, level: float = 0.05) -> float:
    """Least true skill that a two-sided test of this `level` finds with probability `power`, in the unit of `se`."""
    return float(ndtri(1.0 - level / 2.0) + ndtri(power)) * se


def sums_by_date(values: np.ndarray, date: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the columns of (n, q) values, shape (n_dates, q), and numbers of rows per date, ascending by date.

    Without dates each row stands for itself. InputError if there are fewer than two dates.
    """
    if date is None:
        _require_dates(len(values))
        return values, np.ones(len(values))
    _, place, counts = np.unique(date, return_inverse=True, return_counts=True)
    _require_dates(len(counts))
    return np.column_stack([np.bincount(place, column) for column in values.T]), counts


def _require_dates(n_dates: int) -> None:
    if n_dates < 2:
        raise InputError(
            f"{n_dates} date(s) of labelled rows, so that no uncertainty can be stated",
            "evaluated rows",
            "give rows of at least two dates, better of a hundred",
        )


def _degrees_of_freedom(n_dates: int, block_length: float) -> float:
    return max(1.0, n_dates / block_length - 1.0)


def _interval(
    estimate: float, resampled: np.ndarray, block: float, n_dates: int, row_variance: float | None
) -> Interval:
    se = float(resampled.std())
    low, high = np.percentile(resampled, [2.5, 97.5])
    # With few blocks the resamples vary less than the estimate does.
    widen = float(stdtrit(_degrees_of_freedom(n_dates, block), 0.975) / ndtri(0.975))
    return Interval(
        estimate=estimate,
        se=se,
        low=estimate + widen * min(0.0, float(low) - estimate),
        high=estimate + widen * max(0.0, float(high) - estimate),
        block_length=block,
        n_dates=n_dates,
        n_effective=row_variance / se**2 if row_variance and se > 0.0 else None,
    )
