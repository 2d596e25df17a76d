"""Market files: bars of one or many tickers, with every value checked and unambiguous problems repaired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.bar_checks import series_notes
from scripts.data.files.cells import checked_costs, checked_numbers, column_numbers, read_dates
from scripts.data.files.column_names import Renamed, missing_column, nearest_name
from scripts.data.files.raw_tables import RawTable, read_table
from scripts.data.table import Table, drop_copies, refuse_conflicts, sort_rows
from scripts.errors import InputError
from scripts.storage.printable import and_more, listed

PRICES = ("open", "high", "low", "close")
COLUMNS = ("date", "ticker", *PRICES, "volume")
REQUIRED = ("date", "close")
KEY = ("ticker", "date")
ROUNDING = 1e-4  # relative; adjusted prices are often rounded to four decimals


def read_market(path: Path, config: DataConfig) -> Table:
    """Read a market file.

    Parameters
    ----------
    path : Path
        CSV (plain or gzipped) or Parquet with date, close and, if they exist, ticker, open, high, low, volume, in upper
        or lower case.

    Returns
    -------
    Table
        date (datetime64[ns]), ticker (text), prices, volume and the costs that `config` names (float64), sorted by
        ticker, then date. Its notes report repairs, skipped parts and suspicious values.

    Raises
    ------
    InputError
        If a problem cannot be repaired without guessing.
    """
    required = REQUIRED if config.cost_bps_column is None else (*REQUIRED, config.cost_bps_column)
    return bars_of(read_table(path, config, required), path.name.split(".")[0] or path.name, config)


def bars_of(table: RawTable, name: str, config: DataConfig) -> Table:
    """Bars of the cells of a table, which has the columns `REQUIRED`; the rest as `read_market`.

    `name` is the ticker of a table without a column for it.
    """
    cost = config.cost_bps_column
    table = replace(table, columns=Renamed(table.columns, COLUMNS if cost is None else (*COLUMNS, cost)))
    tickers, ticker_notes = _tickers(table, name)
    dates, date_notes = read_dates(table, "date", config.date_format)
    columns = {"date": dates, "ticker": pd.array(tickers, dtype="str")}
    columns |= {name: _numbers(table, name) for name in COLUMNS[2:] if name in table.columns}
    columns |= {} if cost is None else {cost: checked_costs(table, cost)}
    bars = Table.of(pd.DataFrame(columns, copy=False), source=table)
    bars = bars.noted(*table.notes, *_column_notes(table, cost), *ticker_notes, *date_notes)
    _check_signs(bars)
    bars = drop_copies(_repair_ranges(bars), KEY)
    refuse_conflicts(bars, KEY)
    bars = sort_rows(bars, "date", "ticker", group_first=True)
    return bars.noted(*series_notes(bars.frame, lambda row: bars.place(row, KEY), table.path))


def _column_notes(table: RawTable, cost: str | None) -> list[str]:
    extra = [name for name in table.columns if name not in (*COLUMNS, cost)]
    if not extra:
        return []
    absent = [name for name in COLUMNS if name not in table.columns and name != "ticker"]
    near = [f"{nearest} may be meant as {name}" for name in absent if (nearest := nearest_name(name, extra))]
    return [f"{table.path}: columns ignored: {listed(extra)}" + "".join(f"; {hint}" for hint in near)]


def _tickers(table: RawTable, name: str) -> tuple[np.ndarray, list[str]]:
    # All rows as one ticker would mix the prices of several, so a name that may be meant as ticker is an error.
    if "ticker" not in table.columns:
        names = [name for name in table.columns if name not in COLUMNS]
        if nearest_name("ticker", names) or "symbol" in map(str.lower, names):
            like = nearest_name("ticker", names) or nearest_name("symbol", names)
            raise missing_column("ticker", names, table.path, f"did you mean {like!r}? rename it to 'ticker'")
        note = f"{table.path}: no column ticker, so all rows are one ticker, {name}"
        return np.full(len(table), name, dtype=object), [note]
    codes, distinct = table.categories("ticker")
    if len(gap := np.flatnonzero(distinct == "")):
        raise InputError("the ticker is missing", table.place(int((codes == gap[0]).argmax()), "ticker"), "fill it in")
    return distinct[codes], []


def _numbers(table: RawTable, column: str) -> np.ndarray:
    numbers = column_numbers(table, column)
    values = checked_numbers(table, column, numbers)
    if numbers.missing.any():
        first, count = int(numbers.missing.argmax()), int(numbers.missing.sum())
        raise InputError(f"{count} values are missing", table.place(first, column), "fill them in or remove the rows")
    return values


def _refuse(bars: Table, bad: np.ndarray, what: str, remedy: str) -> None:
    """Raise InputError for the first bad bar."""
    if bad.any():
        first = int(bad.argmax())
        what = what.format(**bars.frame.iloc[first]) + and_more(int(bad.sum()))
        raise InputError(what, bars.place(first, KEY), remedy)


def _check_signs(bars: Table) -> None:
    for name in PRICES:
        if name in bars.frame:
            bad = bars.frame[name].to_numpy() <= 0
            _refuse(bars, bad, f"{name} {{{name}}} is not positive", "prices must be above 0: fix or remove the row")
    if "volume" in bars.frame:
        bad = bars.frame["volume"].to_numpy() < 0
        _refuse(bars, bad, "volume {volume} is negative", "correct or remove the row")


def _repair_ranges(bars: Table) -> Table:
    """Refuse bars whose prices contradict each other; widen the range where rounding explains it."""
    _refuse_contradictions(bars)
    prices = bars.frame[[name for name in PRICES if name in bars.frame]]
    highest, lowest = prices.max(axis=1), prices.min(axis=1)
    repaired = {name: values for name, values in (("high", highest), ("low", lowest)) if name in prices}
    changed = np.zeros(len(prices), dtype=bool)
    for name, values in repaired.items():
        changed |= (values != prices[name]).to_numpy()
    if not changed.any():
        return bars
    note = f"{int(changed.sum())} bars with a price outside of [low, high] by rounding: range widened; the first is "
    return replace(bars, frame=bars.frame.assign(**repaired)).noted(note + bars.place(int(changed.argmax()), KEY))


def _refuse_contradictions(bars: Table) -> None:
    values = {name: bars.frame[name].to_numpy() for name in PRICES if name in bars.frame}
    # Not repaired: which of two prices is wrong would be a guess. Adjusted prices differ by rounding alone.
    pairs = (("low", "high"), ("open", "high"), ("close", "high"), ("low", "open"), ("low", "close"))
    for lower, upper in pairs:
        if lower in values and upper in values:
            bad = values[upper] < values[lower] * (1 - ROUNDING)
            what = f"{upper} {{{upper}}} is below {lower} {{{lower}}}"
            _refuse(bars, bad, what, "correct or remove the row")
