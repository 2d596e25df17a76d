"""Causal features of a panel of bars, each from a finite window of its ticker and the bars of its date.

Every feature is free of units (returns in trailing standard deviations, logarithms of ratios), so that tickers of
different prices and volatilities can share one model. Windows are summed by doubling (1, 2, 4, ... bars) rather than by
a running sum: the result depends, bit for bit, only on the bars inside the window.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.data.ranks import rank_by_date

MAX_HALT = 20  # missing dates in a row after which the history of a ticker starts again
LONGEST_WINDOW = 60
MIN_VOLATILITY = 1e-6  # per bar; keeps prices that do not move out of divisions and logarithms
MAX_SCORE = 10.0  # one bad print must not dominate the scaling of a feature
NO_VOLUME = float(np.log(1e-3))  # a bar without trades counts as a thousandth of the usual volume
VOLUME_PERSISTENCE = 0.5  # rough autocorrelation of daily log volume, to separate surprises from expected volume
BLOCK_ROWS = 2**13  # rows worked on at a time: a few temporary columns of 64 KB stay in the cache


@dataclass(frozen=True)
class BarIndex:
    """Place of each row of a market frame in time and in the history of its ticker.

    Attributes
    ----------
    date : ndarray of int64, shape (n_rows,)
        Position of the row's date in `dates`.
    ticker : ndarray of int64, shape (n_rows,)
        Position of the row's ticker in `tickers`.
    dates : ndarray of datetime64, shape (n_dates,)
        All dates of all tickers, ascending.
    first_row, last_row : ndarray of int64, shape (n_rows,)
        First and last row of the row's segment, the run of bars of one ticker without more than `MAX_HALT` missing
        dates between two of them. Features, labels and windows never cross a segment. With a single ticker the calendar
        has no missing dates.
    """

    date: np.ndarray
    ticker: np.ndarray
    tickers: tuple[str, ...]
    dates: np.ndarray
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
    lookback : int
        Maximum bars of its segment that a row reads, itself included. It covers what the features of the cross
        section read of other tickers, too: their bar of the same date and the one before it.
    left_out : dict of str to str
        Features that need what the frame lacks, with the reason.
    """

    values: np.ndarray
    names: tuple[str, ...]
    lookback: int
    left_out: dict[str, str]


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
    """
    columns, absent = _columns(frame, bars)
    families = [f for f in _FAMILIES if all(c in columns for c in f.needs)]
    names = tuple(name for f in families for name in f.names)
    values, history = np.empty((len(frame), len(names)), np.float32), bars.history
    for rows in _blocks(bars):
        panel = _panel({name: column[rows] for name, column in columns.items()}, history[rows])
        for k, column in enumerate(column for f in families for column in f.compute(panel)):
            values[rows, k] = column
    left_out = {
        name: absent.get(missing[0], f"no {missing[0]}")
        for f in _FAMILIES
        if (missing := [c for c in f.needs if c not in columns])
        for name in f.names
    }
    return Features(values, names, LONGEST_WINDOW + 1, left_out)


def trailing(combine: np.ufunc, x: np.ndarray, window: int, history: np.ndarray) -> np.ndarray:
    """Combine the last `window` values of each row's segment, in an order that is the same for every row.

    Parameters
    ----------
    combine : ufunc
        add, maximum or minimum.
    x : ndarray of float64, shape (n_rows,)
        Columns of whole segments, one after another.
    window : int
        At least 1.
    history : ndarray of int64, shape (n_rows,)
        Bars of the segment up to and including the row; rows with fewer than `window` get NaN.
    """
    span, length, covered = x, 1, 0
    parts: list[np.ndarray] = []
    while covered < window:
        if window & length:
            parts.append(_shifted(span, covered))
            covered += length
        if covered < window:
            span, length = combine(span, _shifted(span, length)), 2 * length
    return np.where(history >= window, functools.reduce(combine, parts), np.nan)


def log_returns(close: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Log return of each row since the bar before it, NaN in the first bar of a segment."""
    return np.where(history > 1, np.log(close / _shifted(close, 1)), np.nan)


@dataclass(frozen=True)
class _Panel:
    """Columns of whole segments, one after another, and what several families of features share."""

    columns: dict[str, np.ndarray]
    history: np.ndarray
    log_return: np.ndarray  # since the bar before
    volatility: np.ndarray  # root mean square of the last 20 log returns
    volatility_before: np.ndarray  # the same at the bar before: what a move is measured in

    def lag(self, x: np.ndarray, k: int) -> np.ndarray:
        """`x` k bars earlier in the same segment."""
        return np.where(self.history > k, _shifted(x, k), np.nan)

    def total(self, x: np.ndarray, window: int) -> np.ndarray:
        """Sum over the last `window` bars."""
        return trailing(np.add, x, window, self.history)

    def volatility_over(self, window: int) -> np.ndarray:
        """Root mean square of the last `window` log returns."""
        return _floored(np.sqrt(self.total(self.log_return**2, window) / window))


@dataclass(frozen=True)
class _Family:
    """Features that need the same columns; `compute` returns one column per name."""

    names: tuple[str, ...]
    needs: tuple[str, ...]
    compute: Callable[[_Panel], list[np.ndarray]]


def _columns(frame: pd.DataFrame, bars: BarIndex) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Columns that features are made of, and the reason for each that cannot be made."""
    columns = {c: frame[c].to_numpy(np.float64) for c in ("open", "high", "low", "close", "volume") if c in frame}
    absent = {}
    if len(bars.tickers) > 1:
        # Plain returns, so that this reads two bars of other tickers, within the lookback of the row.
        log_return = log_returns(columns["close"], bars.history)
        known = ~np.isnan(log_return)
        sums = np.bincount(bars.date[known], log_return[known], len(bars.dates))
        counts = np.bincount(bars.date[known], minlength=len(bars.dates))
        columns["market_return"] = (sums / np.maximum(counts, 1))[bars.date]
        columns["return_rank"] = (2 * rank_by_date(log_return, bars.date) - 1) / np.maximum(counts, 1)[bars.date] - 1
    else:
        absent["market_return"] = "one ticker"
    if (bars.dates == bars.dates.astype("datetime64[D]")).all():
        days = bars.dates.astype("datetime64[D]").astype(np.int64)
        columns["weekday"] = ((days + 3) % 7)[bars.date]  # 1970-01-01 was a Thursday; Monday is 0
    else:
        absent["weekday"] = "bars within the day"
    return columns, absent


def _panel(columns: dict[str, np.ndarray], history: np.ndarray) -> _Panel:
    log_return = log_returns(columns["close"], history)
    volatility = _floored(np.sqrt(trailing(np.add, log_return**2, 20, history) / 20))
    before = np.where(history > 1, _shifted(volatility, 1), np.nan)
    return _Panel(columns, history, log_return, volatility, before)


def _return_features(panel: _Panel) -> list[np.ndarray]:
    """Last returns, each in the volatility before it; moves over k bars in the s.d. of k independent bars."""
    scaled = _clipped(panel.log_return / panel.volatility_before)
    log_close, slow = np.log(panel.columns["close"]), panel.volatility_over(60)
    lags = [scaled, *(panel.lag(scaled, k) for k in range(1, 6))]
    moves = [_clipped((log_close - panel.lag(log_close, k)) / (slow * np.sqrt(k))) for k in (5, 10, 20, 60)]
    return lags + moves


def _volatility_features(panel: _Panel) -> list[np.ndarray]:
    """Level of the volatility and whether it has been rising."""
    fast, slow = panel.volatility_over(5), panel.volatility_over(60)
    return [np.log(panel.volatility), np.log(fast / panel.volatility), np.log(panel.volatility / slow)]


def _position_features(panel: _Panel) -> list[np.ndarray]:
    """Return the position of the close among the closes before it.

    Relative strength is Cutler's variant with simple sums over 14 bars, scaled from 0..100 to -1..1.
    """
    close, history = panel.columns["close"], panel.history
    gains = panel.total(np.maximum(panel.log_return, 0), 14)
    losses = panel.total(np.maximum(-panel.log_return, 0), 14)
    strength = (gains - losses) / np.maximum(gains + losses, MIN_VOLATILITY)
    means = {k: panel.total(close, k) / k for k in (20, 60)}
    distances = [_clipped(np.log(close / mean) / (panel.volatility_over(k) * np.sqrt(k))) for k, mean in means.items()]
    high, low = trailing(np.maximum, close, 20, history), trailing(np.minimum, close, 20, history)
    peak = trailing(np.maximum, close, 60, history)
    drawdown = _clipped(np.log(close / peak) / (panel.volatility_over(60) * np.sqrt(60)))
    return [strength, *distances, _place(close, low, high), drawdown]


def _range_features(panel: _Panel) -> list[np.ndarray]:
    """Volatility seen inside the bars: Parkinson (1980), sqrt(mean(log(high / low)^2) / (4 log 2))."""
    high, low = panel.columns["high"], panel.columns["low"]
    squared = np.log(high / low) ** 2 / (4 * np.log(2))
    trailing = _floored(np.sqrt(panel.total(squared, 20) / 20))
    today = np.log(_floored(np.sqrt(squared)) / panel.lag(trailing, 1))
    return [np.log(trailing / panel.volatility), today, _place(panel.columns["close"], low, high)]


def _gap_feature(panel: _Panel) -> list[np.ndarray]:
    """Move from the close before to the open, in the volatility before it."""
    gap = np.log(panel.columns["open"] / panel.lag(panel.columns["close"], 1))
    return [_clipped(gap / panel.volatility_before)]


def _volume_features(panel: _Panel) -> list[np.ndarray]:
    """Log volume less its trailing mean, now and at the bar before, and what the bar before did not announce.

    Bars without volume stay out of the mean and count as `NO_VOLUME`.
    """
    volume = panel.columns["volume"]
    traded = volume > 0
    log_volume = np.log(volume, out=np.full(len(volume), -np.inf), where=traded)
    n_traded = panel.total(traded.astype(np.float64), LONGEST_WINDOW)
    level = panel.total(np.where(traded, log_volume, 0), LONGEST_WINDOW) / np.maximum(n_traded, 1)
    now, before = (np.maximum(x - level, NO_VOLUME) for x in (log_volume, panel.lag(log_volume, 1)))
    return [now, before, now - VOLUME_PERSISTENCE * before]


def _cross_section_features(panel: _Panel) -> list[np.ndarray]:
    """Mean return of the date's tickers in the ticker's own volatility; rank of its return among them, -1..1."""
    return [_clipped(panel.columns["market_return"] / panel.volatility_before), panel.columns["return_rank"]]


def _weekday_features(panel: _Panel) -> list[np.ndarray]:
    angle = 2 * np.pi * panel.columns["weekday"] / 7
    return [np.sin(angle), np.cos(angle)]


_FAMILIES = (
    _Family(
        (*(f"return_lag_{k}" for k in range(6)), *(f"momentum_{k}" for k in (5, 10, 20, 60))), (), _return_features
    ),
    _Family(("log_volatility_20", "volatility_5_to_20", "volatility_20_to_60"), (), _volatility_features),
    _Family(
        ("relative_strength_14", "distance_to_mean_20", "distance_to_mean_60", "place_in_range_20", "drawdown_60"),
        (),
        _position_features,
    ),
    _Family(("range_volatility_20", "range_shock", "close_in_range"), ("high", "low"), _range_features),
    _Family(("overnight_gap",), ("open",), _gap_feature),
    _Family(("volume_shock", "volume_shock_lag_1", "volume_surprise"), ("volume",), _volume_features),
    _Family(("market_return", "return_rank"), ("market_return",), _cross_section_features),
    _Family(("weekday_sin", "weekday_cos"), ("weekday",), _weekday_features),
)


def _blocks(bars: BarIndex) -> Iterator[slice]:
    """Slices of whole segments with about `BLOCK_ROWS` rows each."""
    start, n = 0, len(bars.date)
    while start < n:
        stop = int(bars.last_row[min(start + BLOCK_ROWS, n) - 1]) + 1
        yield slice(start, stop)
        start = stop


def _shifted(x: np.ndarray, k: int) -> np.ndarray:
    """`x` k rows earlier, NaN in the first k."""
    out = np.full(len(x), np.nan)
    out[k:] = x[: max(0, len(x) - k)]
    return out


def _place(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Place of `x` between `low` (-1) and `high` (1); 0 where the two are equal."""
    width = high - low
    return np.clip((2 * x - high - low) / np.where(width > 0, width, 1), -1, 1)


def _floored(volatility: np.ndarray) -> np.ndarray:
    return np.maximum(volatility, MIN_VOLATILITY)


def _clipped(score: np.ndarray) -> np.ndarray:
    return np.clip(score, -MAX_SCORE, MAX_SCORE)
