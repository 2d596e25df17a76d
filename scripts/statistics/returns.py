"""Simulated returns: positions from probabilities, and summaries of return series.

`scripts.statistics.trading_simulator` trades the positions; `scripts.statistics.book` defines the account.
Returns and turnover are fractions of capital.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

PositionRule = Literal["sign", "proportional"]


@dataclass(frozen=True)
class TradingRules:
    """Rules that turn probabilities into positions, and trading costs.

    Attributes
    ----------
    cost_bps : float
        Cost of one unit of turnover in basis points.
    margin : float
        The position is 0 unless the largest probability leads the second by more than this, in [0, 1). With two
        classes the lead is |p_up - p_down|; 0 leaves out ties alone.
    position : {"sign", "proportional"}
        sign: the position of the most probable class. proportional: the mean of the class positions weighted by the
        probabilities, which for classes at -1 and +1 is p_up - p_down. It is not scaled further: Sharpe ratio and
        break-even cost would not change, and a scale from the test rows would be a look-ahead.
    max_weight : float
        Maximum share of the capital in one ticker, in (0, 1]. The n_t tickers of a date are weighted equally, so
        that |position| / n_t <= max_weight; a larger position is clipped and the rest stays in cash.
    borrow_bps : float
        Annual cost of a short position of 1 in basis points.
    ticker_cost_bps : mapping of str to float or None
        Cost of one unit of turnover of single tickers, instead of `cost_bps`.
    """

    cost_bps: float = 0.0
    margin: float = 0.0
    position: PositionRule = "sign"
    max_weight: float = 1.0
    borrow_bps: float = 0.0
    ticker_cost_bps: Mapping[str, float] | None = None

    def costs_bps(self, tickers: Sequence[str]) -> np.ndarray:
        """Return the cost of one unit of turnover of each ticker in basis points, shape (n_tickers,)."""
        stated = self.ticker_cost_bps or {}
        return np.array([stated.get(ticker, self.cost_bps) for ticker in tickers], dtype=np.float64)


def positions(probabilities: np.ndarray, class_positions: Sequence[float], rules: TradingRules) -> np.ndarray:
    """Return the position of each row before the limit of `max_weight`, float64 of shape (n,).

    Parameters
    ----------
    probabilities : ndarray, shape (n, n_classes)
    class_positions : sequence of float
        Position of each class.
    """
    held = np.asarray(class_positions, dtype=np.float64)
    largest = np.sort(probabilities, axis=1)[:, -2:]
    decided = largest[:, 1] - largest[:, 0] > rules.margin
    wished = probabilities @ held if rules.position == "proportional" else held[probabilities.argmax(axis=1)]
    return np.where(decided, wished, 0.0)


def limited(position: np.ndarray, n_listed: np.ndarray, max_weight: float) -> np.ndarray:
    """Return positions clipped to at most `max_weight` of the capital, float64 of shape (n,).

    Parameters
    ----------
    position : ndarray, shape (n,)
    n_listed : ndarray of int64, shape (n,)
        Tickers listed on the date of the fill, which share the capital equally.
    """
    limit = max_weight * n_listed
    return np.clip(np.asarray(position, dtype=np.float64), -limit, limit)


def rule_positions(predicted: np.ndarray, class_positions: Sequence[float]) -> np.ndarray:
    """Return the position of each row for a rule that predicts classes, such as a naive one, float64 of shape (n,).

    Parameters
    ----------
    predicted : ndarray of int, shape (n,)
        Class that the rule predicts; -1 without a prediction gives a position of 0.
    class_positions : sequence of float
        Position of each class.
    """
    return np.append(np.asarray(class_positions, dtype=np.float64), 0.0)[predicted]


@dataclass(frozen=True)
class ReturnSeries:
    """Simulated returns per date, ascending; all of shape (n_dates,).

    Attributes
    ----------
    dates : ndarray of int64
        Positions in the calendar; the return of a date runs from its fills to those of the next date.
    gross, net, turnover, costs, fees : ndarray of float64
        Fractions of the capital at the date: return before and after costs, traded value, costs of trades and short
        positions; net = gross - costs - fees.
    rows, active, hits, misses : ndarray of int64
        Decisions filled on the date, decisions with a position, and those of them that earned and that lost.
    """

    dates: np.ndarray
    gross: np.ndarray
    net: np.ndarray
    turnover: np.ndarray
    costs: np.ndarray
    fees: np.ndarray
    rows: np.ndarray
    active: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    overlap: int = 1  # dates that one return spans: above 1, neighbouring returns overlap

    def on(self, dates: np.ndarray) -> ReturnSeries:
        """Return the series on other dates, ascending: missing dates get zeros, all others are dropped."""
        at = np.minimum(np.searchsorted(self.dates, dates), max(0, len(self.dates) - 1))
        here = self.dates[at] == dates if len(self.dates) else np.zeros(len(dates), dtype=bool)

        def moved(values: np.ndarray) -> np.ndarray:
            return np.where(here, values[at], 0).astype(values.dtype)

        return ReturnSeries(
            dates,
            gross=moved(self.gross),
            net=moved(self.net),
            turnover=moved(self.turnover),
            costs=moved(self.costs),
            fees=moved(self.fees),
            rows=moved(self.rows),
            active=moved(self.active),
            hits=moved(self.hits),
            misses=moved(self.misses),
            overlap=self.overlap,
        )


_PER_DATE = tuple(f.name for f in fields(ReturnSeries) if f.name != "overlap")


@dataclass(frozen=True)
class ReturnSummary:
    """Summary of a series of simulated returns; None if undefined.

    Attributes
    ----------
    gross, net : float
        Compounded return over all dates before and after costs, fractions of capital.
    mean_net : float or None
        Mean net return per date.
    volatility : float or None
        Annualised standard deviation of the net returns.
    sharpe, sharpe_se : float or None
        Annualised Sharpe ratio of the net returns and its standard error, which allows for autocorrelation (Lo 2002).
    max_drawdown : float
        Largest loss from an earlier peak of the net equity, a positive fraction.
    turnover : float or None
        Mean traded value per date.
    break_even_cost_bps : float or None
        Cost per unit of turnover at which the sum of net returns is 0, with the turnover of the configured cost.
    hit_rate : float or None
        Share of winners among the decisions that earned or lost. A return of 0 is neither.
    exposure : float or None
        Share of the decisions with a position.
    """

    gross: float
    net: float
    mean_net: float | None
    volatility: float | None
    sharpe: float | None
    sharpe_se: float | None
    max_drawdown: float
    turnover: float | None
    break_even_cost_bps: float | None
    hit_rate: float | None
    exposure: float | None
    n_dates: int


def summarise(series: ReturnSeries, periods_per_year: float | None) -> ReturnSummary:
    """Summarise a series whose dates are 1 / `periods_per_year` years apart; annual figures are None without it."""
    from scripts.statistics.sharpe import sharpe_with_error  # slow to import, and not needed in training

    found = sharpe_with_error(series.net, series.overlap)
    year = None if found is None or periods_per_year is None else math.sqrt(periods_per_year)
    n_decided = series.hits.sum() + series.misses.sum()
    return ReturnSummary(
        gross=total_return(series.gross),
        net=total_return(series.net),
        mean_net=float(series.net.mean()) if len(series.net) else None,
        volatility=None if found is None or year is None else found.deviation * year,
        sharpe=None if found is None or year is None else found.sharpe * year,
        sharpe_se=None if found is None or year is None else found.standard_error * year,
        max_drawdown=float(drawdown(series.net).max(initial=0.0)),
        turnover=float(series.turnover.mean()) if len(series.turnover) else None,
        break_even_cost_bps=_ratio(1e4 * (series.gross.sum() - series.fees.sum()), series.turnover.sum()),
        hit_rate=_ratio(series.hits.sum(), n_decided),
        exposure=_ratio(series.active.sum(), series.rows.sum()),
        n_dates=len(series.dates),
    )


def returns_by_label(
    series: ReturnSeries, label_of_date: np.ndarray, periods_per_year: float | None
) -> dict[str, ReturnSummary]:
    """Return the summary of the dates of each label, such as their year; labels ascending, as text.

    The capital starts from 1 in each part, and its first date pays for the change from the previous position. So the
    returns of consecutive parts compound to that of the whole.

    Parameters
    ----------
    label_of_date : ndarray, shape (n_dates,)
        Label of each date of `series.dates`.
    """
    parts = {str(label): _dates_of(series, label_of_date == label) for label in np.unique(label_of_date)}
    return {name: summarise(part, periods_per_year) for name, part in parts.items()}


def _dates_of(series: ReturnSeries, chosen: np.ndarray) -> ReturnSeries:
    """Return the chosen dates of a series."""
    return replace(series, **{name: getattr(series, name)[chosen] for name in _PER_DATE})


def total_return(returns: np.ndarray) -> float:
    """Return the compounded return of a series, a fraction of capital: at least -1, and 0 for an empty series."""
    return float(equity_curve(returns)[-1] - 1.0) if len(returns) else 0.0


def net_by_date(series: ReturnSeries, dates: np.ndarray) -> np.ndarray:
    """Return the net return on each of the dates, ascending; a return between two of them is added to the first.

    Decisions are filled and closed after the dates on which they are made.
    """
    at = np.clip(np.searchsorted(dates, series.dates, side="right") - 1, 0, len(dates) - 1)
    grown = np.ones(len(dates))
    np.multiply.at(grown, at, 1.0 + series.net)
    return grown - 1.0


def equity_curve(returns: np.ndarray) -> np.ndarray:
    """Capital after each return, shape as `returns`: 1 at the start, and 0 after a return of -100% or less."""
    return np.cumprod(np.maximum(0.0, 1.0 + returns))


def drawdown(returns: np.ndarray) -> np.ndarray:
    """Return the loss from the peak so far, including the starting capital of 1: fractions >= 0, shape as `returns`."""
    equity = equity_curve(returns)
    return 1.0 - equity / np.maximum(1.0, np.maximum.accumulate(equity))


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator else None
