"""Returns of a trade decided at each bar: fill, holding period and exit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scripts.data.features import BarIndex
from scripts.data.labels import Touches
from scripts.statistics.bars import Bars, n_listed


@dataclass(frozen=True)
class Fills:
    """Prices that decisions are filled at; every array of shape (n_rows,).

    Attributes
    ----------
    price : ndarray of float64
        Price of a fill in the row's own bar: its open, or its close.
    delay : int
        Bars between a decision and its fill: 1 at the next open, 0 at the close that decides.
    """

    price: np.ndarray
    close: np.ndarray
    delay: int


def fills_of(frame: pd.DataFrame, fill: str) -> Fills:
    """Fills of a frame with "close" and, for "next_open", "open"; without it, at the closes that decide."""
    close = frame["close"].to_numpy(np.float64)
    if fill == "next_open" and "open" in frame:
        return Fills(frame["open"].to_numpy(np.float64), close, 1)
    return Fills(close, close, 0)


def held_for(bars: Bars, fills: Fills, horizon: int, touches: Touches | None) -> Bars:
    """Return the bars with each decision held for the label's horizon, in a ladder of as many slices.

    A triple-barrier position is left where its label ends, at the price of the barrier.
    """
    n = len(bars.step)
    held, leave = np.full(n, horizon), np.full(n, np.nan)
    if touches is not None:
        known = np.flatnonzero(np.isfinite(touches.price))
        after, early = touches.after[known], touches.at_open[known] & (fills.delay == 1)
        held[known] = after - early
        at = np.minimum(known + after - 1 + fills.delay, n - 1)
        leave[known] = np.where(early, np.nan, touches.price[known] / fills.price[at] - 1)
    return replace(bars, bars=held, leave=leave, slices=horizon)


def market_bars(index: BarIndex, fills: Fills) -> Bars:
    """Return the bars of a market for a simulator, with every decision held until the ticker's next one.

    A decision of row i is filled in row i + delay of its ticker, regardless of missing dates, and the
    period ends at the next fill. The last period of a ticker ends at its last close: of a listing that ended, this is
    the last price. It is booked by the date after the last bar.
    """
    n, delay, ticker = len(index.date), fills.delay, index.ticker
    row = np.arange(n)
    last = np.searchsorted(ticker, ticker, side="right") - 1
    at, after = np.minimum(row + delay, last), np.minimum(row + delay + 1, last)
    leaves_at_close = (row + delay == last) & (delay > 0)
    step = np.where(leaves_at_close, fills.close[last] / fills.price[at], fills.price[after] / fills.price[at]) - 1
    step[row + delay + (delay == 0) > last] = np.nan
    filled = index.date[at]
    return Bars(
        ticker=ticker,
        filled=filled,
        until=np.where(leaves_at_close, index.date[last] + 1, np.maximum(index.date[after], filled + 1)),
        step=step,
        listed=n_listed(index.date, ticker, filled),
        bars=np.ones(n, dtype=np.int64),
        leave=np.full(n, np.nan),
        cost=np.zeros(n),
    )
