"""Market files: bars of one or many tickers, with every value checked and unambiguous problems repaired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.bar_checks import check_calendars, series_notes
from scripts.data.files.cells import checked_costs
from scripts.data.files.column_names import as_wanted, missing_column, nearest_name
from scripts.data.files.market_columns import MarketColumns, market_columns
from scripts.data.files.market_names import KNOWN, PRICES, VALUES
from scripts.data.files.market_repairs import MAX_SHARE, ROUNDING, repaired
from scripts.data.files.raw_tables import RawTable, read_table
from scripts.data.table import Table, drop_copies, refuse_conflicts, sort_rows
from scripts.errors import InputError
from scripts.storage.printable import and_more, listed

KEY = ("ticker", "date")
_SUFFIXES = {".csv", ".txt", ".tsv", ".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet", ".pq", ".feather", ".arrow"}
_SUFFIXES |= {".orc", ".json", ".jsonl", ".ndjson", ".xlsx", ".xls", ".xlsb", ".ods", ".db", ".sqlite", ".duckdb"}
_MANY = 0.2  # share of bars that contradict each other if some prices are adjusted and others are not


def read_market(path: Path, config: DataConfig) -> Table:
    """Read a market file.

    Parameters
    ----------
    path : Path
        File of any container that is known, with dates and closes and, if they exist, tickers, other prices and
        volumes, under any known name.

    Returns
    -------
    Table
        date (datetime64[ns]), ticker (text), prices, volume and the costs that `config` names (float64), sorted by
        ticker, then date. Its notes report how the file was read, repairs, skipped parts and suspicious values.

    Raises
    ------
    InputError
        If a problem cannot be repaired without guessing.
    """
    if not path.is_dir():
        return bars_of(read_table(path, config, ()), ticker_of(path), config)
    files = market_files(path)
    parts = [_bars(read_table(file, config, ()), ticker_of(file), config) for file in files]
    shared = [name for name in parts[0].frame if all(name in part.frame for part in parts)]
    frame = pd.concat([part.frame[shared] for part in parts], ignore_index=True)
    notes = _notes_of_files(files, parts)
    joined = Table.of(frame, source=RawTable.joined(str(path), [part.source for part in parts]))
    return _checked(replace(joined, roles=parts[0].roles).noted(*notes), config)


def market_files(folder: Path) -> list[Path]:
    """Return the files of a folder and of its partitions that have a known ending, by name.

    Raises
    ------
    InputError
        There are none.
    """
    inner = [part for part in folder.rglob("*=*") if part.is_dir()]
    found = (file for part in (folder, *inner) for file in part.iterdir())
    files = sorted(file for file in found if file.suffix.lower() in _SUFFIXES and file.is_file())
    if not files:
        raise InputError("is a folder without files of prices", str(folder), "name a file, or a folder of CSV files")
    return files


def _notes_of_files(files: list[Path], parts: list[Table]) -> list[str]:
    """Notes of several files: those that differ by the file alone are given once."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for file, part in zip(files, parts, strict=True):
        for note in part.notes:
            general = note.replace(str(file), "").replace(ticker_of(file), "")
            first.setdefault(general, note)
            counts[general] = counts.get(general, 0) + 1
    return [
        note if counts[general] == 1 else f"{note} (and {counts[general] - 1} more files)"
        for general, note in first.items()
    ]


def ticker_of(path: Path) -> str:
    """Return the ticker that a file is named after: its name without the endings of containers, or its partition."""
    partition = next((part for part in reversed(path.parts) if part.partition("=")[0].lower() in KNOWN["ticker"]), "")
    if "=" in partition:  # a folder such as ticker=AAPL, as partitioned data sets have
        return partition.partition("=")[2]
    name = path.name
    while (dot := name.rfind(".")) > 0 and name[dot:].lower() in _SUFFIXES:
        name = name[:dot]
    return name


def bars_of(table: RawTable, name: str, config: DataConfig) -> Table:
    """Bars of the cells of a table; the rest as `read_market`.

    `name` is the ticker of a table without a column for it.
    """
    return _checked(_bars(table, name, config), config)


def _bars(table: RawTable, name: str, config: DataConfig) -> Table:
    """Bars of one file in its order, with adjusted prices and without unusable rows."""
    found = repaired(market_columns(table, name, config), config)
    columns = {"date": found.dates, "ticker": pd.array(found.tickers, dtype="str"), **found.values}
    if (cost := config.cost_bps_column) is not None:
        own = dict(zip(as_wanted(list(table.columns), [cost]), table.columns, strict=True))
        if cost not in own:
            raise missing_column(cost, list(table.columns), table.path)
        columns[cost] = checked_costs(found.source, own[cost])
    bars = Table.of(pd.DataFrame(columns, copy=False), source=found.source)
    _refuse_unnamed_tickers(bars, found)
    return replace(bars, roles=found.roles).noted(*found.source.notes, *_ignored_note(found), *found.notes)


def _checked(bars: Table, config: DataConfig) -> Table:
    """Bars sorted by ticker and date, after all checks."""
    _check_volumes(bars)
    bars = drop_copies(_repair_ranges(bars, config), KEY)
    bars = _without_live_rows(bars, config)
    refuse_conflicts(bars, KEY)
    bars = sort_rows(bars, "date", "ticker", group_first=True)
    path, adjusted = bars.source.path, config.prices == "adjusted"
    check_calendars(bars.frame, path)
    return bars.noted(*series_notes(bars.frame, lambda row: bars.place(row, KEY), path, refuse_splits=adjusted))


def _ignored_note(found: MarketColumns) -> list[str]:
    if not found.ignored:
        return []
    absent = [name for name in VALUES if name not in found.values]
    near = [f"{nearest} may be meant as {name}" for name in absent if (nearest := nearest_name(name, found.ignored))]
    return [f"{found.source.path}: columns ignored: {listed(found.ignored)}" + "".join(f"; {hint}" for hint in near)]


def _refuse(bars: Table, bad: np.ndarray, what: str, remedy: str) -> None:
    """Raise InputError for the first bad bar."""
    if bad.any():
        first = int(bad.argmax())
        what = what.format(**bars.frame.iloc[first]) + and_more(int(bad.sum()))
        raise InputError(what, bars.place(first, KEY), remedy)


def _check_volumes(bars: Table) -> None:
    if "volume" in bars.frame:
        bad = bars.frame["volume"].to_numpy() < 0
        _refuse(bars, bad, "volume {volume} is negative", "correct or remove the row")


def _repair_ranges(bars: Table, config: DataConfig) -> Table:
    """Refuse bars whose prices contradict each other, unless they are few or rounding explains it: widen the range."""
    _refuse_contradictions(bars, config)
    prices = bars.frame[[name for name in PRICES if name in bars.frame]]
    highest, lowest = prices.max(axis=1), prices.min(axis=1)
    widened = {name: values for name, values in (("high", highest), ("low", lowest)) if name in prices}
    changed = np.zeros(len(prices), dtype=bool)
    for name, values in widened.items():
        changed |= (values != prices[name]).to_numpy()
    if not changed.any():
        return bars
    far = (highest > prices.get("high", highest) * (1 + ROUNDING)) | (
        lowest < prices.get("low", lowest) * (1 - ROUNDING)
    )
    how = "" if far.any() else " by rounding"
    note = f"{int(changed.sum())} bars with a price outside of [low, high]{how}: range widened; the first is "
    return replace(bars, frame=bars.frame.assign(**widened)).noted(note + bars.place(int(changed.argmax()), KEY))


def _refuse_contradictions(bars: Table, config: DataConfig) -> None:
    values = {name: bars.frame[name].to_numpy() for name in PRICES if name in bars.frame}
    pairs = (("low", "high"), ("open", "high"), ("close", "high"), ("low", "open"), ("low", "close"))
    found = [
        (lower, upper, values[upper] < values[lower] * (1 - ROUNDING))
        for lower, upper in pairs
        if lower in values and upper in values
    ]
    wrong = np.logical_or.reduce([bad for *_, bad in found]) if found else np.zeros(len(bars.frame), dtype=bool)
    share = pd.Series(wrong).groupby(bars.frame["ticker"].to_numpy()).agg(["sum", "size"])
    few = (share["sum"] <= MAX_SHARE * share["size"]).all()
    if config.repair == "usual" and few:
        return
    cause = "; it seems that some prices are adjusted and others are not" if wrong.mean() > _MANY else ""
    for lower, upper, bad in found:
        remedy = "give open, high, low and close of one kind" if cause else "correct or remove the row"
        _refuse(bars, bad, f"{upper} {{{upper}}} is below {lower} {{{lower}}}{cause}", remedy)


def _without_live_rows(bars: Table, config: DataConfig) -> Table:
    """Keep the later of two rows of the last date of a ticker, of which the earlier was written during the day."""
    if config.repair == "strict":
        return bars
    frame = bars.frame
    last = frame.groupby("ticker", sort=False)["date"].transform("max") == frame["date"]
    earlier = (last & frame.duplicated(list(KEY), keep="last")).to_numpy()
    counts = frame[last].groupby("ticker").size()
    if not earlier.any() or (counts > 2).any():
        return bars
    note = f"{int(earlier.sum())} rows of the last date repeated by a later one were left out; the first is "
    return bars.take(~earlier).noted(note + bars.place(int(earlier.argmax()), KEY))


def _refuse_unnamed_tickers(bars: Table, found: MarketColumns) -> None:
    """Raise InputError if a column of text distinguishes rows of the same date: it has the tickers."""
    if not bars.frame.duplicated(list(KEY)).any() or bars.frame["ticker"].nunique() > 1:
        return
    dates = bars.frame["date"].to_numpy()
    for name in found.ignored:
        if found.source.floats(name) is not None:
            continue
        codes = found.source.categories(name)[0][bars.rows]
        # A time of writing may differ between two rows of a date, too, but has no other dates.
        repeats = np.bincount(codes).min() > 1
        if repeats and not pd.DataFrame({"date": dates, "code": codes}).duplicated().any():
            what = f"several rows have the same date, and the column {name!r} distinguishes them"
            raise InputError(what, found.source.path, f"add --set 'data.columns.ticker={name}'")
