"""Portfolio returns and costs of the target weights of all tickers, date by date.

Marks are the dates on which something is filled. At each mark, in this order:

1. Every ticker is valued at its last price. A ticker without a bar keeps its last price, its shares and its capital.
2. The capital E is cash plus the value of all shares.
3. Every ticker with a bar is traded to w E, where w is its target weight. A ticker without a bar is not traded.
4. Each trade costs c times the traded value. Costs are paid from cash.

The tickers listed on a date (first to last bar of each) share the capital equally: a position p of one of N_t listed
tickers has the weight p / N_t. Between marks, shares are constant and weights drift. The last position of every ticker
is sold and pays for it. A capital of 0 stays 0 (ruin), without further trades.

The return booked on a mark runs from its valuation to the valuation at the next mark. It includes the costs of the
trades at the mark, and for the last mark also those of the final sales. Thus net = gross - costs, each divided by the
capital E of the mark, and the net returns compound to the final capital.

The equations are solved for all dates at once. With rho_d = E_(d+1) / E_d, costs depend on the drift of the capital,
and rho is on both sides. Substitution converges in a few rounds: after d rounds the first d dates are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CONVERGED = 1e-14
_SMALLEST = 1e-12  # growth of one date that represents ruin while the equations are solved


@dataclass(frozen=True)
class Steps:
    """Periods between two neighbouring bars of a ticker, sorted by ticker and date; every array of shape (n,).

    Attributes
    ----------
    first, last : ndarray of int64
        Marks (0 to n_marks) at which the period begins and ends, first < last <= n_marks.
    opens : ndarray of bool
        The first period of its ticker: nothing is held before it.
    ends : ndarray of bool
        Everything is sold at the end of the period: the ticker has no further period, or the book is closed.
    cost, fee : ndarray of float64
        Cost of a value traded at the beginning, and of a short position over the period, both as fractions.
    n_marks : int
        Number of marks with a return.
    """

    first: np.ndarray
    last: np.ndarray
    opens: np.ndarray
    ends: np.ndarray
    cost: np.ndarray
    fee: np.ndarray
    n_marks: int


@dataclass(frozen=True)
class Holdings:
    """Positions over each period, as shares of the capital at its beginning; every array of shape (n,).

    Attributes
    ----------
    weight : ndarray of float64
        Target after the trade at the beginning.
    gain : ndarray of float64
        Gain over the period.
    kept : ndarray of float64
        Value held at the end.
    sold, sold_costs : ndarray of float64
        Absolute value sold before the end of the period, or at the end of the ticker, and the cost of the sale.
    """

    weight: np.ndarray
    gain: np.ndarray
    kept: np.ndarray
    sold: np.ndarray
    sold_costs: np.ndarray


@dataclass(frozen=True)
class Account:
    """Returns of a portfolio on each mark, fractions of the capital at the mark; every array of shape (n_marks,).

    Attributes
    ----------
    gross, net, turnover, costs, fees : ndarray of float64
        Return before costs and after them, traded value, and costs of trades and of short positions.
    """

    gross: np.ndarray
    net: np.ndarray
    turnover: np.ndarray
    costs: np.ndarray
    fees: np.ndarray


@np.errstate(over="ignore", invalid="ignore")  # after a ruin, where values are set to 0
def settle(steps: Steps, held: Holdings) -> Account:
    """Solve for the capital at every mark.

    Parameters
    ----------
    held : Holdings
        Holdings of the same periods.
    """
    n, wide = steps.n_marks, np.flatnonzero(steps.last - steps.first > 1)
    fee = steps.fee * np.maximum(0.0, -held.weight)
    earned = held.gain - fee - held.sold_costs
    before = np.concatenate([[0.0], held.kept[:-1]])
    before[steps.opens] = 0.0
    origin = np.concatenate([[0], steps.first[:-1]])  # mark at which the position before was made
    origin[steps.opens] = steps.first[steps.opens]
    growth, share, traded = np.ones(n), np.ones(len(held.weight)), np.zeros(len(held.weight))
    for _ in range(n + 2):
        log_capital = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(growth, _SMALLEST)))])
        # Ratio of the capital when the position was opened to that of the mark on which the gain is booked.
        share[wide] = np.exp(log_capital[steps.first[wide]] - log_capital[steps.last[wide] - 1])
        traded = np.abs(held.weight - before * np.exp(log_capital[origin] - log_capital[steps.first]))
        known = growth
        growth = 1.0 + _at(steps.last - 1, earned * share, n) - _at(steps.first, steps.cost * traded, n)
        if np.allclose(growth[: _alive(growth)], known[: _alive(growth)], rtol=_CONVERGED, atol=_CONVERGED):
            break
    booked = steps.last - 1
    gross = _at(booked, held.gain * share, n)
    turnover = _at(steps.first, traded, n) + _at(booked, held.sold * share, n)
    costs = _at(steps.first, steps.cost * traded, n) + _at(booked, held.sold_costs * share, n)
    fees, net = _at(booked, fee * share, n), growth - 1.0
    if (alive := _alive(growth)) < n or (n and growth[-1] <= 0.0):
        net[alive - 1] = -1.0
        for values in (gross, net, turnover, costs, fees):
            values[alive:] = 0.0
    return Account(gross, net, turnover, costs, fees)


def _alive(growth: np.ndarray) -> int:
    """Return the number of marks up to and including the ruin; all of them without a ruin."""
    ruined = np.flatnonzero(growth <= 0.0)
    return int(ruined[0]) + 1 if len(ruined) else len(growth)


def _at(mark: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(mark, values, minlength=n)
