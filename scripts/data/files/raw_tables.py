"""Files as tables of cells; every cell knows its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from scripts.config.experiment import DataConfig
from scripts.data.files.arrow_cells import (
    as_text,
    check_sizes,
    check_types,
    decoded,
    is_dated,
    is_number,
    is_text,
    plain_type,
    zone,
)
from scripts.data.files.column_names import checked_names
from scripts.data.files.containers import read_container
from scripts.data.files.csv_layout import Text, find_layout
from scripts.data.files.csv_records import CsvRecords
from scripts.data.files.market_names import LEVEL
from scripts.data.files.number_style import PLAIN, NumberStyle, find_style
from scripts.data.files.parquet_columns import ParquetColumns, names_of, opened_parquet, parquet_faults
from scripts.data.files.raw_bytes import container_of
from scripts.data.files.spelling import MISSING_NUMBERS, spelled
from scripts.errors import InputError

CHUNK = 8_192  # records turned into columns at a time, so that only the compact form of the text is kept


@dataclass(frozen=True)
class RawTable:
    """Cells of a file.

    Attributes
    ----------
    path : str
        The file, for messages.
    columns : mapping of str to pyarrow ChunkedArray
        Cells as read, in file order: text of a CSV, of the file's own types else. Those of a whole Parquet file are
        read on demand, so that a table is never in memory as a whole.
    lines : ndarray of int64, shape (n_rows,)
        Line (CSV) or row (Parquet), from 1, at which each record starts.
    unit : str
        "line" or "row".
    style : NumberStyle
        Of numbers in text.
    temporal : frozenset of str
        Columns of date type, whose cells are ISO 8601 regardless of the configuration.
    delimiter : str
        Of the text, for decisions about numbers.
    is_unicode : bool
        False if letters other than those of English may be wrong.
    notes : tuple of str
    parts : tuple of RawTable
        Tables of the files of a folder; then `lines` are positions in all their rows, and `columns` is empty.
    """

    path: str
    columns: Mapping[str, pa.ChunkedArray]
    lines: np.ndarray
    unit: str = "line"
    style: NumberStyle = PLAIN
    temporal: frozenset[str] = frozenset()
    delimiter: str = ","
    is_unicode: bool = True
    notes: tuple[str, ...] = ()
    parts: tuple[RawTable, ...] = ()

    @classmethod
    def joined(cls, path: str, parts: Sequence[RawTable]) -> RawTable:
        """Return the rows of several files, of which only the places are kept."""
        n_rows = sum(map(len, parts))
        return cls(path, {}, np.arange(n_rows), parts=tuple(replace(part, columns={}) for part in parts))

    def __len__(self) -> int:
        return len(self.lines)

    def cells(self, column: str) -> list[str]:
        """Cells of a column as text without surrounding blanks; missing ones are empty."""
        return list(map(str.strip, as_text(self.columns[column]).to_pylist()))

    def cell(self, column: str, position: int) -> str:
        """One cell as text without surrounding blanks."""
        return str(as_text(self.columns[column].slice(position, 1)).to_pylist()[0]).strip()

    def repeats(self, column: str) -> bool:
        """Return True if a column is stored as distinct cells with their positions."""
        return bool(pa.types.is_dictionary(self.columns[column].type))

    def categories(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Cells of a column as positions, int64 of shape (n_rows,), in the distinct ones, text in an object array."""
        cells = self.columns[column]
        if pa.types.is_dictionary(cells.type):  # not decoded: a long text may be there in every row
            encoded = cells.unify_dictionaries().combine_chunks()
        else:
            encoded = decoded(cells).dictionary_encode(null_encoding="encode").combine_chunks()
        known = [cell.strip() for cell in as_text(pa.chunked_array([encoded.dictionary])).to_pylist()]
        codes, distinct = pd.factorize(np.array([*known, ""], dtype=object))
        indices = encoded.indices.fill_null(len(known)) if encoded.null_count else encoded.indices
        positions, used = pd.factorize(codes[indices.to_numpy(zero_copy_only=False).astype(np.int64)])
        return positions.astype(np.int64), distinct[used]

    def words(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return `categories` with each cell in its canonical spelling."""
        codes, distinct = self.categories(column)
        same, words = pd.factorize(np.array([spelled(cell) for cell in distinct], dtype=object))
        return same[codes], words

    def has_nulls(self, column: str) -> bool:
        """Return True if a column has missing cells, which are not the same as empty text."""
        return bool(self.columns[column].null_count)

    def zone(self, column: str) -> tzinfo | None:
        """Time zone that the type of a column names."""
        kind = plain_type(self.columns[column].type)
        named = pa.types.is_timestamp(kind) and kind.tz is not None
        return zone(kind.tz, f"{self.path}, column {column}") if named else None

    def floats(self, column: str) -> np.ndarray | None:
        """Values of a column of the type of a number, float64 of shape (n_rows,), NaN where missing; else None."""
        if not is_number(plain_type(self.columns[column].type)):
            return None
        values = decoded(self.columns[column]).cast(pa.float64(), safe=False).to_numpy()
        missing = np.isnan(values)
        return np.where(missing, np.nan, values) if missing.any() else values  # one NaN, whichever the file has

    def take(self, rows: np.ndarray) -> RawTable:
        """Return these rows, by position or as a mask."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        if len(positions) == len(self) and (np.diff(positions) == 1).all():
            return self
        columns = {name: self.columns[name].take(pa.array(positions)) for name in self.columns}
        return replace(self, columns=columns, lines=self.lines[positions])

    def place(self, position: int, column: str | None = None) -> str:
        """Return the place of a record, for messages."""
        if self.parts:
            starts = np.cumsum([0, *map(len, self.parts)])
            row = int(self.lines[position])
            k = int(np.searchsorted(starts, row, side="right")) - 1
            return self.parts[k].place(row - int(starts[k]), column)
        part = "" if column is None else f", column {column.replace(LEVEL, ' of ')}"
        return f"{self.path}{part}, {self.unit} {self.lines[position]}"


def read_table(path: Path, config: DataConfig, required: Sequence[str]) -> RawTable:
    """Read a file of any container that is known.

    Parameters
    ----------
    config : DataConfig
        What is declared of the layout and the numbers of a text.
    required : sequence of str
        Columns that must be there, in this spelling or, if that is not ambiguous, in upper and lower case as may be.
        None for a market, whose columns have many names.

    Raises
    ------
    InputError
        If the file is not such a table; the message has the line, the expectation and the fix.
    """
    kind = container_of(path)
    if kind == "parquet":
        table = _read_parquet(path, required)
    elif kind == "text":
        table = _read_text(Text.of(path, config), config, required)
    else:
        content = read_container(path, kind, config.table)
        if isinstance(content, str):
            table = _read_text(Text(path, content), config, required)
        else:
            names = checked_names(content.schema.names, required, str(path))
            table = with_style(_arrow_table(content.rename_columns(names), str(path)), config)
    if len(table) == 0:
        raise _no_row(path)
    return table


def table_chunks(path: Path, config: DataConfig, required: Sequence[str]) -> Iterator[RawTable]:
    """The records of a file in parts of at most `CHUNK`, each a table, so that a file of any size takes little memory.

    Parameters and errors as `read_table`; an error of a record comes when its part is reached.
    """
    kind = container_of(path)
    if kind == "parquet":
        parts = _parquet_chunks(path, required)
    elif kind == "text":
        parts = _text_chunks(path, config, required)
    else:
        parts = iter([read_table(path, config, required)])
    n_records = 0
    for part in parts:
        n_records += len(part)
        yield part
    if n_records == 0:
        raise _no_row(path)


def frame_table(frame: pd.DataFrame, required: Sequence[str], name: str = "frame") -> RawTable:
    """A data frame as a table, as if it had been read from a Parquet file.

    A market, which requires no column by its name, also has the dates and tickers of the index, and names of two
    levels. The index of a table is left out. Errors as `read_table`; `name` is the file in messages.
    """
    frame = frame.rename(columns=str) if required else _with_dates_of_index(frame)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"has cells of mixed types ({first})", name, "give each column one type") from None
    names = checked_names(table.schema.names, required, name)
    if table.num_rows == 0:
        raise _no_row(name)
    return _arrow_table(table.rename_columns(names), name)


def _with_dates_of_index(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose index has become columns if it has dates, and whose names of two levels are joined."""
    levels = frame.index.names if isinstance(frame.index, pd.MultiIndex) else [frame.index.name]
    own = {str(column).lower() for column in frame.columns}
    kept = {level or "date": frame.index.get_level_values(k) for k, level in enumerate(levels)}
    kept = {called: values for called, values in kept.items() if _is_key(values) and str(called).lower() not in own}
    frame = frame.set_axis([_joined(column) for column in frame.columns], axis=1).reset_index(drop=True)
    if not any(isinstance(values, pd.DatetimeIndex) for values in kept.values()):
        return frame
    return pd.concat([pd.DataFrame({str(k): v for k, v in kept.items()}), frame], axis=1)


def _is_key(values: pd.Index) -> bool:
    """Return True for a level of an index with dates or tickers."""
    return isinstance(values, pd.DatetimeIndex) or not pd.api.types.is_numeric_dtype(values)


def _joined(column: object) -> str:
    return LEVEL.join(str(part) for part in column if part != "") if isinstance(column, tuple) else str(column)


def _no_row(where: Path | str) -> InputError:
    return InputError("has a header but no rows", str(where), "provide a file with data")


def _read_text(text: Text, config: DataConfig, required: Sequence[str]) -> RawTable:
    layout = find_layout(text, config, required)
    records = CsvRecords(text, layout, required)
    parts = list(records.chunks(CHUNK))
    if not parts:
        raise _no_row(text.path)
    lines = np.concatenate([lines for lines, _ in parts])
    names = list(parts[0][1])
    columns = {name: pa.chunked_array([chunk for _, part in parts for chunk in part[name].chunks]) for name in names}
    # Blank lines at the end of a file are usual, those between records may be lost ones.
    between = [line for line in records.blank if line < lines[-1]]
    blank = [f"{text.path}: {len(between)} blank lines skipped, the first is line {between[0]}"] if between else []
    notes = (*records.notes, *blank)
    table = RawTable(
        str(text.path), columns, lines, delimiter=layout.delimiter, is_unicode=text.is_unicode, notes=notes
    )
    return with_style(table, config)


def _text_chunks(path: Path, config: DataConfig, required: Sequence[str]) -> Iterator[RawTable]:
    text = Text.of(path, config)
    layout = find_layout(text, config, required)
    style = None
    for lines, columns in CsvRecords(text, layout, required).chunks(CHUNK):
        part = RawTable(str(path), columns, lines, delimiter=layout.delimiter, is_unicode=text.is_unicode)
        style = style or with_style(part, config).style
        yield replace(part, style=style)


def with_style(
    table: RawTable,
    config: DataConfig,
    names: Sequence[str] | None = None,
    series: Sequence[str] = (),
    counts: Sequence[str] = (),
) -> RawTable:
    """Return a table with the style of its numbers in text.

    Parameters
    ----------
    names : sequence of str, optional
        Columns that decide; by default those of a table's features, and none of a market, whose columns are not known.
    series : sequence of str
        Columns of prices in order of time.
    counts : sequence of str
        Columns of volumes.

    Raises
    ------
    InputError
        The numbers have two readings.
    """
    if names is None and config.source != "table":
        return table  # the columns of a market are known later
    if names is None:
        named = (config.time_column, config.group_column, *config.text_columns)
        names = [name for name in table.columns if name not in named]
    columns = {name: table.columns[name] for name in names}
    text = {name: decoded(cells) for name, cells in columns.items() if is_text(plain_type(cells.type))}
    marks, prices = (config.decimal, config.thousands), [name for name in series if name in text]
    style = find_style(text, table.path, *marks, MISSING_NUMBERS, table.delimiter, prices, counts)
    note = () if style == PLAIN else (f"{table.path}: numbers read with {style.in_words()}",)
    return replace(table, style=style, notes=(*table.notes, *note))


def _read_parquet(path: Path, required: Sequence[str]) -> RawTable:
    columns = ParquetColumns(path, required)
    return RawTable(str(path), columns, np.arange(1, columns.n_rows + 1), "row", temporal=columns.temporal)


def _parquet_chunks(path: Path, required: Sequence[str]) -> Iterator[RawTable]:
    first = 1
    with parquet_faults(path), opened_parquet(path) as file:
        names = names_of(file, path, required)
        for batch in file.iter_batches(batch_size=CHUNK, columns=list(names)):
            batch.validate(full=True)
            part = pa.Table.from_batches([batch]).rename_columns(list(names.values()))
            yield _arrow_table(part, str(path), first)
            first += batch.num_rows


def _arrow_table(table: pa.Table, where: str, first: int = 1) -> RawTable:
    """A table of typed columns; `first` is the number of the first row."""
    names = table.schema.names
    check_types(table.schema, names, where)
    for name in names:
        check_sizes(table.column(name), f"{where}, column {name}")
    temporal = frozenset(name for name in names if is_dated(table.schema.field(name).type))
    columns = dict(zip(names, table.columns, strict=True))
    return RawTable(where, columns, np.arange(first, first + table.num_rows), "row", temporal=temporal)
