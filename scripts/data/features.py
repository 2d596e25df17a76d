"""Causal features of a panel of bars, each from a finite window of its own ticker and the bars of its own date.

Every feature is free of units (returns in trailing standard deviations, logarithms of ratios), so that tickers of
different prices and volatilities can share one model. Windows are summed by doubling (1, 2, 4, ... bars) rather than by
a running sum: the result depends, to the last bit, on the bars inside the window alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

MAX_HALT = 20  # dates that a ticker may miss in a row before its history starts anew
LONGEST_WINDOW = 60
MIN_VOLATILITY = 1e-6  # per bar; keeps prices that do not move out of divisions and logarithms
MAX_SCORE = 10.0  # one bad print must not dominate the scaling of a feature
MIN_VOLUME_RATIO = 1e-3  # of the mean volume; stands for a bar without trades
BLOCK_ROWS = 2**18  # rows worked on at a time: a temporary column is 2 MB


@dataclass(frozen=True)
class BarIndex:
    """Where each row of a market frame lies in time and in its ticker's history.

    Attributes
    ----------
    date : ndarray of int64, shape (n_rows,)
        Position of the row's date in `dates`.
    ticker : ndarray of int64, shape (n_rows,)
        Position of the row's ticker in `tickers`.
    dates : ndarray of datetime64, shape (n_dates,)
        All dates of all tickers, ascending.
    segment : ndarray of int64, shape (n_rows,)
        Number of the run of bars of one ticker without more than `MAX_HALT` missing dates between two of them.
        Features, labels and windows never cross a segment. With a single ticker the calendar has no missing dates.
    first_row, last_row : ndarray of int64, shape (n_rows,)
        First and last row of the row's segment.
    """

    date: np.ndarray
    ticker: np.ndarray
    tickers: tuple[str, ...]
    dates: np.ndarray
    segment: np.ndarray
    first_row: np.ndarray
    last_row: np.ndarray

    @property
    def history(self) -> np.ndarray:
        """Bars of the row's segment up to and including the row, shape (n_rows,)."""
        return np.arange(len(self.date)) - self.first_row + 1


@dataclass(frozen=True)
class Features:
    """Features of each row.

    Attributes
    ----------
    values : ndarray of float32, shape (n_rows, n_features)
        NaN where the row's history is too short.
    names : tuple of str
    lookback : int
        Bars of its own segment that a row reads at most, itself included. It covers what the features of the cross
        section read of other tickers, too: their bar of the same date and the one before it.
    left_out : tuple of str
        Features that need what the frame lacks, each with the reason.
    """

    values: np.ndarray
    names: tuple[str, ...]
    lookback: int
    left_out: tuple[str, ...]


def index_bars(frame: pd.DataFrame) -> BarIndex:
    """Index the rows of `frame`.

    Parameters
    ----------
    frame : DataFrame
        Columns "date" and "ticker", sorted by (ticker, date), no pair twice.

    Raises
    ------
    ValueError
        If the rows are not in this order.
    """
    date, dates = pd.factorize(frame["date"].to_numpy(), sort=True)
    ticker, tickers = pd.factorize(frame["ticker"])
    date, ticker = date.astype(np.int64, copy=False), ticker.astype(np.int64, copy=False)
    same, step = np.diff(ticker) == 0, np.diff(date)
    if (np.diff(ticker) < 0).any() or (step[same] <= 0).any():
        raise ValueError("rows must be sorted by (ticker, date), no pair twice")
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(date)), bool), ~same | (step - 1 > MAX_HALT)]))
    lengths = np.diff(np.append(starts, len(date)))
    return BarIndex(
        date=date,
        ticker=ticker,
        tickers=tuple(map(str, tickers)),
        dates=np.asarray(dates),
        segment=np.repeat(np.arange(len(starts)), lengths),
        first_row=np.repeat(starts, lengths),
        last_row=np.repeat(starts + lengths - 1, lengths),
    )


def market_features(frame: pd.DataFrame, bars: BarIndex) -> Features:
    """Features of every bar.

    Parameters
    ----------
    frame : DataFrame
        "close" and any of "open", "high", "low", "volume", float64; prices positive, volumes not negative.
    bars : BarIndex
        Index of the same frame.

    Notes
    -----
    Range volatility: Parkinson (1980), sqrt(mean(log(high / low)^2) / (4 log 2)). Relative strength: Cutler's variant,
    with simple sums over 14 bars, scaled to -1..1. Other formulas are given where they are computed.
    """
    common, left_out = _features_across_rows(frame, bars)
    columns = {c: frame[c].to_numpy(np.float64) for c in ("close", "open", "high", "low", "volume") if c in frame}
    left_out += [f"{name} (no {column})" for column, name in _absent(columns)]
    history, values, names = bars.history, np.empty((len(frame), 0), np.float32), tuple[str, ...]()
    for rows in _blocks(bars):
        block = _features_of_block({k: v[rows] for k, v in columns.items()}, history[rows])
        block |= {k: v[rows] for k, v in common.items() if k != "market_return"}
        if "market_return" in common:
            block["market_return"] = _score(common["market_return"][rows], block.pop("_volatility_before"))
        block.pop("_volatility_before", None)
        if not names:
            names = tuple(block)
            values = np.empty((len(frame), len(names)), np.float32)
        for k, column in enumerate(block.values()):
            values[rows, k] = column
    return Features(values, names, LONGEST_WINDOW + 1, tuple(left_out))
