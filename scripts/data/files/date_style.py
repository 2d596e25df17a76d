"""Style of the dates of a column: ISO 8601, epochs, and written dates whose order the whole column decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.data.files.arrow_cells import zone
from scripts.errors import InputError

FIRST_YEAR, LAST_YEAR = 1900, 2100
ISO = re.compile(
    r"(?P<year>\d{4})-\d\d-\d\d(?P<time>[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(?P<zone>Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII
)
# Epochs by the unit in which a date between 1980 and 2100 has this many digits.
_EPOCHS = {"s": (9, 10), "ms": (12, 13), "us": (15, 16), "ns": (18, 19)}
_EXCEL_START = np.datetime64("1899-12-30")
_EXCEL_DAYS = (20_000, 80_000)  # 1954 to 2119
_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?"
_WRITTEN = re.compile(
    r"(?:[A-Za-z]{3,9},?\s+(?=\d|[A-Za-z]{3}))?"
    r"(?P<date>\d{8}|\d{1,4}[-/. ]\d{1,2}[-/. ]\d{1,4}|\d{1,2}[-/. ]?[A-Za-z]{3,9}\.?[-/. ]?\d{2,4}|"
    r"[A-Za-z]{3,9}\.? \d{1,2},? \d{4}|\d{4}[-/]\d{1,2}|[A-Za-z]{3,9}[- ]\d{4})"
    rf"(?:[T ,]+(?P<time>{_CLOCK}|\d{{6}}|\d{{4}})(?P<half>\s*[AaPp]\.?[Mm]\.?)?)?"
    r"(?P<zone>\s*(?:Z|UTC|(?:GMT|UTC)?[-+]\d\d:?\d\d|GMT|[A-Za-z]+/[A-Za-z_]+))?",
    re.ASCII,
)
_MONTHS = r"[A-Za-z]{3,9}"
_CLEAR = 4.0  # a reading is taken if its gaps are so many times more even than those of every other


@dataclass(frozen=True)
class Dates:
    """Dates of the distinct cells of a column.

    Attributes
    ----------
    utc : ndarray of datetime64[ns]
        NaT where a cell has no date; in UTC if the cells have a time zone.
    local : ndarray of datetime64[ns] or None
        On the clock of the time zones of the cells; None without zones.
    form : str
        strptime format or a description, for notes; "" for ISO 8601.
    """

    utc: np.ndarray
    local: np.ndarray | None = None
    form: str = ""


def looks_like_date(cell: str) -> bool:
    """Return True if a cell has the form of a date or of an epoch."""
    cell = cell.strip()
    digits = cell.isascii() and cell.isdecimal()
    return bool(_WRITTEN.fullmatch(cell)) if not digits else len(cell) == 8 or 9 <= len(cell) <= 19


def find_dates(cells: Sequence[str], where: str) -> Dates | None:
    """Read cells as dates if only one reading is possible.

    Parameters
    ----------
    cells : sequence of str
        Distinct cells in file order, without missing ones; not all ISO 8601.
    where : str
        Column, for messages.

    Returns
    -------
    Dates or None
        None if most cells are not dates of a known form.

    Raises
    ------
    InputError
        Two readings are possible; the message has both.
    """
    numbers = [cell.removesuffix(".0") for cell in cells]
    n_whole = sum(cell.isascii() and cell.isdecimal() for cell in numbers)
    if 2 * n_whole > len(cells):
        return _whole_numbers(numbers)
    first = next((found for cell in cells if (found := _WRITTEN.fullmatch(cell))), None)
    return None if first is None else _written(cells, first, where)


def _whole_numbers(cells: Sequence[str]) -> Dates | None:
    """Dates such as 20240301, epochs, or days of Excel."""
    whole = [cell if cell.isascii() and cell.isdecimal() else "" for cell in cells]
    lengths = {len(cell) for cell in whole if cell}
    for length, form in ((8, "%Y%m%d"), (14, "%Y%m%d%H%M%S"), (12, "%Y%m%d%H%M")):
        if lengths == {length}:
            utc = _parsed(whole, form)
            if not np.isnat(utc[np.array(whole) != ""]).any() and _in_range(utc):
                return Dates(utc, form=form)
    values = pd.to_numeric(pd.Series(whole, dtype="str").replace("", "-1"), errors="coerce")
    there = (values >= 0).to_numpy()
    if lengths == {5} and values[there].between(*_EXCEL_DAYS).all():
        days = np.where(there, values.to_numpy(), 0).astype(np.int64)
        utc = (_EXCEL_START + days.astype("timedelta64[D]")).astype("datetime64[ns]")
        return Dates(np.where(there, utc, np.datetime64("NaT")), form="days of Excel")
    for unit, digits in _EPOCHS.items():
        if lengths and lengths <= set(range(digits[0], digits[1] + 1)):
            ticks = np.array([int(cell) if cell else np.iinfo(np.int64).min for cell in whole], dtype=np.int64)
            utc = ticks.astype(f"datetime64[{unit}]").astype("datetime64[ns]")
            if _in_range(utc, 1970):
                return Dates(utc, form=f"epoch in {unit}")
    return None


def _in_range(dates: np.ndarray, first_year: int = FIRST_YEAR) -> bool:
    years = dates[~np.isnat(dates)].astype("datetime64[Y]").astype(np.int64) + 1970
    return bool(len(years) and first_year <= years.min() and years.max() <= LAST_YEAR)


def _parsed(cells: Sequence[str], form: str) -> np.ndarray:
    dates = pd.to_datetime(pd.Series(cells, dtype="str"), format=form, errors="coerce")
    return dates.to_numpy().astype("datetime64[ns]")


def _written(cells: Sequence[str], first: re.Match[str], where: str) -> Dates | None:
    text = pd.Series(cells, dtype="str")
    parts = text.str.extract(rf"^{_WRITTEN.pattern}$", flags=re.ASCII)
    date, time, half, zones = (parts[name] for name in ("date", "time", "half", "zone"))
    readings = _orders(first["date"])
    days = [(form, own) for form in readings if (own := _days(date, form)) is not None]
    if not days:
        return None
    chosen = days[0] if len(days) == 1 else _most_even(days, where, bool(time.notna().any()))
    form, day = chosen
    clock = _clocks(time, half)
    if clock is None:
        return None
    moment = day + clock
    return _in_zone(moment, zones, form + _time_form(first), where)


def _orders(first: str) -> list[str]:
    """Strptime formats that the first date can have."""
    if re.fullmatch(r"\d{8}", first):
        return ["%Y%m%d"]
    if re.fullmatch(r"\d{4}[-/]\d{1,2}", first):
        return [f"%Y{first[4]}%m"]
    if (found := re.fullmatch(rf"({_MONTHS})([- ])\d{{4}}", first)) is not None:
        return [f"{_month(found[1])}{found[2]}%Y"]
    if (found := re.fullmatch(r"(\d{1,4})([-/. ])(\d{1,2})([-/. ])(\d{1,4})", first)) is not None:
        a, one, _, two, c = found.groups()
        if len(a) == 4:
            return [f"%Y{one}%m{two}%d"]
        if len(c) == 4:
            return [f"%m{one}%d{two}%Y", f"%d{one}%m{two}%Y"]
        return [f"%m{one}%d{two}%y", f"%d{one}%m{two}%y", f"%y{one}%m{two}%d"] if len(c) == 2 else []
    if (found := re.fullmatch(rf"\d{{1,2}}([-/. ]?)({_MONTHS}\.?)([-/. ]?)(\d{{2}}|\d{{4}})", first)) is not None:
        return [f"%d{found[1]}{_month(found[2])}{found[3]}%{'Y' if len(found[4]) == 4 else 'y'}"]
    if (found := re.fullmatch(rf"({_MONTHS}\.?) \d{{1,2}}(,?) \d{{4}}", first)) is not None:
        return [f"{_month(found[1])} %d{found[2]} %Y"]
    return []


def _month(name: str) -> str:
    return "%B" if len(name.rstrip(".")) > 3 else "%b" + ("." if name.endswith(".") else "")


def _days(date: pd.Series, form: str) -> np.ndarray | None:
    """Days in a format, NaT where the cell has another form; None if a cell of this form is not a date."""
    parsed = pd.to_datetime(date, format=form, errors="coerce")
    if "%B" in form:  # May is the short and the long name
        parsed = parsed.fillna(pd.to_datetime(date, format=form.replace("%B", "%b"), errors="coerce"))
    if "%b" in form:
        parsed = parsed.fillna(pd.to_datetime(date, format=form.replace("%b", "%B"), errors="coerce"))
    days = parsed.to_numpy().astype("datetime64[ns]")
    if "%y" in form:
        century = np.timedelta64(36_525, "D")
        days = np.where(days > np.datetime64("now") + np.timedelta64(366, "D"), days - century, days)
    if np.isnat(days[date.notna().to_numpy()]).any() or not _in_range(days):
        return None
    if "%d" not in form:  # a month is dated by its last day
        days = (days.astype("datetime64[M]") + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
        days = days.astype("datetime64[ns]")
    return days


def _most_even(days: list[tuple[str, np.ndarray]], where: str, has_time: bool) -> tuple[str, np.ndarray]:
    """The reading whose gaps between dates are by far the most even."""
    unevenness = []
    for _, own in days:
        gaps = np.diff(np.unique(own[~np.isnat(own)])).astype(np.int64)
        unevenness.append(float(gaps.max() / np.median(gaps)) if len(gaps) > 2 else np.inf)
    best = int(np.argmin(unevenness))
    others = [value for k, value in enumerate(unevenness) if k != best]
    if np.isfinite(unevenness[best]) and min(others) >= _CLEAR * unevenness[best]:
        return days[best]
    tail = " %H:%M" if has_time else ""
    forms = " or ".join(f"--set 'data.date_format={form}{tail}'" for form, _ in days)
    shown = " or ".join(str(own[0])[:10] for _, own in days)
    raise InputError(f"the first date can be read as {shown}, and so can all others", where, f"add {forms}")


def _clocks(time: pd.Series, half: pd.Series) -> np.ndarray | None:
    """Times of day as timedelta64[ns]; 24:00 is the end of the day; None if one is not a time of day."""
    if time.isna().all():
        return np.zeros(len(time), dtype="timedelta64[ns]")
    text = time.fillna("0:00").str.replace(",", ".", regex=False)
    compact = ~text.str.contains(":", regex=False)
    text = text.where(~compact, text.str.replace(r"^(\d\d)(\d\d)(\d\d)?$", r"\1:\2:\3", regex=True).str.rstrip(":"))
    parts = text.str.extract(r"^(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d{1,9})?))?$").fillna("0").astype(np.float64)
    hour, minute, second = (parts[k].to_numpy() for k in range(3))
    if not half.isna().all():
        afternoon = half.fillna("").str.strip().str.lower().str.startswith("p").to_numpy()
        hour = np.where(half.isna().to_numpy(), hour, hour % 12 + 12 * afternoon)
    if (hour > 24).any() or (minute > 59).any() or (second >= 61).any() or ((hour == 24) & (minute + second > 0)).any():
        return None
    seconds = 3600.0 * hour + 60.0 * minute + np.floor(second)
    fraction = np.round((second - np.floor(second)) * 1e9)
    return (seconds * 1e9 + fraction).astype(np.int64).astype("timedelta64[ns]")


def _in_zone(moment: np.ndarray, zones: pd.Series, form: str, where: str) -> Dates | None:
    """Dates with the time zones of their cells."""
    if zones.isna().all():
        return Dates(moment, form=form)
    if zones[~np.isnat(moment)].isna().any():
        return None
    utc = moment.copy()
    for name in zones.dropna().unique():
        rows = (zones == name).to_numpy()
        there = zone(re.sub(r"^(?:GMT|UTC)(?=[-+])", "", name.strip()), where)
        local = pd.Series(moment[rows]).dt.tz_localize(there, ambiguous="NaT", nonexistent="NaT")
        utc[rows] = local.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    return Dates(utc, moment, form)


def _time_form(first: re.Match[str]) -> str:
    if first["time"] is None:
        return ""
    clock = first["time"]
    form = "%H%M%S" if len(clock) == 6 and ":" not in clock else "%H:%M:%S" if clock.count(":") == 2 else "%H:%M"
    return f" {form}"


# -----------------------------------------------------------------------------
# Bars of days

# Markets whose midnights, in UTC, move with their own rules for summer time.
_ZONES = (
    "America/New_York",
    "America/Chicago",
    "America/Sao_Paulo",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Moscow",
    "Africa/Johannesburg",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
)
_DAILY_S = 72_000  # bars at least 20 hours apart


def as_days(dates: np.ndarray, local: np.ndarray | None, in_utc: bool) -> tuple[np.ndarray, str]:
    """Return the days of daily bars, whatever the zone or the time of their stamps; other dates as they are.

    Parameters
    ----------
    dates : ndarray of datetime64[ns]
        In UTC if `local` is given.
    local : ndarray of datetime64[ns] or None
        On the clock of the cells' zones.
    in_utc : bool
        The dates are known to be in UTC.

    Returns
    -------
    tuple
        Dates, and a note in words; "" if nothing was changed.
    """
    if local is not None and _all_midnight(local):
        return local, "" if _all_midnight(dates) else "midnights of their time zones taken as days"
    converted = "" if local is None else "times converted to UTC"
    distinct = np.unique(dates)
    gaps = np.diff(distinct).astype(np.int64) / 1e9
    if _all_midnight(dates) or len(distinct) < 3 or gaps.min() < _DAILY_S:
        return dates, converted
    if in_utc:
        stamped = pd.Series(dates).dt.tz_localize("UTC")
        for name in _ZONES:
            there = stamped.dt.tz_convert(name).dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
            if _all_midnight(there):
                return there, f"midnights of {name} taken as days"
    walls = dates if local is None else local
    if len(np.unique(walls - walls.astype("datetime64[D]"))) <= 2:
        return walls.astype("datetime64[D]").astype("datetime64[ns]"), "times of daily bars taken as days"
    return dates, converted


def _all_midnight(dates: np.ndarray) -> bool:
    return bool((dates == dates.astype("datetime64[D]")).all())
