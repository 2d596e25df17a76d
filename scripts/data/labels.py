"""Labels of a panel of bars: next-bar and k-bar direction, triple barrier, volatility regime; and forward returns.

A label reads only bars of its segment and is undefined if some of them are missing, even if the outcome
is known already: otherwise the end of the sample would have only the quick outcomes. The exception is a history that
ended before the data do, as by a delisting: its last labels take the last price.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.features import MAX_HALT, MIN_VOLATILITY, BarIndex, log_returns, trailing
from scripts.errors import InputError

BARRIER_VOLATILITY_WINDOW = 20
REGIME_VOLATILITY_WINDOW = 5
_MANY_TIES = 0.01
FILLED_AT_CLOSE = "no open: simulated fills are at the close that decides (close_to_close)"


@dataclass(frozen=True)
class Labels:
    """Labels of each row, what they read, and what they earn.

    Attributes
    ----------
    y : ndarray of int64, shape (n_rows,)
        Position in `classes`, -1 where not defined.
    label_end : ndarray of int64, shape (n_rows,)
        Calendar position of the last bar that the label reads, -1 where not defined. A label that takes the last price
        of its history ends on the date from which that counts as ended.
    lookback : int
        Bars that the label's definition, its naive rule and its features read backwards, the row's own included.
    forward_return : ndarray of float64, shape (n_rows,)
        Return of a position of +1 decided at the close of the row over one bar, a fraction; NaN if unknown.
        "next_open": the ticker's next open to the open after it; "close_to_close": this close to the next one. The
        next bar is the ticker's own, so that a position is carried over missing dates and halts.
    positions : tuple of float
        Position of each class.
    naive : dict of str to ndarray of int64, shape (n_rows,)
        Class that the label's own naive rule predicts, -1 where unknown.
    features : dict of str to ndarray of float32, shape (n_rows,)
        Causal features that the label's definition suggests, NaN where unknown.
    touches : Touches or None
        Where a triple-barrier label ends.
    """

    y: np.ndarray
    classes: tuple[str, ...]
    label_end: np.ndarray
    lookback: int
    forward_return: np.ndarray
    positions: tuple[float, ...]
    naive: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    notes: tuple[str, ...]
    touches: Touches | None = None


@dataclass(frozen=True)
class _Definition:
    """One kind of label: classes (-1 unknown) and the bars it reads."""

    y: np.ndarray
    classes: tuple[str, ...]
    positions: tuple[float, ...]
    persistence: np.ndarray
    lookback: int
    features: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    touches: Touches | None = None
    delay: int = 0  # bars after the row at which the horizon starts


def market_labels(frame: pd.DataFrame, bars: BarIndex, config: DataConfig) -> Labels:
    """Label every bar.

    Parameters
    ----------
    frame : DataFrame
        "close" and any of "open", "high", "low", float64, positive.
    bars : BarIndex
        Index of the same frame.
    config : DataConfig
        `label`, `horizon`, `label_price`, `ties`, `barrier_width`, `regime_window` and `fill` are read.
    """
    kinds = {"triple_barrier": _triple_barrier, "volatility_regime": _volatility_regime}
    definition = kinds.get(config.label, _direction)(frame, bars, config)
    row, defined = np.arange(len(frame)), definition.y >= 0
    last = row + config.horizon + definition.delay
    end = np.where(last > bars.last_row, _date_known_ended(bars), bars.date[np.minimum(last, bars.last_row)])
    forward_return, return_notes = _forward_return(frame, bars, config.fill)
    return Labels(
        y=definition.y,
        classes=definition.classes,
        label_end=np.where(defined, end, -1),
        lookback=definition.lookback,
        forward_return=forward_return,
        positions=definition.positions,
        naive={"persistence": definition.persistence},
        features=definition.features,
        notes=(*definition.notes, *return_notes),
        touches=definition.touches,
    )


@dataclass(frozen=True)
class Touches:
    """Barriers touched first; every array of shape (n_rows,).

    Attributes
    ----------
    side : ndarray of float64
        -1.0 lower, 0.0 neither, 1.0 upper; NaN without a width or with fewer than `horizon` bars ahead. In a history
        that ended the last bar takes the place of the missing ones.
    after : ndarray of int64
        Bars from the row to the one of the touch; without one the horizon, or to the last bar of an ended history.
    price : ndarray of float64
        Price at which a position is left: the barrier, the open beyond it, or the close of a bar that touches both and
        of the last bar; NaN where `side` is.
    at_open : ndarray of bool
        Whether that is the open of its bar.
    """

    side: np.ndarray
    after: np.ndarray
    price: np.ndarray
    at_open: np.ndarray


def find_touches(quotes: dict[str, np.ndarray], width: np.ndarray, horizon: int, bars: BarIndex) -> Touches:
    """Find the barrier that each row's price touches first, when, and at what price, by the rule of `_triple_barrier`.

    Parameters
    ----------
    quotes : dict of str to ndarray of float64, shape (n_rows,)
        "open", "high", "low" and "close"; NaN opens decide nothing.
    width : ndarray of float64, shape (n_rows,)
        Distance of both barriers as a fraction of the close, positive; NaN where there is none.
    horizon : int
        Bars looked at, at least 1.
    """
    close = quotes["close"]
    upper, lower = close * (1 + width), close * (1 - width)
    left, ended = bars.last_row - np.arange(len(close)), _date_known_ended(bars) >= 0
    after = np.where(ended, np.minimum(horizon, left), horizon)
    undecided = np.flatnonzero(~np.isnan(width) & (after > 0) & (after <= left))
    side, price = np.full(len(close), np.nan), np.full(len(close), np.nan)
    side[undecided], price[undecided] = 0.0, close[(np.arange(len(close)) + after)[undecided]]
    at_open = np.zeros(len(close), dtype=bool)
    for k in range(1, horizon + 1):
        undecided = undecided[after[undecided] >= k]
        o, h, low, c = (quotes[name][undecided + k] for name in ("open", "high", "low", "close"))
        up, down = upper[undecided], lower[undecided]
        touches_up, touches_down = h >= up, low <= down
        gap_up, gap_down = o >= up, o <= down
        both, gap = touches_up & touches_down, gap_up | gap_down
        cases = [gap_up, gap_down, both, touches_up, touches_down]
        found = np.select(cases, [1, -1, np.sign(c - close[undecided]), 1, -1], 0)
        left_at = np.select(cases, [o, o, c, up, down], np.nan)
        touched = touches_up | touches_down | gap
        rows = undecided[touched]
        side[rows], price[rows], after[rows], at_open[rows] = found[touched], left_at[touched], k, gap[touched]
        undecided = undecided[~touched]
    return Touches(side, after, price, at_open)


def _direction(frame: pd.DataFrame, bars: BarIndex, config: DataConfig) -> _Definition:
    """Class 1 if the price k bars ahead is strictly higher; persistence repeats the direction of the last k closes.

    The price is the close, or the open of the next bar. A tie, that is an unchanged price, has no label or class 0.
    """
    close, k, delay = frame["close"].to_numpy(np.float64), config.horizon, int(config.label_price == "next_open")
    if delay and "open" not in frame:
        raise InputError(
            "has no column open, which data.label_price: next_open reads",
            str(config.path),
            "set data.label_price=close",
        )
    price = frame["open"].to_numpy(np.float64) if delay else close
    entry, leave = _bars_off(price, delay, bars), _bars_off(price, k + delay, bars)
    last_price = np.isnan(leave) & ~np.isnan(entry) & (_date_known_ended(bars) >= 0)
    last_price &= np.arange(len(close)) < bars.last_row
    leave[last_price] = close[bars.last_row[last_price]]
    known, tie = ~np.isnan(entry) & ~np.isnan(leave), leave == entry
    y = np.where(known & ~(tie & (config.ties == "drop")), leave > entry, -1)
    before = _bars_off(close, -k, bars)
    persistence = np.where(np.isnan(before), -1, close > before)
    notes = _note_of_ties(int(tie.sum()), int(known.sum()), config)
    return _Definition(y, ("down", "up"), (-1.0, 1.0), persistence, k + 1, notes=notes, delay=delay)


def _note_of_ties(n_ties: int, n_known: int, config: DataConfig) -> tuple[str, ...]:
    """Return a note where ties are more than a few."""
    if n_ties <= _MANY_TIES * n_known:
        return ()
    meaning = "have no label, but are traded" if config.ties == "drop" else "are labelled down"
    return (f"{n_ties / n_known:.1%} of the rows are ties (unchanged price), which {meaning} (data.ties)",)


def _triple_barrier(frame: pd.DataFrame, bars: BarIndex, config: DataConfig) -> _Definition:
    """Return the barrier around the close that is touched first within the horizon (Lopez de Prado 2018, section 3.4).

    The barriers are at close * (1 +- width), width = barrier_width * volatility * sqrt(horizon), the volatility being
    the root mean square of the last 20 log returns. Of each bar in order: the open beyond a barrier decides;
    else a bar that touches both takes the sign of its close to the row's (none if equal); else the one it touches.
    Persistence: the side on which the last `horizon` bars' move would have left the same barriers.
    """
    close, horizon = frame["close"].to_numpy(np.float64), config.horizon
    volatility = _volatility(close, BARRIER_VOLATILITY_WINDOW, bars)
    width = config.barrier_width * volatility * np.sqrt(horizon)
    # Prices that have not moved give no barrier: both would be touched at once.
    width[~(width > 0)] = np.nan
    touches = find_touches(_quotes(frame), width, horizon, bars)
    side = touches.side
    y = np.where(np.isnan(side), -1, np.nan_to_num(side) + 1).astype(np.int64)
    move = close / _bars_off(close, -horizon, bars) - 1
    known = ~np.isnan(move) & ~np.isnan(width)
    persistence = np.where(known, 1 + (move >= width).astype(np.int64) - (move <= -width), -1)
    lookback = max(BARRIER_VOLATILITY_WINDOW, horizon) + 1
    closes_only = not {"high", "low"} <= set(frame.columns)
    notes = ("no high and low: the barriers are compared with closes",) if closes_only else ()
    return _Definition(
        y,
        ("down", "timeout", "up"),
        (-1.0, 0.0, 1.0),
        persistence,
        lookback,
        notes=notes,
        touches=touches,
    )


def _volatility_regime(frame: pd.DataFrame, bars: BarIndex, config: DataConfig) -> _Definition:
    """Class 1 where the realised volatility `horizon` bars ahead is strictly above its trailing median.

    Realised volatility: root mean square of the last 5 log returns; median: of its last `regime_window` values, the
    row's included. Persistence: today's value against the same median. The ratio of the two is offered as a feature.
    """
    close = frame["close"].to_numpy(np.float64)
    realised = _volatility(close, REGIME_VOLATILITY_WINDOW, bars)
    # A window that reaches into the previous segment contains one of the NaN at the start of each segment.
    median = pd.Series(realised).rolling(config.regime_window).median().to_numpy()
    ahead = _bars_off(realised, config.horizon, bars)
    y = np.where(np.isnan(ahead) | np.isnan(median), -1, ahead > median)
    persistence = np.where(np.isnan(median), -1, realised > median)
    ratio = np.log(np.maximum(realised, MIN_VOLATILITY) / np.maximum(median, MIN_VOLATILITY))
    lookback = config.regime_window + REGIME_VOLATILITY_WINDOW
    notes: tuple[str, ...] = ()
    if config.horizon < REGIME_VOLATILITY_WINDOW:
        shared = REGIME_VOLATILITY_WINDOW - config.horizon
        notes = (
            f"volatility_regime {config.horizon} bars ahead shares {shared} of {REGIME_VOLATILITY_WINDOW} returns with"
            f" the value known today; set data.horizon to {REGIME_VOLATILITY_WINDOW} to predict only unknown returns",
        )
    features = {"volatility_to_median": ratio.astype(np.float32)}
    return _Definition(y, ("calm", "turbulent"), (1.0, 0.0), persistence, lookback, features, notes)


def _forward_return(frame: pd.DataFrame, bars: BarIndex, fill: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return earned by a position of +1 decided at each row, and a note where the wish could not be met."""
    notes: tuple[str, ...] = ()
    if fill == "next_open" and "open" not in frame:
        fill, notes = "close_to_close", (FILLED_AT_CLOSE,)
    price = frame["open" if fill == "next_open" else "close"].to_numpy(np.float64)
    entry, leave = (1, 2) if fill == "next_open" else (0, 1)
    out = np.full(len(price), np.nan)
    held = bars.ticker[leave:] == bars.ticker[: len(price) - leave]
    out[: len(held)][held] = (price[leave:] / price[entry : len(price) - leave + entry])[held] - 1
    return out, notes


def _quotes(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Open, high, low and close; without both extremes the closes replace all, so that neither side is favoured."""
    have_range = {"high", "low"} <= set(frame.columns)
    names = {"close": "close", "high": "high" if have_range else "close", "low": "low" if have_range else "close"}
    quotes = {name: frame[column].to_numpy(np.float64) for name, column in names.items()}
    quotes["open"] = frame["open"].to_numpy(np.float64) if "open" in frame else np.full(len(frame), np.nan)
    return quotes


def _volatility(close: np.ndarray, window: int, bars: BarIndex) -> np.ndarray:
    """Root mean square of the last `window` log returns of the segment; NaN where there are fewer."""
    history = bars.history
    return np.asarray(np.sqrt(trailing(np.add, log_returns(close, history) ** 2, window, history) / window))


def _date_known_ended(bars: BarIndex) -> np.ndarray:
    """Calendar position from which the history of each row's segment counts as ended, shape (n_rows,).

    That is once the ticker has missed more dates than a halt may have, and than it missed between any of its bars
    before. -1 where it has not: whether it is traded again later must not matter to what is known before.
    """
    ticker, date, last = bars.ticker, bars.date, bars.last_row
    missed = np.concatenate([[0], np.where(np.diff(ticker) == 0, np.diff(date), 0)])[: len(date)]
    longest = pd.Series(missed).groupby(ticker).cummax().to_numpy()
    known = date[last] + np.maximum(MAX_HALT + 1, longest[last])
    after = np.minimum(last + 1, len(date) - 1)
    goes_on = (after > last) & (ticker[after] == ticker) & (date[after] <= known)
    return np.where(~goes_on & (known < len(bars.dates)), known, -1)


def _bars_off(x: np.ndarray, k: int, bars: BarIndex) -> np.ndarray:
    """Return `x` k bars ahead (k < 0: back) in the same segment; NaN without such a bar."""
    row = np.arange(len(x)) + k
    inside = (row >= bars.first_row) & (row <= bars.last_row)
    return np.where(inside, x[np.clip(row, 0, len(x) - 1)], np.nan)
