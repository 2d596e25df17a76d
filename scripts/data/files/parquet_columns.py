"""Columns of a Parquet file, each read when it is asked for, so that a table is never in memory as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from scripts.data.files.arrow_cells import check_sizes, check_types, is_dated, is_text
from scripts.data.files.column_names import checked_names
from scripts.data.files.market_names import LEVEL
from scripts.errors import InputError
from scripts.storage.parquet_bounds import check_footer, check_inflation

_PAGE_BYTES = 2**16  # of a column that are read at a time


class ParquetColumns(Mapping[str, pa.ChunkedArray]):
    """Columns of a Parquet file, each read and validated when it is asked for; errors as `read_table`."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        self._path = path
        with parquet_faults(path):
            self._file = opened_parquet(path)
            self._original = {called: original for original, called in names_of(self._file, path, required).items()}
        self.n_rows = self._file.metadata.num_rows
        schema = self._file.schema_arrow
        self.temporal = frozenset(
            name for name, original in self._original.items() if is_dated(schema.field(original).type)
        )

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        original = self._original[name]
        with parquet_faults(self._path):
            column = self._file.read(columns=[original]).column(original)
            # pyarrow trusts offsets and indices of a file; damaged ones would read outside of its buffers.
            column.validate(full=True)
        check_sizes(column, f"{self._path}, column {original}")
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._original)

    def __len__(self) -> int:
        return len(self._original)


def opened_parquet(path: Path) -> pyarrow.parquet.ParquetFile:
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
def parquet_faults(path: Path) -> Iterator[None]:
    """Damage that is found in a Parquet file is the user's matter."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"is not a valid Parquet file ({first})", str(path), "write or download it again") from None


def names_of(file: pyarrow.parquet.ParquetFile, path: Path, required: Sequence[str]) -> dict[str, str]:
    """Names of the columns of a Parquet file in this program by their own names, after checking the types."""
    own = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
    names, shown = (own, own) if required else _with_dated_index(file.schema_arrow)
    called = checked_names(shown, required, str(path))
    check_inflation(file.metadata, path)
    check_types(file.schema_arrow, names, str(path))
    return dict(zip(names, called, strict=True))


def _with_dated_index(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Names of the columns of a market to read, and what they are called: pandas stores an index without a name, too.

    An index of dates is the date; others only count the rows. Names of two levels are tuples as text.
    """
    index = [name for name in schema.names if name.startswith("__index_level_")]
    dated = [name for name in index if is_dated(schema.field(name).type)]
    names = [name for name in schema.names if name not in index or name in dated[:1]]
    lower = {name.lower() for name in names}
    shown = ["date" if name in index and "date" not in lower else name for name in names]
    return names, [LEVEL.join(levels) if (levels := _levels(name)) else name for name in shown]


def _levels(name: str) -> tuple[str, ...]:
    """Return the levels of a name such as ('Close', 'AAPL'), none if it is not of that form."""
    found = re.fullmatch(r"\('([^']*)', '([^']*)'\)", name)
    return () if found is None else (found[1], found[2]) if found[2] else (found[1],)
