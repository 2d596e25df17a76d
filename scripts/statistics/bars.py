"""Returns of positions after each row: when a decision is filled, what it earns, how long it is held, its costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Bars:
    """Returns of a position after each row; every array of shape (n,).

    Attributes
    ----------
    filled : ndarray of int64
        Date (position in the calendar) on which a decision of the row is filled.
    until : ndarray of int64
        Date of the ticker's next fill, at which the period ends; later than `filled`.
    step : ndarray of float64
        Return of +1 over the period; NaN if unknown, or if the decision is never filled.
    listed : ndarray of int64
        Tickers listed on the date of the fill, at least 1: those from their first to their last bar.
    bars : ndarray of int64
        Holding time of a decision in periods, at least 0.
    leave : ndarray of float64
        Return over the last of these periods, if it differs from that of the period; else NaN.
    cost : ndarray of float64
        Cost of one unit of turnover at the fill and before the next one, a fraction.
    slices : int
        Decisions of a ticker that are held at the same time.
    fee : float
        Cost of a short position of 1 over one date.
    inside : bool
        Decisions with a `leave` are sold before the end of the period, so they cannot be netted.
    """

    ticker: np.ndarray
    filled: np.ndarray
    until: np.ndarray
    step: np.ndarray
    listed: np.ndarray
    bars: np.ndarray
    leave: np.ndarray
    cost: np.ndarray
    slices: int = 1
    fee: float = 0.0
    inside: bool = True

    @classmethod
    def of_returns(
        cls, date: np.ndarray, ticker: np.ndarray, forward_return: np.ndarray, cost_bps: float = 0.0, rows: int = 1
    ) -> Bars:
        """Return rows that are filled on their own date and earn `forward_return` until the ticker's next row.

        Parameters
        ----------
        date, ticker : ndarray of int64, shape (n,)
            In any order; a ticker has at most one row per date.
        forward_return : ndarray of float64, shape (n,)
            NaN if unknown; such rows are not bought, but count as rows that a longer return spans.
        rows : int
            Rows of its ticker that each return spans. The path over these rows is unknown: a slice is valued at
            cost until its end.
        """
        earned = np.asarray(forward_return, dtype=np.float64)
        known, spans = np.isfinite(earned), rows > 1
        kept = np.flatnonzero(known | spans)
        order = kept[np.lexsort((date[kept], ticker[kept]))]
        until, n = date + 1, len(earned)
        same = ticker[order][1:] == ticker[order][:-1]
        until[order[:-1][same]] = date[order[1:][same]]
        return cls(
            ticker=ticker,
            filled=date,
            until=until,
            step=np.zeros(n) if spans else earned,
            listed=n_listed(date, ticker, date),
            bars=np.where(known, rows, 0),
            leave=earned if spans else np.full(n, np.nan),
            cost=np.full(n, cost_bps * 1e-4),
            slices=rows,
            inside=False,
        )

    def held_one_bar(self) -> Bars:
        """Return the bars with every decision held until the next one."""
        return replace(self, bars=np.ones_like(self.bars), leave=np.full(len(self.leave), np.nan), slices=1)

    def at_cost(self, cost_bps: float | np.ndarray) -> Bars:
        """Return the bars with another cost of one unit of turnover in basis points, for all rows or for each."""
        return replace(self, cost=np.full(len(self.cost), np.multiply(cost_bps, 1e-4)))

    def moved(self, source: np.ndarray) -> Bars:
        """Return the fills with the returns of the rows `source`, shape (n,); -1 for unknown."""
        known = source >= 0
        step, leave = (np.where(known, values[source], np.nan) for values in (self.step, self.leave))
        return replace(self, step=step, leave=leave, bars=self.bars[source])

    def take(self, rows: np.ndarray) -> Bars:
        """Return some of the rows."""
        names = ("ticker", "filled", "until", "step", "listed", "bars", "leave", "cost")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def n_listed(date: np.ndarray, ticker: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Tickers listed on each of the dates `at`, from their first to their last row, at least 1; shape of `at`.

    Parameters
    ----------
    date, ticker : ndarray of int64, shape (n,)
        Existing rows.
    at : ndarray of int64
        Dates to count.
    """
    if not len(date):
        return np.ones(len(at), dtype=np.int64)
    _, code = np.unique(ticker, return_inverse=True)
    first, last = np.full(code.max() + 1, date.max()), np.full(code.max() + 1, date.min())
    np.minimum.at(first, code, date)
    np.maximum.at(last, code, date)
    entered = np.searchsorted(np.sort(first), at, side="right")
    return np.maximum(1, entered - np.searchsorted(np.sort(last), at, side="left"))
