"""Number of periods per year of a calendar of bars, inferred from the dates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 0.2  # relative difference above which a configured number is refused
_TRADING_DAYS = 252.0  # a year of five-day weeks without holidays' dates
_DAY_S = 86_400.0
# Shortest and longest spacing in days of a known frequency, its periods per year, and its name.
_RHYTHMS = (
    (5.0, 9.0, 52.0, "weekly bars"),
    (12.0, 16.5, 26.0, "bars of two weeks"),
    (26.0, 35.0, 12.0, "monthly bars"),
    (80.0, 100.0, 4.0, "quarterly bars"),
    (300.0, 400.0, 1.0, "yearly bars"),
)
_BARE_WEEKDAY = 0.25  # weekdays with a smaller share of the dates of the most frequent weekday are ignored


@dataclass(frozen=True)
class PeriodsPerYear:
    """Dates per year, and their source as text."""

    value: float
    how: str


def infer_periods_per_year(dates: np.ndarray) -> PeriodsPerYear | None:
    """Return the periods per year of the union calendar of all series.

    Spacings of 5 days and more have the number of their frequency: 52, 26, 12, 4 or 1. Daily bars have 252 on five days
    a week and 365 on seven. Intraday bars multiply this by the usual number of bars per day. Other spacings have 365.25
    days divided by the median spacing.

    Parameters
    ----------
    dates : ndarray of datetime64, shape (n,)
        Distinct, ascending.

    Returns
    -------
    PeriodsPerYear or None
        None for fewer than three dates.
    """
    if len(dates) < 3:
        return None
    seconds = dates.astype("datetime64[ns]").astype(np.int64) / 1e9
    spacing = float(np.median(np.diff(seconds))) / _DAY_S
    for low, high, value, name in _RHYTHMS:
        if low <= spacing <= high:
            return PeriodsPerYear(value, name)
    days = dates.astype("datetime64[D]")
    if spacing > 1.5:
        return PeriodsPerYear(365.25 / spacing, f"bars every {spacing:.3g} days")
    distinct, bars = np.unique(days, return_counts=True)
    week = _days_a_week(distinct, bars)
    year = 365.0 if week == 7 else _TRADING_DAYS * week / 5.0
    a_day = float(np.median(bars[_on_full_weekdays(distinct, bars)]))
    if a_day == 1.0:
        return PeriodsPerYear(year, f"daily bars on {week} days a week")
    return PeriodsPerYear(a_day * year, f"{a_day:g} bars a day on {week} days a week")


def contradicts(configured: float, found: PeriodsPerYear) -> bool:
    """Return True if a configured number differs from the inferred one by more than `TOLERANCE`."""
    return abs(configured / found.value - 1.0) > TOLERANCE


def _bars_by_weekday(days: np.ndarray, bars: np.ndarray) -> np.ndarray:
    return np.bincount(_weekday(days), bars, minlength=7)


def _weekday(days: np.ndarray) -> np.ndarray:
    return np.asarray((days.astype(np.int64) + 3) % 7)  # 1970-01-01 was a Thursday; Monday is 0


def _on_full_weekdays(days: np.ndarray, bars: np.ndarray) -> np.ndarray:
    by_weekday = _bars_by_weekday(days, bars)
    return (by_weekday >= _BARE_WEEKDAY * by_weekday.max())[_weekday(days)]


def _days_a_week(days: np.ndarray, bars: np.ndarray) -> int:
    """Return the weekdays that usually have bars; five if there are too few dates."""
    if days[-1] - days[0] < np.timedelta64(6, "D"):
        return 7 if _weekday(days).max() >= 5 else 5
    by_weekday = _bars_by_weekday(days, bars)
    return int((by_weekday >= _BARE_WEEKDAY * by_weekday.max()).sum())
