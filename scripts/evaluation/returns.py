"""Simulated returns: positions from probabilities, traded with costs, booked on the date of the decision.

A position p decided at a bar earns the row's forward return f. On date t, over the rows A_t with a known forward
return: gross_t = mean of p f, turnover_t = mean of |p - p at the ticker's previous row| (0 before its first),
net_t = gross_t - cost_bps 1e-4 turnover_t. The n_t tickers of A_t are weighted equally: a position p takes the share
p / n_t of the capital. Nothing is paid for the final exit and nothing drifts between two rows.
Returns and turnover are fractions of capital.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Literal

import numpy as np

PositionRule = Literal["sign", "proportional"]


@dataclass(frozen=True)
class TradingRules:
    """How probabilities become positions, and what a change of position costs.

    Attributes
    ----------
    cost_bps : float
        Cost of one unit of turnover in basis points.
    margin : float
        Nothing is held unless the largest probability leads the next one by more than this, in [0, 1). With two
        classes the lead is |p_up - p_down|; 0 leaves out ties alone.
    position : {"sign", "proportional"}
        sign: the position of the most probable class. proportional: the mean of the class positions weighted by the
        probabilities, which for classes held at -1 and +1 is p_up - p_down. It is not scaled any further: Sharpe
        ratio and break-even cost would not change, and a scale taken from the judged rows would look ahead.
    max_weight : float
        Largest share of the capital in one ticker, in (0, 1]. The n_t tickers of a date are weighted equally, so
        that |position| / n_t <= max_weight; a larger position is clipped and the rest stays in cash.
    """

    cost_bps: float = 0.0
    margin: float = 0.0
    position: PositionRule = "sign"
    max_weight: float = 1.0


def positions(probabilities: np.ndarray, class_positions: Sequence[float], rules: TradingRules) -> np.ndarray:
    """Position of each row before the limit of `max_weight`, float64 of shape (n,).

    Parameters
    ----------
    probabilities : ndarray, shape (n, n_classes)
    class_positions : sequence of float
        Position held for each class.
    rules : TradingRules
    """
    held = np.asarray(class_positions, dtype=np.float64)
    largest = np.sort(probabilities, axis=1)[:, -2:]
    decided = largest[:, 1] - largest[:, 0] > rules.margin
    wished = probabilities @ held if rules.position == "proportional" else held[probabilities.argmax(axis=1)]
    return np.where(decided, wished, 0.0)


def rule_positions(predicted: np.ndarray, class_positions: Sequence[float]) -> np.ndarray:
    """Position of each row by a rule that says a class, such as a naive one, float64 of shape (n,).

    Parameters
    ----------
    predicted : ndarray of int, shape (n,)
        Class the rule says; -1 where it says none, and nothing is held.
    class_positions : sequence of float
        Position held for each class.
    """
    return np.append(np.asarray(class_positions, dtype=np.float64), 0.0)[predicted]


@dataclass(frozen=True)
class ReturnSeries:
    """Simulated returns per date, ascending; all of shape (n_dates,).

    Attributes
    ----------
    dates : ndarray of int64
        Dates with at least one known forward return.
    gross, net, turnover : ndarray of float64
        Fractions of capital: return before and after costs, and the mean change of position.
    rows, active, hits : ndarray of int64
        Rows of the date, those with a position other than 0, and those of them that earned more than 0.
    """

    dates: np.ndarray
    gross: np.ndarray
    net: np.ndarray
    turnover: np.ndarray
    rows: np.ndarray
    active: np.ndarray
    hits: np.ndarray


class ReturnSimulator:
    """Simulated returns on a fixed set of rows; what does not depend on the positions is computed once.

    Parameters
    ----------
    date, ticker : ndarray of int, shape (n,)
        In any order; a ticker has at most one row per date.
    forward_return : ndarray of float64, shape (n,)
        NaN where unknown; such rows are left out.
    rules : TradingRules
    """

    def __init__(self, date: np.ndarray, ticker: np.ndarray, forward_return: np.ndarray, rules: TradingRules) -> None:
        self.rules = rules
        order = np.lexsort((date, ticker))
        self._order = order[np.isfinite(forward_return[order])]
        self._returns = np.asarray(forward_return, dtype=np.float64)[self._order]
        self._ticker = ticker[self._order]
        self._first = np.ones(len(self._ticker), dtype=bool)
        self._first[1:] = self._ticker[1:] != self._ticker[:-1]
        self.dates, self._date = np.unique(date[self._order], return_inverse=True)
        self._rows_per_date = np.bincount(self._date, minlength=len(self.dates))
        self._cost = rules.cost_bps * 1e-4
        self._limit = rules.max_weight * self._tickers_of_each_date(date)

    def positions(self, probabilities: np.ndarray, class_positions: Sequence[float]) -> np.ndarray:
        """Position of each row by the rules, limit included, shape (n,); arguments as `positions` of this module."""
        return self.limited(positions(probabilities, class_positions, self.rules))

    def limited(self, position: np.ndarray) -> np.ndarray:
        """`position`, shape (n,), clipped so that no ticker takes more than `max_weight` of the capital."""
        return np.clip(np.asarray(position, dtype=np.float64), -self._limit, self._limit)

    def run(self, position: np.ndarray) -> ReturnSeries:
        """Returns of holding `position`, shape (n,), in the order of the rows given at the start, once limited."""
        held, earned, changed = self._trade(position)
        gross = self._sum_by_date(earned) / self._rows_per_date
        turnover = self._sum_by_date(changed) / self._rows_per_date
        return ReturnSeries(
            dates=self.dates,
            gross=gross,
            net=gross - self._cost * turnover,
            turnover=turnover,
            rows=self._rows_per_date,
            active=self._count_by_date(held != 0.0),
            hits=self._count_by_date(earned > 0.0),
        )

    def run_each_ticker(self, position: np.ndarray) -> dict[int, ReturnSeries]:
        """As `run`, each ticker by itself on an account of its own: the series of its rows, by ticker ascending."""
        held, earned, changed = self._trade(position)
        bounds = [*np.flatnonzero(self._first), len(held)]
        series = {}
        for a, b in pairwise(bounds):
            series[int(self._ticker[a])] = ReturnSeries(
                dates=self.dates[self._date[a:b]],
                gross=earned[a:b],
                net=earned[a:b] - self._cost * changed[a:b],
                turnover=changed[a:b],
                rows=np.ones(b - a, dtype=np.int64),
                active=(held[a:b] != 0.0).astype(np.int64),
                hits=(earned[a:b] > 0.0).astype(np.int64),
            )
        return series

    def _trade(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position held, return earned and change of position of each row with a known return, by ticker and date."""
        held = self.limited(position)[self._order]
        before = np.zeros_like(held)
        before[1:] = held[:-1]
        before[self._first] = 0.0
        return held, held * self._returns, np.abs(held - before)

    def _tickers_of_each_date(self, date: np.ndarray) -> np.ndarray:
        """Rows with a known forward return on the date of each row, at least 1: shape (n,)."""
        if not len(self.dates):
            return np.ones(len(date))
        at = np.minimum(np.searchsorted(self.dates, date), len(self.dates) - 1)
        return np.where(self.dates[at] == date, self._rows_per_date[at], 1)

    def _sum_by_date(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._date, values, minlength=len(self.dates))

    def _count_by_date(self, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(self._date[chosen], minlength=len(self.dates))


@dataclass(frozen=True)
class ReturnSummary:
    """What a series of simulated returns comes to; None where undefined.

    Attributes
    ----------
    gross, net : float
        Compounded return over all dates before and after costs, fractions of capital.
    mean_net : float or None
        Mean net return per date.
    sharpe, sharpe_se : float or None
        Yearly Sharpe ratio of the net returns and its standard error (Bailey and Lopez de Prado 2012), which takes
        the dates as independent.
    max_drawdown : float
        Largest loss from an earlier peak of the net equity, a positive fraction.
    turnover : float or None
        Mean change of position per date.
    break_even_cost_bps : float or None
        Cost per unit of turnover at which the sum of net returns is 0.
    hit_rate : float or None
        Share of the rows with a position that earned more than 0.
    exposure : float or None
        Share of the rows with a position.
    n_dates : int
    """

    gross: float
    net: float
    mean_net: float | None
    sharpe: float | None
    sharpe_se: float | None
    max_drawdown: float
    turnover: float | None
    break_even_cost_bps: float | None
    hit_rate: float | None
    exposure: float | None
    n_dates: int


def summarise(series: ReturnSeries, periods_per_year: int) -> ReturnSummary:
    """Figures of a series whose dates lie 1 / `periods_per_year` years apart."""
    from scripts.evaluation.sharpe import sharpe_moments  # scipy.stats takes long to import; training never needs it

    moments, year = sharpe_moments(series.net), math.sqrt(periods_per_year)
    return ReturnSummary(
        gross=total_return(series.gross),
        net=total_return(series.net),
        mean_net=float(series.net.mean()) if len(series.net) else None,
        sharpe=None if moments is None else moments.sharpe * year,
        sharpe_se=None if moments is None else moments.standard_error * year,
        max_drawdown=float(drawdown(series.net).max(initial=0.0)),
        turnover=float(series.turnover.mean()) if len(series.turnover) else None,
        break_even_cost_bps=_ratio(1e4 * series.gross.sum(), series.turnover.sum()),
        hit_rate=_ratio(series.hits.sum(), series.active.sum()),
        exposure=_ratio(series.active.sum(), series.rows.sum()),
        n_dates=len(series.dates),
    )


def returns_by_label(
    series: ReturnSeries, label_of_date: np.ndarray, periods_per_year: int
) -> dict[str, ReturnSummary]:
    """Summary of the dates of each label, such as their year; labels ascending, as text.

    The capital starts from 1 in each part, and its first date pays for the change from the position before it, so that
    the returns of parts that follow each other compound to that of the whole.

    Parameters
    ----------
    series : ReturnSeries
    label_of_date : ndarray, shape (n_dates,)
        Label of each date of `series.dates`.
    periods_per_year : int
    """
    parts = {str(label): _dates_of(series, label_of_date == label) for label in np.unique(label_of_date)}
    return {name: summarise(part, periods_per_year) for name, part in parts.items()}


def returns_by_ticker(
    simulator: ReturnSimulator, position: np.ndarray, periods_per_year: int
) -> dict[int, ReturnSummary]:
    """Summary of each ticker traded by itself, with the whole capital of an account of its own.

    Positions are limited as on the panel, where the ticker shares the capital with others; on a date with n_t tickers
    the panel's net return is the mean of theirs.

    Parameters
    ----------
    simulator : ReturnSimulator
    position : ndarray of float64, shape (n,)
        In the order of the rows of the simulator; ones for buy and hold.
    periods_per_year : int

    Returns
    -------
    dict
        Ticker, ascending, to its summary; tickers without a known forward return are absent.
    """
    each = simulator.run_each_ticker(position)
    return {ticker: summarise(series, periods_per_year) for ticker, series in each.items()}


def _dates_of(series: ReturnSeries, chosen: np.ndarray) -> ReturnSeries:
    """The chosen dates of a series."""
    return ReturnSeries(**{f.name: getattr(series, f.name)[chosen] for f in fields(series)})


def total_return(returns: np.ndarray) -> float:
    """Compounded return prod(1 + r) - 1 of a series of returns, a fraction of capital; 0 for an empty series."""
    return float(np.prod(1.0 + returns) - 1.0)


def net_by_cost(series: ReturnSeries, costs_bps: Sequence[float]) -> list[float]:
    """Total net return that the same positions would have had at other costs per unit of turnover (basis points)."""
    return [total_return(series.gross - cost * 1e-4 * series.turnover) for cost in costs_bps]


def equity_curve(returns: np.ndarray) -> np.ndarray:
    """Capital after each return, shape as `returns`; it starts from 1 before the first."""
    return np.cumprod(1.0 + returns)


def drawdown(returns: np.ndarray) -> np.ndarray:
    """Loss from the peak so far, the starting capital of 1 included: fractions >= 0, shape as `returns`."""
    equity = equity_curve(returns)
    return 1.0 - equity / np.maximum(1.0, np.maximum.accumulate(equity))


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator else None
