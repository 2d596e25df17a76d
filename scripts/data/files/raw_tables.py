"""Files as tables of cells; every cell knows its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

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
from scripts.data.files.csv_records import csv_records
from scripts.data.files.raw_bytes import is_parquet
from scripts.data.files.spelling import spelled
from scripts.errors import InputError
from scripts.storage.parquet_bounds import check_footer, check_inflation

CHUNK = 8_192  # records turned into columns at a time, so that only the compact form of the text is kept
_PAGE_BYTES = 2**16  # of a Parquet column that are read at a time


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
    decimal : str
        Decimal mark of numbers.
    temporal : frozenset of str
        Columns of date type, whose cells are ISO 8601 regardless of the configuration.
    """

    path: str
    columns: Mapping[str, pa.ChunkedArray]
    lines: np.ndarray
    unit: str = "line"
    decimal: str = "."
    temporal: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

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

    def place(self, position: int, column: str | None = None) -> str:
        """Return the place of a record, for messages."""
        part = "" if column is None else f", column {column}"
        return f"{self.path}{part}, {self.unit} {self.lines[position]}"


def read_table(path: Path, config: DataConfig, required: Sequence[str]) -> RawTable:
    """Read a CSV (plain or gzipped) or Parquet file.

    Parameters
    ----------
    config : DataConfig
        Gives the delimiter and the decimal mark of a CSV.
    required : sequence of str
        Columns that must be there, in this spelling or, if that is not ambiguous, in upper and lower case as may be.

    Raises
    ------
    InputError
        If the file is not such a table; the message has the line, the expectation and the fix.
    """
    table = _read_parquet(path, required) if is_parquet(path) else _read_csv(path, config, required)
    if len(table) == 0:
        raise _no_row(path)
    return table


def table_chunks(path: Path, config: DataConfig, required: Sequence[str]) -> Iterator[RawTable]:
    """The records of a file in parts of at most `CHUNK`, each a table, so that a file of any size takes little memory.

    Parameters and errors as `read_table`; an error of a record comes when its part is reached.
    """
    parts = _parquet_chunks(path, required) if is_parquet(path) else _csv_chunks(path, config, required)
    n_records = 0
    for part in parts:
        n_records += len(part)
        yield part
    if n_records == 0:
        raise _no_row(path)


def frame_table(frame: pd.DataFrame, required: Sequence[str], name: str = "frame") -> RawTable:
    """A data frame as a table, as if it had been read from a Parquet file; its index is left out.

    Errors as `read_table`; `name` is the file in messages.
    """
    try:
        table = pa.Table.from_pandas(frame.rename(columns=str), preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"has cells of mixed types ({first})", name, "give each column one type") from None
    names = checked_names(table.schema.names, required, name)
    if table.num_rows == 0:
        raise _no_row(name)
    return _arrow_table(table.rename_columns(names), name)


def _no_row(where: Path | str) -> InputError:
    return InputError("has a header but no rows", str(where), "provide a file with data")


def _read_csv(path: Path, config: DataConfig, required: Sequence[str]) -> RawTable:
    blank: list[int] = []
    parts = list(csv_records(path, config, required, CHUNK, blank))
    if not parts:
        raise _no_row(path)
    lines = np.concatenate([lines for lines, _ in parts])
    names = list(parts[0][1])
    columns = {name: pa.chunked_array([chunk for _, part in parts for chunk in part[name].chunks]) for name in names}
    # Blank lines at the end of a file are usual, those between records may be lost ones.
    between = [line for line in blank if line < lines[-1]]
    notes = (f"{path}: {len(between)} blank lines skipped, the first is line {between[0]}",) if between else ()
    return RawTable(str(path), columns, lines, decimal=config.decimal, notes=notes)


def _csv_chunks(path: Path, config: DataConfig, required: Sequence[str]) -> Iterator[RawTable]:
    for lines, columns in csv_records(path, config, required, CHUNK, []):
        yield RawTable(str(path), columns, lines, decimal=config.decimal)


def _read_parquet(path: Path, required: Sequence[str]) -> RawTable:
    columns = _ParquetColumns(path, required)
    return RawTable(str(path), columns, np.arange(1, columns.n_rows + 1), "row", temporal=columns.temporal)


class _ParquetColumns(Mapping[str, pa.ChunkedArray]):
    """Columns of a Parquet file, each read and validated when it is asked for; errors as `read_table`."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        self._path = path
        with _parquet_faults(path):
            self._file = _opened(path)
            self._original = {called: original for original, called in _names_of(self._file, path, required).items()}
        self.n_rows = self._file.metadata.num_rows
        schema = self._file.schema_arrow
        self.temporal = frozenset(
            name for name, original in self._original.items() if is_dated(schema.field(original).type)
        )

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        original = self._original[name]
        with _parquet_faults(self._path):
            column = self._file.read(columns=[original]).column(original)
            # pyarrow trusts offsets and indices of a file; damaged ones would read outside of its buffers.
            column.validate(full=True)
        check_sizes(column, f"{self._path}, column {original}")
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._original)

    def __len__(self) -> int:
        return len(self._original)


def _parquet_chunks(path: Path, required: Sequence[str]) -> Iterator[RawTable]:
    first = 1
    with _parquet_faults(path), _opened(path) as file:
        names = _names_of(file, path, required)
        for batch in file.iter_batches(batch_size=CHUNK, columns=list(names)):
            batch.validate(full=True)
            part = pa.Table.from_batches([batch]).rename_columns(list(names.values()))
            yield _arrow_table(part, str(path), first)
            first += batch.num_rows


def _opened(path: Path) -> pyarrow.parquet.ParquetFile:
    """A Parquet file whose pages are read as they are needed; by default all that was read stays in memory.

    Columns of text come as dictionaries: a text that the file stores once takes the memory of one.
    """
    with path.open("rb") as raw:
        check_footer(raw, str(path))
    with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_PAGE_BYTES) as file:
        text = [field.name for field in file.schema_arrow if is_text(field.type)]
    # With pre_buffer, `iter_batches` keeps every row group until the file is closed: 600 instead of 110 bytes a row of
    # 50 columns (docs/log.md, 2026-11-27, "pyarrow's `iter_batches`").
    return pyarrow.parquet.ParquetFile(path, read_dictionary=text, pre_buffer=False, buffer_size=_PAGE_BYTES)


@contextmanager
def _parquet_faults(path: Path) -> Iterator[None]:
    """Damage that is found in a Parquet file is the user's matter."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"is not a valid Parquet file ({first})", str(path), "write or download it again") from None


def _names_of(file: pyarrow.parquet.ParquetFile, path: Path, required: Sequence[str]) -> dict[str, str]:
    """Names of the columns of a Parquet file in this program by their own names, after checking the types."""
    names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
    called = checked_names(names, required, str(path))
    check_inflation(file.metadata, path)
    check_types(file.schema_arrow, names, str(path))
    return dict(zip(names, called, strict=True))


def _arrow_table(table: pa.Table, where: str, first: int = 1) -> RawTable:
    """A table of typed columns; `first` is the number of the first row."""
    names = table.schema.names
    check_types(table.schema, names, where)
    for name in names:
        check_sizes(table.column(name), f"{where}, column {name}")
    temporal = frozenset(name for name in names if is_dated(table.schema.field(name).type))
    columns = dict(zip(names, table.columns, strict=True))
    return RawTable(where, columns, np.arange(first, first + table.num_rows), "row", temporal=temporal)
