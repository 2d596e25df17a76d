"""Features of rows without labels: the bars of a market, or the records of a table part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.features import index_bars, market_features
from scripts.data.files.cells import read_dates
from scripts.data.files.columns import groups, named_columns
from scripts.data.files.market import bars_of, ticker_of
from scripts.data.files.raw_tables import RawTable, read_table, table_chunks
from scripts.data.known_categories import UnknownCells, category_codes, known_numbers, lost_categories
from scripts.data.labels import market_labels
from scripts.data.single_precision import Reference, as_single
from scripts.data.trades import fills_of, market_bars
from scripts.errors import InputError
from scripts.storage.printable import and_more, listed


@dataclass(frozen=True)
class Schema:
    """Requirements of a model on its input data.

    Attributes
    ----------
    features : tuple of str
        In the order of the model's inputs.
    vocabularies : dict of str to tuple of str
        Categories of the text features.
    dropped : tuple of str or None
        Columns of the training file that the model does not read; None if unknown.
    window : int
        Rows that the model reads for one answer.
    references : dict of str to tuple of float
        As in `Dataset`.
    tickers : tuple of str
        Tickers of the market that the model was trained on; empty if unknown.
    """

    config: DataConfig
    features: tuple[str, ...]
    vocabularies: dict[str, tuple[str, ...]]
    dropped: tuple[str, ...] | None
    window: int
    references: dict[str, Reference] = field(default_factory=dict)
    tickers: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that a table must have; those of a market have many names."""
        if self.config.source != "table":
            return ()
        named = (self.config.time_column, self.config.group_column)
        return (*self.features, *(name for name in named if name is not None))

    def check_columns(self, names: list[str], where: str) -> None:
        """Raise InputError for a column of a table that the model was not trained with, as far as known."""
        config = self.config
        if config.source != "table" or self.dropped is None:
            return
        known = {*self.required, *self.dropped, *named_columns(config)}
        if unknown := [name for name in names if name not in known]:
            remedy = "remove it, or rename it to what it was called in training"
            raise InputError(f"column {unknown[0]!r} was not there in training{and_more(len(unknown))}", where, remedy)


@dataclass(frozen=True)
class UnlabelledRows:
    """Rows of features; those that an answer can be given for, and what identifies them.

    Attributes
    ----------
    x : ndarray of float32, shape (n, n_features)
        Raw columns as in `Dataset.x`; a window is a run of rows.
    rows : ndarray of int64, shape (n_usable,)
        Positions in `x` of the rows with all of the history that the model reads.
    number : ndarray of int64, shape (n_usable,), or None
        Number of the record in its table, from 1; None for a market.
    date : ndarray of datetime64, shape (n_usable,), or None
    ticker : ndarray of object, shape (n_usable,), or None
    listed : ndarray of int64, shape (n_usable,), or None
        Tickers listed on the date of the row's fill, as in the evaluation; None for a table.
    n_skipped : int
        Rows without enough history.
    unknown : dict of str to UnknownCells
        Cells with an unknown category, by text feature.
    """

    x: np.ndarray
    rows: np.ndarray
    number: np.ndarray | None
    date: np.ndarray | None
    ticker: np.ndarray | None
    n_skipped: int
    listed: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    unknown: dict[str, UnknownCells] = field(default_factory=dict)


def file_rows(path: Path, schema: Schema) -> Iterator[UnlabelledRows]:
    """Rows of a file: a market as a whole, since its features read history, a table in parts.

    Parameters
    ----------
    path : Path
        CSV (plain or gzipped) or Parquet.

    Raises
    ------
    InputError
        As for the data that a model is trained on; a column that is missing or unknown is named.
    """
    if schema.config.source == "table":
        yield from table_rows(table_chunks(path, schema.config, schema.required), schema)
    else:
        table = read_table(path, schema.config, schema.required)
        yield market_rows(table, ticker_of(path), schema)


def market_rows(table: RawTable, name: str, schema: Schema) -> UnlabelledRows:
    """Return the features of all bars, including the last ones; `name` is the ticker if no column has it.

    The tickers that the model was trained on form their own market, as in the evaluation: other tickers of the file
    changes neither their calendar nor their cross section. Other tickers read all of the file.
    """
    config = schema.config.model_copy(update={"path": table.path, "cost_bps_column": None})
    market = bars_of(table, name, config)
    frame, notes = market.frame, market.notes
    known = frame["ticker"].isin(schema.tickers).to_numpy(copy=True)
    if "market_return" in schema.features and frame["ticker"][known].nunique() < 2:
        known[:] = False  # a single ticker is not a market
    parts = [(frame[known].reset_index(drop=True), np.ones(int(known.sum()), dtype=bool)), (frame, ~known)]
    found = [_market_part(bars, wanted, config, schema) for bars, wanted in parts if wanted.any()]
    if len(found) > 1:
        others = listed(sorted(set(frame["ticker"][~known])))
        what = "their market features use all tickers of the file, and do not change those of others"
        notes = (*notes, f"{table.path}: tickers that the model was not trained on: {others}; {what}")
    starts = np.cumsum([0, *(len(part.x) for part in found)])
    rows = np.concatenate([part.rows + start for part, start in zip(found, starts, strict=False)])
    date, ticker, counts = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("date", "ticker", "listed")
    )
    order = np.lexsort((date, pd.Index(frame["ticker"].unique()).get_indexer(pd.Index(ticker))))
    x = np.concatenate([part.x for part in found])
    n_skipped = len(frame) - len(rows)
    return UnlabelledRows(x, rows[order], None, date[order], ticker[order], n_skipped, counts[order], notes)


def _market_part(frame: pd.DataFrame, wanted: np.ndarray, config: DataConfig, schema: Schema) -> UnlabelledRows:
    """Return the features of the bars of `frame` for the tickers of the `wanted` bars only, shape (n_bars,)."""
    # Short histories are kept: each bar is checked by its own, and the market features use all tickers.
    bars = index_bars(frame)
    features, labels = market_features(frame, bars), market_labels(frame, bars, config)
    columns = dict(zip(features.names, features.values.T, strict=True)) | labels.features
    if lacking := [name for name in schema.features if name not in columns]:
        what = f"{features.left_out.get(lacking[0], 'unknown')}: the model reads {listed(lacking)}"
        raise InputError(what, str(config.path), "give data with the columns that the model was trained on")
    x = np.column_stack([columns[name] for name in schema.features])
    reach = max(features.lookback, labels.lookback if labels.features else 0) + schema.window - 1
    rows = np.flatnonzero(wanted & (bars.history >= reach) & np.isfinite(x).all(axis=1))
    counts = market_bars(bars, fills_of(frame, config.fill)).listed
    tickers = np.array(bars.tickers, dtype=object)
    place = np.cumsum(wanted) - 1
    date, ticker = bars.dates[bars.date[rows]], tickers[bars.ticker[rows]]
    return UnlabelledRows(x[wanted], place[rows], None, date, ticker, int(wanted.sum()) - len(rows), counts[rows])


def table_rows(parts: Iterator[RawTable], schema: Schema) -> Iterator[UnlabelledRows]:
    """Features of the records of a table, part by part; windows reach back into earlier parts."""
    history, first = _History(schema), 1
    for part in parts:
        if first == 1:
            schema.check_columns(list(part.columns), part.path)
        lost = lost_categories(part.has_nulls, schema.vocabularies) if first == 1 else None
        rows = _part_rows(part, schema, history, first)
        yield rows if lost is None else replace(rows, notes=(lost,))
        first += len(part)


def _part_rows(part: RawTable, schema: Schema, history: _History, first: int) -> UnlabelledRows:
    config = schema.config
    columns, unknown = _columns(part, schema)
    x = np.column_stack(columns).astype(np.float32)
    date = None if config.time_column is None else _dates(part, config.time_column, history, first)
    ticker = None if config.group_column is None else groups(part, config.group_column).to_numpy(dtype=object)
    number = np.arange(first, first + len(part))
    if schema.window == 1:
        return UnlabelledRows(x, number - first, number, date, ticker, 0, unknown=unknown)
    x, position, usable = history.extend(part, x, date, ticker)
    date, ticker = (None if values is None else values[usable] for values in (date, ticker))
    return UnlabelledRows(x, position[usable], number[usable], date, ticker, int((~usable).sum()), unknown=unknown)


def _dates(part: RawTable, name: str, history: _History, first: int) -> np.ndarray:
    """Dates of a part; InputError if its time zones have another meaning than those of the part before."""
    dates, notes = read_dates(part, name, history.schema.config.date_format)
    if first > 1 and notes != history.date_notes:
        what = "has times of day, unlike the rows before, which are midnights of their time zones, or the reverse"
        raise InputError(what, part.place(0, name), "write all times in UTC, without a zone")
    history.date_notes = notes
    return dates


def _columns(part: RawTable, schema: Schema) -> tuple[list[np.ndarray], dict[str, UnknownCells]]:
    """The features as numbers, text as codes into the model's vocabulary, and its categories that are unknown."""
    columns, unknown = [], {}
    for name in schema.features:
        if name in schema.vocabularies:
            codes, unknown[name] = category_codes(*part.categories(name), schema.vocabularies[name])
            columns.append(codes)
        else:
            columns.append(as_single(known_numbers(part, name), schema.references.get(name)))
    return columns, unknown


@dataclass
class _History:
    """The last rows of each group, which later windows may read: one less than a window for each group."""

    schema: Schema
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    times: dict[str, np.datetime64] = field(default_factory=dict)
    date_notes: tuple[str, ...] = ()

    def extend(
        self, part: RawTable, x: np.ndarray, date: np.ndarray | None, ticker: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows with their history, group after group; the position of each row there, and whether it has a full window.

        Raises
        ------
        InputError
            A group's times do not ascend, so that windows would not be what they were in training.
        """
        if date is None:
            raise InputError("reads windows of rows without time", part.path, "train the model again")
        codes, names = pd.factorize(np.full(len(x), "all", dtype=object) if ticker is None else ticker)
        position, usable = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=bool)
        blocks, start, reach = [], 0, self.schema.window - 1
        for code, name in enumerate(names):
            of_ticker = np.flatnonzero(codes == code)
            self._check_order(part, of_ticker, date, name)
            before = self.rows.get(name, x[:0])
            whole = np.concatenate([before, x[of_ticker]])
            position[of_ticker] = start + len(before) + np.arange(len(of_ticker))
            usable[of_ticker] = len(before) + np.arange(len(of_ticker)) >= reach
            self.rows[name], self.times[name] = whole[max(0, len(whole) - reach) :], date[of_ticker[-1]]
            blocks.append(whole)
            start += len(whole)
        return np.concatenate(blocks), position, usable

    def _check_order(self, part: RawTable, of_ticker: np.ndarray, date: np.ndarray, name: str) -> None:
        times = date[of_ticker]
        late = np.diff(times) <= np.timedelta64(0)
        late = np.r_[name in self.times and times[0] <= self.times[name], late]
        if late.any():
            place = part.place(int(of_ticker[late.argmax()]), self.schema.config.time_column)
            raise InputError("is not later than the row before it", place, "sort the file by time, each time once")
