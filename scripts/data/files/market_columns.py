"""Columns of a market file as bars: names, dates, prices and tickers, in one row for each ticker and date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from scripts.config.experiment import DataConfig
from scripts.data.files.arrow_cells import is_text, plain_type
from scripts.data.files.cells import checked_numbers, column_numbers, read_dates
from scripts.data.files.column_names import missing_column, nearest_name
from scripts.data.files.date_style import looks_like_date
from scripts.data.files.market_names import (
    KNOWN,
    LEVEL,
    PRICES,
    VALUES,
    adjusted_role,
    is_price_name,
    plain_name,
    roles_of,
    value_role,
)
from scripts.data.files.raw_tables import RawTable, with_style
from scripts.data.files.spelling import MISSING_NUMBERS
from scripts.errors import InputError
from scripts.storage.printable import listed

LEAN_UNITS, DATABENTO_UNITS = 1e4, 1e9
_LEAN_DATE = re.compile(r"\d{8} \d\d:\d\d", re.ASCII)
MAX_FOOTER = 5  # rows at the end that are not bars, such as a total


@dataclass(frozen=True)
class MarketColumns:
    """Columns of a market.

    Attributes
    ----------
    source : RawTable
        The file, whose rows are those of the arrays.
    dates : ndarray of datetime64[ns], shape (n_rows,)
    tickers : ndarray of object, shape (n_rows,)
    values : dict of str to ndarray of float64, shape (n_rows,)
        Prices, volume and their adjusted forms by role; NaN where missing.
    ignored : tuple of str
        Columns of the file that are not used.
    notes : tuple of str
    roles : dict of str to str
        Column of the file by its role.
    """

    source: RawTable
    dates: np.ndarray
    tickers: np.ndarray
    values: dict[str, np.ndarray]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    roles: dict[str, str]

    def take(self, rows: np.ndarray) -> MarketColumns:
        """Return these rows, by position or as a mask."""
        return replace(
            self,
            source=self.source.take(rows),
            dates=self.dates[rows],
            tickers=self.tickers[rows],
            values={name: own[rows] for name, own in self.values.items()},
        )

    def noted(self, *notes: str) -> MarketColumns:
        """Return the columns with further notes."""
        return replace(self, notes=(*self.notes, *notes))


def market_columns(table: RawTable, name: str, config: DataConfig) -> MarketColumns:
    """Find and read the columns of a market.

    Parameters
    ----------
    name : str
        Ticker of a file without a column for it.
    config : DataConfig
        What is declared of columns, dates and numbers.

    Raises
    ------
    InputError
        Dates or prices are missing or have two readings.
    """
    if any(LEVEL in own for own in table.columns):
        return _of_levels(table, config)
    names = list(table.columns)
    roles = roles_of(names, {str(role): own for role, own in config.columns.items()}, table.path)
    if "date" not in roles:
        roles |= _first_dated(table, names)
    if "date" not in roles:
        raise _missing("date", names, table.path)
    if "close" not in roles and "adjusted_close" not in roles:
        return _of_closes(table, roles, config)
    valued = (*VALUES, "price_divisor")
    wanted = {role: own for role, own in roles.items() if role.removeprefix("adjusted_") in valued}
    series = [own for role, own in wanted.items() if role.removeprefix("adjusted_") in PRICES]
    table, dates, notes = _dated(table, roles, config)
    tickers, n_tickers, ticker_notes = _tickers(table, roles, name)
    volumes = [own for role, own in wanted.items() if role.endswith("volume")]
    # Prices of several tickers may jump from one row to the next.
    table = with_style(table, config, list(wanted.values()), series if n_tickers == 1 else (), volumes)
    values = {role: _numbers(table, own) for role, own in wanted.items()}
    values, vendor_notes = _by_crsp(values, roles, table.path)
    values, unit_notes = _in_units(values, table, roles["date"])
    notes += (*vendor_notes, *unit_notes)
    renamed = [f"{own} as {role}" for role, own in roles.items() if _is_news(role, own)]
    notes += (f"{table.path}: columns read: {listed(renamed, 12)}",) if renamed else ()
    used = {*roles.values(), *([config.cost_bps_column] if config.cost_bps_column else [])}
    ignored = tuple(own for own in names if own not in used)
    empty = [role for role, own in values.items() if np.isnan(own).all() and role != "close"]
    notes += (f"{table.path}: columns without values: {listed([roles[role] for role in empty])}",) if empty else ()
    values = {role: own for role, own in values.items() if role not in empty}
    return MarketColumns(table, dates, tickers, values, ignored, (*notes, *ticker_notes), roles)


def _by_crsp(
    values: dict[str, np.ndarray], roles: dict[str, str], path: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Prices by the conventions of CRSP: a negative one is the mean of bid and ask, a factor adjusts for splits."""
    notes = []
    if plain_name(roles.get("close", "")) == "prc" and (bad := values["close"] < 0).any():
        values = {**values, "close": np.abs(values["close"])}
        notes.append(
            f"{path}: {int(bad.sum())} negative {roles['close']} are means of bid and ask, as in CRSP: sign dropped"
        )
    divisor = values.pop("price_divisor", None)
    if divisor is None:
        return values, tuple(notes)
    adjusted = {f"adjusted_{name}": own / divisor for name, own in values.items() if name in PRICES}
    if "volume" in values:
        adjusted["adjusted_volume"] = values["volume"] * divisor
    return values | adjusted, (*notes, f"{path}: adjusted prices are those divided by {roles['price_divisor']}")


def _in_units(
    values: dict[str, np.ndarray], table: RawTable, date: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Prices of two vendors that store whole numbers: ten-thousandths by Lean, billionths by Databento."""
    prices = {name: own for name, own in values.items() if name in PRICES}
    if not all((own == np.rint(own)).all() and own.min() >= 1_000 for own in prices.values()):
        return values, ()
    dates = table.categories(date)[1]
    is_lean = table.path.lower().endswith(".zip") and all(_LEAN_DATE.fullmatch(cell) for cell in dates)
    is_databento = {"rtype", "publisher_id", "instrument_id"} <= set(table.columns) and all(
        own.min() >= 1_000_000 for own in prices.values()
    )
    if not is_lean and not is_databento:
        return values, ()
    unit = LEAN_UNITS if is_lean else DATABENTO_UNITS
    what = "ten-thousandths, as in Lean" if is_lean else "billionths, as in Databento"
    return values | {name: own / unit for name, own in prices.items()}, (f"{table.path}: prices are {what}",)


def _is_news(role: str, own: str) -> bool:
    """Return True for a column whose role a reader would not see from its name."""
    return own.lower() != role and adjusted_role(own) is None


def _missing(role: str, names: Sequence[str], where: str) -> InputError:
    """The error for a column that is not there under any known name, with the line that names it."""
    if any(map(looks_like_date, names)):
        header = "add --set 'data.header=[date, open, high, low, close, volume]' with the columns as they are"
        return missing_column(role, names, where, f"this line looks like data: {header}")
    near = nearest_name(role, names)
    return missing_column(role, names, where, f"add --set 'data.columns.{role}={near or 'NAME'}'")


def _first_dated(table: RawTable, names: Sequence[str]) -> dict[str, str]:
    """The first column, if it has dates under a name that is not known."""
    first = names[0]
    dated = first in table.temporal
    if not dated and is_text(plain_type(table.columns[first].type)):
        cells = table.cells(first)[:20]
        dated = all(looks_like_date(cell) for cell in cells)
    return {"date": first} if dated and plain_name(first) not in KNOWN["time"] else {}


def _dated(table: RawTable, roles: dict[str, str], config: DataConfig) -> tuple[RawTable, np.ndarray, tuple[str, ...]]:
    """Dates, from one column or from one of days and one of times; rows at the end without a date are left out."""
    table, notes = _without_footer(table, roles["date"])
    column = roles["date"]
    if "time" in roles and len(table.categories(roles["time"])[1]) > 1 and column not in table.temporal:
        days, times = table.cells(column), table.cells(roles["time"])
        width = max(map(len, times))
        times = [time.zfill(6) if width in (5, 6) and time.isdecimal() else time for time in times]  # 93000 is 09:30:00
        joined = pa.chunked_array([pa.array([f"{a} {b}" for a, b in zip(days, times, strict=True)], pa.large_string())])
        table = replace(table, columns={**table.columns, column: joined})
        notes += (f"{table.path}: date and time taken from {column} and {roles['time']}",)
    dates, date_notes = read_dates(table, column, config.date_format)
    return table, dates, (*notes, *date_notes)


def _without_footer(table: RawTable, column: str) -> tuple[RawTable, tuple[str, ...]]:
    """Leave out the last rows without a date, such as a total."""
    if column in table.temporal:
        return table, ()
    last = [table.cell(column, k) for k in range(max(0, len(table) - MAX_FOOTER - 1), len(table))]
    n_odd = next((k for k, cell in enumerate(reversed(last)) if looks_like_date(cell)), 0)
    if not n_odd:
        return table, ()
    odd = last[len(last) - n_odd :]
    if not all(any(map(str.isalpha, cell)) and not any(map(str.isdigit, cell)) for cell in odd):
        return table, ()
    rows = np.arange(len(table) - n_odd)
    where = table.place(len(table) - n_odd, column)
    return table.take(rows), (f"{where}: {n_odd} rows at the end without a date left out ({odd[0][:40]!a})",)


def _numbers(table: RawTable, column: str) -> np.ndarray:
    return checked_numbers(table, column, column_numbers(table, column))


def _tickers(table: RawTable, roles: dict[str, str], name: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """The ticker of each row, how many there are, and a note where the file names none."""
    if "ticker" not in roles:
        note = f"{table.path}: no column ticker, so all rows are one ticker, {name}"
        return np.full(len(table), name, dtype=object), 1, (note,)
    codes, distinct = table.categories(roles["ticker"])
    if not table.is_unicode and not all(map(str.isascii, distinct)):
        what = "tickers have letters that are not English, in an unknown encoding"
        raise InputError(what, table.path, "save the file as UTF-8 text")
    if len(gap := np.flatnonzero(distinct == "")):
        place = table.place(int((codes == gap[0]).argmax()), roles["ticker"])
        raise InputError("the ticker is missing", place, "fill it in")
    return distinct[codes], len(distinct), ()


# -----------------------------------------------------------------------------
# Files with a column for each ticker


def _of_closes(table: RawTable, roles: dict[str, str], config: DataConfig) -> MarketColumns:
    """Bars of a file whose columns are the closes of tickers."""
    others = [own for own in table.columns if own not in roles.values()]
    tickers = [own for own in others if _is_price_like(table, own)]
    if not tickers or len(tickers) < len(others) or len(roles.keys() - {"date", "time"}):
        raise _missing("close", list(table.columns), table.path)
    what = "the closes of a ticker each" if len(tickers) > 1 else "closes"
    note = f"{table.path}: no column close, so columns are taken as {what}: {listed(tickers)}"
    return _stacked(table, roles, {ticker: {"close": ticker} for ticker in tickers}, config).noted(note)


def _is_price_like(table: RawTable, column: str) -> bool:
    kind = plain_type(table.columns[column].type)
    if not is_text(kind):
        return table.floats(column) is not None
    cells = [cell for cell in table.cells(column) if cell not in MISSING_NUMBERS]
    return bool(cells) and sum(cell[:1].isdigit() or cell[:2].strip("-$.").isdigit() for cell in cells) == len(cells)


def _of_levels(table: RawTable, config: DataConfig) -> MarketColumns:
    """Bars of a file whose columns have two levels, price and ticker."""
    date = next((own for own in table.columns if LEVEL not in own), None)
    if date is None:
        raise missing_column("date", [own.replace(LEVEL, " ") for own in table.columns], table.path)
    by_ticker: dict[str, dict[str, str]] = {}
    ignored = set[str]()
    for own in table.columns:
        if LEVEL not in own:
            continue
        price, ticker = own.split(LEVEL)
        if not is_price_name(price):
            price, ticker = ticker, price
        role = value_role(price)
        if role is None:
            ignored.add(price)
        else:
            by_ticker.setdefault(ticker, {})[role] = own
    lacking = [ticker for ticker, roles in by_ticker.items() if not roles.keys() & {"close", "adjusted_close"}]
    if lacking or not by_ticker:
        shown = f" of {lacking[0]}" if lacking else ""
        raise InputError(f"has no close{shown}", table.path, "give a column Close for each ticker")
    note = f"{table.path}: two rows of names, so columns are taken as prices of {listed(list(by_ticker))}"
    found = _stacked(table, {"date": date}, by_ticker, config)
    return replace(found, ignored=tuple(sorted(ignored))).noted(note)


def _stacked(
    table: RawTable, roles: dict[str, str], by_ticker: dict[str, dict[str, str]], config: DataConfig
) -> MarketColumns:
    """One row for each ticker and date from columns by ticker."""
    table, dates, notes = _dated(table, roles, config)
    used = [own for roles_ in by_ticker.values() for own in roles_.values()]
    prices = [own for roles_ in by_ticker.values() for role, own in roles_.items() if not role.endswith("volume")]
    table = with_style(table, config, used, prices, [own for own in used if own not in prices])
    n_rows, n_tickers = len(dates), len(by_ticker)
    names = {role for roles_ in by_ticker.values() for role in roles_}
    values = {}
    for role in sorted(names):
        parts = [_numbers(table, own[role]) if role in own else np.full(n_rows, np.nan) for own in by_ticker.values()]
        values[role] = np.concatenate(parts)
    tickers = np.repeat(np.array(list(by_ticker), dtype=object), n_rows)
    values = {role: own for role, own in values.items() if not np.isnan(own).all() or role == "close"}
    rows = np.tile(np.arange(n_rows), n_tickers)
    return MarketColumns(table.take(rows), np.tile(dates, n_tickers), tickers, values, (), notes, roles)


def is_market(table: RawTable) -> bool:
    """Return True if a file has dates and a close or price, or levels of prices and tickers."""
    if any(LEVEL in own for own in table.columns):
        return True
    roles = roles_of(list(table.columns), {}, table.path)
    return "date" in roles and ("close" in roles or "adjusted_close" in roles)
