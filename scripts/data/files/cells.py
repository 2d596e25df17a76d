"""Conversion of cells to numbers and dates; ambiguous cells are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from scripts.data.files.date_style import FIRST_YEAR, ISO, LAST_YEAR, as_days, find_dates
from scripts.data.files.number_style import PLAIN, NumberStyle
from scripts.data.files.raw_tables import RawTable
from scripts.data.files.spelling import MISSING_NUMBERS
from scripts.errors import InputError
from scripts.storage.printable import and_more

MAX_COST_BPS = 10_000
MAX_NUMBER = 1e18  # float32 overflows at 3e38 and a variance squares
_INFINITE = re.compile(r"[+-]?(inf|infinity)", re.ASCII | re.IGNORECASE)
_PLAIN = frozenset("0123456789+-.eE")
_DATE_REMEDY = "write ISO 8601 dates such as 2024-03-01, or name their form, such as --set 'data.date_format=%d/%m/%Y'"


@dataclass(frozen=True)
class Numbers:
    """A column read as numbers.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        NaN where missing or unreadable.
    missing, unreadable : ndarray of bool, shape (n,)
    """

    values: np.ndarray
    missing: np.ndarray
    unreadable: np.ndarray


def read_numbers(cells: list[str], style: NumberStyle = PLAIN) -> Numbers:
    """Read cells as numbers of one style, or inf.

    Parameters
    ----------
    cells : list of str
        Without surrounding blanks.
    """
    plain = _plain_numbers(cells, style)
    if plain is not None:
        nothing = np.zeros(len(cells), dtype=bool)
        return Numbers(plain, nothing, nothing)
    # Each distinct text is parsed once: columns that get here are mostly text, dates or codes that repeat.
    codes, distinct = pd.factorize(np.array(cells, dtype=object))
    missing = np.array([cell in MISSING_NUMBERS for cell in distinct], dtype=bool)
    values = np.array([np.nan if gap else _number(cell, style) for cell, gap in zip(distinct, missing, strict=True)])
    return Numbers(values[codes], missing[codes], (np.isnan(values) & ~missing)[codes])


def column_numbers(table: RawTable, column: str) -> Numbers:
    """Return the numbers of a column: unchanged if the file has numbers, else parsed from text."""
    values = table.floats(column)
    if values is None and table.repeats(column):
        codes, distinct = table.categories(column)
        numbers = read_numbers(list(distinct), table.style)
        return Numbers(numbers.values[codes], numbers.missing[codes], numbers.unreadable[codes])
    if values is None:
        return read_numbers(table.cells(column), table.style)
    return Numbers(values, np.isnan(values), np.zeros(len(values), dtype=bool))


def checked_numbers(table: RawTable, column: str, numbers: Numbers) -> np.ndarray:
    """Values of `numbers` once every cell that is there is a finite number of sane size.

    Raises
    ------
    InputError
        Naming the first bad cell and its line.
    """
    if numbers.unreadable.any():
        first = int(numbers.unreadable.argmax())
        cell = table.cell(column, first)
        what = f"{_shown(cell)} is not a number{and_more(int(numbers.unreadable.sum()))}"
        raise InputError(what, table.place(first, column), _number_remedy(cell, table.style))
    huge = np.abs(numbers.values) > MAX_NUMBER
    if huge.any():
        first = int(huge.argmax())
        infinite = np.isinf(numbers.values[first])
        what = "is not finite" if infinite else f"is beyond {MAX_NUMBER:g}"
        remedy = "remove or correct it" if infinite else "correct it or give the column another unit"
        cell = _shown(table.cell(column, first))
        raise InputError(f"{cell} {what}{and_more(int(huge.sum()))}", table.place(first, column), remedy)
    return numbers.values


def checked_costs(table: RawTable, column: str) -> np.ndarray:
    """Costs in basis points, float64 of shape (n_rows,).

    Raises
    ------
    InputError
        As `checked_numbers`; or a cell is missing, below 0 or above `MAX_COST_BPS`.
    """
    numbers = column_numbers(table, column)
    values = checked_numbers(table, column, numbers)
    bad = numbers.missing | (values < 0) | (values > MAX_COST_BPS)
    if bad.any():
        first = int(bad.argmax())
        shown = "the cost is missing" if numbers.missing[first] else f"the cost {values[first]:g} is out of range"
        remedy = f"give the cost of each row in basis points, 0 to {MAX_COST_BPS:,}"
        raise InputError(f"{shown}{and_more(int(bad.sum()))}", table.place(first, column), remedy)
    return values


def read_dates(table: RawTable, column: str, date_format: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a column as dates.

    Parameters
    ----------
    date_format : str or None
        strptime format; None means that the column decides: ISO 8601, epochs, or written dates with one reading.

    Returns
    -------
    dates : ndarray of datetime64[ns], shape (n,)
        In UTC if the cells have a time zone, but daily bars have the days of their own clock.
    notes : tuple of str

    Raises
    ------
    InputError
        If a cell is missing, is not a date of that format or is outside 1900-2100, some cells have a time or a time
        zone and some have none, or the dates have two readings.
    """
    codes, distinct = table.categories(column)
    form, in_utc = "", False
    if date_format is not None and column not in table.temporal:
        parsed, local = _formatted_dates(distinct, date_format)
    elif (found := _written_dates(table, column, distinct)) is not None:
        parsed, local, form = found
        in_utc = form.startswith("epoch")
    else:
        parsed, local = _iso_dates(table, column, codes, distinct)
    _refuse_dates(table, column, codes, distinct, np.isnat(parsed), f"is not {_format_name(date_format)}")
    years = parsed.astype("datetime64[Y]").astype(np.int64) + 1970
    outside = (years < FIRST_YEAR) | (years > LAST_YEAR)
    _refuse_dates(table, column, codes, distinct, outside, f"is outside {FIRST_YEAR}-{LAST_YEAR}")
    parsed = parsed.astype("datetime64[ns]")
    local = None if local is None else local.astype("datetime64[ns]")
    days, how = as_days(parsed, local, in_utc or local is not None)
    what = [f"dates read as {form}"] if form else []
    what += [how] if how else []
    notes = (f"{table.path}, column {column}: {', '.join(what)}",) if what else ()
    return days[codes], notes


def _written_dates(
    table: RawTable, column: str, distinct: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, str] | None:
    """Dates that are not ISO 8601, if there are some; cells that are missing have none."""
    there = np.array([cell not in MISSING_NUMBERS for cell in distinct], dtype=bool)
    if not there.any() or any(ISO.fullmatch(cell) for cell in distinct[there][:3]):
        return None
    found = find_dates(distinct[there].tolist(), f"{table.path}, column {column}")
    if found is None:
        return None
    utc = np.full(len(distinct), np.datetime64("NaT"), dtype="datetime64[ns]")
    utc[there] = found.utc
    if found.local is None:
        return utc, None, found.form
    local = utc.copy()
    local[there] = found.local
    return utc, local, found.form


def _plain_numbers(cells: list[str], style: NumberStyle) -> np.ndarray | None:
    """Return the values of a column with only plain numbers, or None."""
    # float() also reads words, underscores and foreign digits, so the letters are looked at first.
    text = "".join(cells)
    if style.thousands:
        return None
    if style.decimal != ".":
        if "." in text:
            return None
        text, cells = text.replace(style.decimal, "."), [cell.replace(style.decimal, ".") for cell in cells]
    if not _PLAIN.issuperset(text):
        return None
    try:
        return np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))
    except ValueError:
        return None


def _number(cell: str, style: NumberStyle) -> float:
    """Return the value of one cell, NaN if it is not a number."""
    return float(cell) if _INFINITE.fullmatch(cell) else style.value(cell)


def _number_remedy(cell: str, style: NumberStyle) -> str:
    example = f"1234{style.decimal}5" if not style.thousands else f"1{style.thousands}234{style.decimal}5"
    return f"write numbers such as {example} ({style.in_words()}), and leave missing cells empty"


def _iso_dates(
    table: RawTable, column: str, codes: np.ndarray, distinct: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Distinct cells as dates (NaT where they are none), and on the clock of their time zones if they have any."""
    matches = [ISO.fullmatch(cell) for cell in distinct]
    bad = np.array([match is None for match in matches], dtype=bool)
    _refuse_dates(table, column, codes, distinct, bad, "is not an ISO 8601 date")
    # Years beyond datetime64[ns] would look unparsable, so they are reported here.
    years = np.array([int(match["year"]) for match in matches if match])
    outside = (years < FIRST_YEAR) | (years > LAST_YEAR)
    _refuse_dates(table, column, codes, distinct, outside, f"is outside {FIRST_YEAR}-{LAST_YEAR}")
    zone = np.array([match["zone"] is not None for match in matches if match])
    time = np.array([match["time"] is not None for match in matches if match])
    for has, name in ((zone, "time zone"), (time, "time of day")):
        if has.any() and not has.all():
            other = int(has[codes].argmax())
            what = f"has no {name}, unlike {table.unit} {table.lines[other]}"
            _refuse_dates(table, column, codes, distinct, ~has, what, f"give all dates a {name}, or none")
    parsed = pd.to_datetime(pd.Series(distinct, dtype="str"), format="ISO8601", errors="coerce", utc=bool(zone.all()))
    if not zone.all():
        return _naive(parsed), None
    if (named := table.zone(column)) is not None:
        return _naive(parsed), _naive(parsed.dt.tz_convert(named))
    walls = [cell[: match.start("zone")] for cell, match in zip(distinct, matches, strict=True) if match]
    return _naive(parsed), _naive(pd.to_datetime(pd.Series(walls, dtype="str"), format="ISO8601", errors="coerce"))


def _formatted_dates(distinct: np.ndarray, date_format: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Parse dates as `_iso_dates`, by a format."""
    zoned = "%z" in date_format
    # The century would be guessed: strptime reads 69 as 1969 and 68 as 2068.
    if "%y" in date_format.replace("%%", ""):
        what = f"{date_format!r} has years of two digits, whose century is not known"
        raise InputError(what, "data.date_format", "write years of four digits, and %Y in place of %y")
    try:
        parsed = pd.to_datetime(pd.Series(distinct, dtype="str"), format=date_format, errors="coerce", utc=zoned)
    except ValueError as error:
        raise InputError(f"{date_format!r} is not a strptime format ({error})", "data.date_format", "fix it") from None
    if not zoned:
        return _naive(parsed), None
    good = ~parsed.isna().to_numpy()
    walls = np.full(len(distinct), np.datetime64("NaT"), dtype="datetime64[us]")
    walls[good] = [np.datetime64(datetime.strptime(cell, date_format).replace(tzinfo=None)) for cell in distinct[good]]
    return _naive(parsed), walls


def _naive(dates: pd.Series) -> np.ndarray:
    return dates.dt.tz_localize(None).to_numpy() if dates.dt.tz is not None else dates.to_numpy()


def _refuse_dates(
    table: RawTable,
    column: str,
    codes: np.ndarray,
    distinct: np.ndarray,
    bad: np.ndarray,
    what: str,
    remedy: str = _DATE_REMEDY,
) -> None:
    """Raise InputError for the first cell, in file order, whose distinct value is bad."""
    if not bad.any():
        return
    rows = bad[codes]
    first = int(rows.argmax())
    cell = distinct[codes[first]]
    text = f"{_shown(cell)} {what}" if cell not in MISSING_NUMBERS else "the date is missing"
    raise InputError(f"{text}{and_more(int(rows.sum()))}", table.place(first, column), remedy)


def _format_name(date_format: str | None) -> str:
    return "ISO 8601 date" if date_format is None else f"date of the form {date_format}"


def _shown(cell: str) -> str:
    return ascii(cell if len(cell) <= 40 else cell[:37] + "...")
