"""Repairs of a market's bars, each with a note: adjusted prices, rows without prices, a few other defects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.market_columns import MarketColumns
from scripts.data.files.market_names import PRICES, VALUES
from scripts.data.table import shown
from scripts.errors import InputError
from scripts.storage.printable import and_more

MAX_SHARE = 0.01  # of a ticker's rows that may be repaired or left out
ROUNDING = 1e-4  # relative; adjusted prices are often rounded to four decimals


def repaired(bars: MarketColumns, config: DataConfig) -> MarketColumns:
    """Return the bars with adjusted prices where the file has them, without unusable rows.

    Parameters
    ----------
    config : DataConfig
        `prices` and `repair`; with strict repair nothing is changed but rows without any price.

    Raises
    ------
    InputError
        Prices are negative, or more than `MAX_SHARE` of a ticker's rows are unusable.
    """
    bars = _priced_rows(bars)
    bars = _adjusted(bars) if config.prices == "adjusted" else _raw(bars)
    bars = _without_unusable(bars, config)
    return _with_volumes(bars, config)


def _names(bars: MarketColumns) -> list[str]:
    return [name for name in PRICES if name in bars.values]


def _priced_rows(bars: MarketColumns) -> MarketColumns:
    """Leave out rows without any price: days before a listing, holidays, a day that has not ended."""
    names = [name for name in bars.values if not name.endswith("volume")]
    there = np.logical_or.reduce([~np.isnan(bars.values[name]) for name in names])
    if there.all():
        return bars
    if not there.any():
        raise InputError("has no prices", bars.source.path, "give a file with prices")
    place = bars.source.place(int((~there).argmax()))
    return bars.take(there).noted(f"{int((~there).sum())} rows without prices left out; the first is {place}")


def _adjusted(bars: MarketColumns) -> MarketColumns:
    """Take the adjusted close and scale the other prices by its ratio to the raw one."""
    values = bars.values
    if "adjusted_close" not in values:
        return _raw(bars)
    close = values["adjusted_close"]
    if "close" not in values:
        return _of_adjusted_close(bars, close)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = close / values["close"]
    prices = {name: values.get(f"adjusted_{name}", values[name] * ratio) for name in _names(bars) if name != "close"}
    volume = {name: values.get(f"adjusted_{name}", values[name]) for name in ("volume",) if name in values}
    result = _only({**prices, "close": close, **volume}, bars)
    changed = float(np.nanmax(np.abs(ratio - 1.0), initial=0.0))
    if changed < ROUNDING:
        return result
    how = "the adjusted close is used, and open, high and low are scaled with it; use --set data.prices=raw for others"
    return result.noted(f"{bars.source.path}: {how}")


def _of_adjusted_close(bars: MarketColumns, close: np.ndarray) -> MarketColumns:
    """Bars of a file that has the adjusted close only: other prices fit if they are adjusted, too."""
    values = {name: bars.values.get(f"adjusted_{name}", bars.values[name]) for name in bars.values if "_" not in name}
    low, high = values.get("low", close), values.get("high", close)
    outside = (close < low * (1 - ROUNDING)) | (close > high * (1 + ROUNDING))
    if not outside.any():
        return _only({**values, "close": close}, bars)
    kept = {name: own for name, own in values.items() if name == "volume"}
    note = "only the close is adjusted, so open, high and low are left out"
    return _only({**kept, "close": close}, bars).noted(f"{bars.source.path}: {note}")


def _raw(bars: MarketColumns) -> MarketColumns:
    """Use the prices as they are."""
    if "close" not in bars.values:
        return _of_adjusted_close(bars, bars.values["adjusted_close"])
    unused = [name for name in bars.values if name.startswith("adjusted_")]
    kept = _only({name: own for name, own in bars.values.items() if name not in unused}, bars)
    note = f"{bars.source.path}: data.prices is raw: adjusted prices of the file not used"
    return kept.noted(note) if unused else kept


def _only(values: dict[str, np.ndarray], bars: MarketColumns) -> MarketColumns:
    known = {name: values[name] for name in VALUES if name in values}
    return replace(bars, values=known)


def _without_unusable(bars: MarketColumns, config: DataConfig) -> MarketColumns:
    """Leave out rows that lack a price or have one of zero, if they are few; refuse negative prices."""
    for name in _names(bars):
        if (negative := bars.values[name] < 0).any():
            row = int(negative.argmax())
            more = and_more(int(negative.sum()))
            what = f"{name} {bars.values[name][row]} is not positive{more}: negative prices have no returns"
            remedy = "fix or remove the row; spreads and yields need a table of their changes (data.source: table)"
            raise InputError(what, place(bars, row), remedy)
    lacking = np.logical_or.reduce([np.isnan(bars.values[name]) for name in _names(bars)])
    zero = np.logical_or.reduce([bars.values[name] == 0 for name in _names(bars)])
    return _left_out(bars, lacking | zero, config)


def _fault(bars: MarketColumns, row: int) -> tuple[str, str]:
    """Return what is wrong with a row, and the remedy."""
    for name in _names(bars):
        if np.isnan(bars.values[name][row]):
            return f"the value of column {name} is missing", "fill it in or remove the row"
    name = next(name for name in _names(bars) if bars.values[name][row] == 0)
    return f"{name} {bars.values[name][row]} is not positive", f"fix or remove the row, or the column {name}"


def _left_out(bars: MarketColumns, bad: np.ndarray, config: DataConfig) -> MarketColumns:
    """Leave out bad rows, or raise InputError if they are too many for a ticker."""
    if not bad.any():
        return bars
    first = int(bad.argmax())
    too_many = config.repair == "strict" or bool((_shares(bars, bad) > MAX_SHARE).any())
    what, remedy = _fault(bars, first)
    if too_many:
        raise InputError(what + and_more(int(bad.sum())), place(bars, first), remedy)
    note = f"{int(bad.sum())} rows left out; the first is {place(bars, first)} ({what})"
    return bars.take(~bad).noted(note)


def _shares(bars: MarketColumns, bad: np.ndarray) -> np.ndarray:
    """Share of bad rows of each ticker."""
    codes, distinct = pd.factorize(bars.tickers)
    counts = np.bincount(codes, minlength=len(distinct))
    return np.asarray(np.bincount(codes, weights=bad, minlength=len(distinct)) / counts)


def _with_volumes(bars: MarketColumns, config: DataConfig) -> MarketColumns:
    """Give a bar without a volume that of the bar before it, if they are few."""
    if "volume" not in bars.values or not (missing := np.isnan(bars.values["volume"])).any():
        return bars
    first = int(missing.argmax())
    if config.repair == "strict" or (_shares(bars, missing) > MAX_SHARE).any():
        what = f"volume is missing{and_more(int(missing.sum()))}"
        raise InputError(what, place(bars, first), "fill it in, or remove the column")
    order = np.lexsort((bars.dates, pd.factorize(bars.tickers)[0]))
    frame = pd.Series(bars.values["volume"][order]).groupby(bars.tickers[order], sort=False)
    # Nothing from later bars: a volume before the first known one counts as no trade.
    filled = frame.transform(lambda own: own.ffill()).fillna(0.0).to_numpy()
    volume = np.empty_like(filled)
    volume[order] = filled
    what = f"{int(missing.sum())} missing volumes taken from the bar before (0 if there is none)"
    return replace(bars, values={**bars.values, "volume": volume}).noted(f"{what}; the first is {place(bars, first)}")


def place(bars: MarketColumns, row: int) -> str:
    """Return line, ticker and date of a bar, for messages."""
    return f"{bars.source.place(row)}, ticker {bars.tickers[row]}, date {shown(pd.Timestamp(bars.dates[row]))}"
