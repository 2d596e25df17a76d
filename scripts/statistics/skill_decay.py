"""Skill decay with the dates since training, and the suggested retraining interval.

Skill is the accuracy of the model minus that of the naive rule. Its decay is a straight line fitted to the rows by
least squares. The standard error allows for dependence between dates, so that slow changes of the market are not
counted as many independent signs of decay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scripts.errors import InputError
from scripts.statistics.bootstrap import MIN_BLOCKS
from scripts.statistics.intervals import Interval, difference_interval
from scripts.statistics.long_run_variance import mean_variance

_PER_DATES = 100  # unit of the slope, in dates
_CONFIDENCE = 0.99  # of the interval on which the advice to retrain is based


@dataclass(frozen=True)
class SkillBin:
    """Skill on a share of the dates with similar age.

    Attributes
    ----------
    first_age, last_age : int
        Dates since training.
    skill : Interval
        Skill over `skill.n_dates` dates.
    """

    first_age: int
    last_age: int
    n_rows: int
    skill: Interval


@dataclass(frozen=True)
class DecayReport:
    """Skill against dates since training.

    Attributes
    ----------
    bins : tuple of SkillBin
        Ascending by age; empty for fewer than two dates.
    slope : Interval or None
        Change of skill per 100 dates; None if undefined.
    skill_at_start : float or None
        Fitted skill at the lowest age.
    retrain_after : int or None
        Dates since training after which the fitted skill is below half of `skill_at_start`; None unless the 99%
        interval of the slope is below 0, over at least ten blocks of dates. The 95% interval of a slope covers less
        than 95% where skill is persistent (`benchmarks/error_rates.py`).
    advice : str
        Advice as text.
    """

    bins: tuple[SkillBin, ...]
    slope: Interval | None
    skill_at_start: float | None
    retrain_after: int | None
    advice: str
    n_dates: int


def decay_report(
    hits: np.ndarray,
    naive_hits: np.ndarray,
    age: np.ndarray,
    date: np.ndarray,
    horizon: int,
    n_bins: int = 5,
) -> DecayReport:
    """Estimate how skill depends on the dates since training.

    Parameters
    ----------
    hits, naive_hits : ndarray, shape (n,)
        1 for a correct prediction of the model, or of the naive rule, else 0.
    age : ndarray of int, shape (n,)
        Dates since the last training date of the model that predicted the row; the same for all rows of a date.
    date : ndarray of int, shape (n,)
    horizon : int
        Dates that a label looks ahead.
    n_bins : int
        Bins of equal numbers of dates; fewer if a bin would have less than two.

    Raises
    ------
    InputError
        If rows of one date have different ages.
    """
    difference = np.asarray(hits, dtype=np.float64) - np.asarray(naive_hits, dtype=np.float64)
    dates, first, date_index = np.unique(date, return_index=True, return_inverse=True)
    age_of_date = np.asarray(age)[first].astype(np.int64)
    if (age_of_date[date_index] != age).any():
        raise InputError("rows of one date have several ages", "dates since training", "evaluate one model at a time")
    bins = _bins(difference, age_of_date, date_index, horizon, n_bins)
    sums, counts = np.bincount(date_index, difference, len(dates)), np.bincount(date_index, minlength=len(dates))
    slope, start = _fitted(sums, counts, age_of_date, horizon)
    after, advice = _advice(slope, start, age_of_date)
    return DecayReport(bins, slope, start, after, advice, len(dates))


def _bins(
    difference: np.ndarray,
    age_of_date: np.ndarray,
    date_index: np.ndarray,
    horizon: int,
    n_bins: int,
) -> tuple[SkillBin, ...]:
    """Return skill by bins of dates, the lowest age first; `date_index` is the date of each row."""
    n_bins, bins = min(n_bins, len(age_of_date) // 2), []
    by_age = np.argsort(age_of_date, kind="stable")
    for chosen in np.array_split(by_age, n_bins) if n_bins else []:
        rows = np.isin(date_index, chosen)
        skill = difference_interval(difference[rows], np.zeros(rows.sum()), date_index[rows], horizon)
        ages = age_of_date[chosen]
        bins.append(SkillBin(int(ages.min()), int(ages.max()), int(rows.sum()), skill))
    return tuple(bins)


def _fitted(
    sums: np.ndarray, counts: np.ndarray, age: np.ndarray, horizon: int
) -> tuple[Interval | None, float | None]:
    """Slope per 100 dates and skill at the lowest age, from sums of skill and rows per date; None if undefined."""
    if len(age) < 3 or np.ptp(age) == 0:
        return None, None
    x = (age - age.min()) / _PER_DATES
    centred = x - counts @ x / counts.sum()
    spread = float(counts @ centred**2)
    slope, mean = float(centred @ sums) / spread, float(sums.sum() / counts.sum())
    level = mean - slope * float(counts @ x / counts.sum())
    # The error of the slope is the sum of these contributions over dates.
    shares = centred * (sums - counts * (level + slope * x)) / spread
    found = mean_variance(shares, horizon)
    se = len(age) * math.sqrt(found.variance)
    return Interval.of(slope, se, len(age), max(1, found.degrees_of_freedom - 1)), level


def _advice(slope: Interval | None, start: float | None, age: np.ndarray) -> tuple[int | None, str]:
    """Return the dates after which the fitted skill is halved, only for a significant decay, and the advice as text."""
    few = slope is None or slope.degrees_of_freedom + 1 < MIN_BLOCKS
    if slope is None or start is None or few or slope.at(_CONFIDENCE).high >= 0.0:
        return None, f"no significant decay over {len(age)} dates"
    fall = f"skill falls by {-slope.estimate:.3f} per {_PER_DATES} dates"
    if start <= 0.0:
        return None, f"{fall}, but the initial skill is not positive"
    after = int(age.min()) + math.ceil(0.5 * start / -slope.estimate * _PER_DATES)
    beyond = f", beyond the {int(age.max())} seen" if after > age.max() else ""
    return after, f"{fall}: retrain after {after} dates, when half of it is lost{beyond}"
