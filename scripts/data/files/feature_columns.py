"""Feature columns of a table: in memory, or read again from the file if memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.cells import column_numbers
from scripts.data.files.columns import as_categories
from scripts.data.files.mapped_rows import MappedRows
from scripts.data.files.raw_tables import RawTable, table_chunks
from scripts.errors import InputError

_BLOCK = 65_536  # rows


class FeatureColumns:
    """Checked columns of all rows of a file, in memory: numbers as float64, text as categories, missing cells NaN.

    Parameters
    ----------
    columns : mapping of str to Series
        In file order.

    Attributes
    ----------
    is_text : mapping of str to bool
        True for each text column, by name.
    """

    def __init__(self, columns: Mapping[str, pd.Series]) -> None:
        self._columns = columns
        self.is_text = {name: not pd.api.types.is_numeric_dtype(values) for name, values in columns.items()}

    def column(self, name: str) -> pd.Series:
        """Return a column."""
        return self._columns[name]

    def blocks(self, names: Sequence[str]) -> Iterator[dict[str, pd.Series]]:
        """Yield some columns in blocks of rows, in file order."""
        for first in range(0, len(self._columns[names[0]]), _BLOCK):
            yield {name: self._columns[name].iloc[first : first + _BLOCK] for name in names}

    def new_file(self, shape: tuple[int, int]) -> MappedRows | None:
        """Return the file that an array of rows of these columns is mapped from, None if it goes into memory."""
        return None


class StoredColumns(FeatureColumns):
    """Columns that stay in a Parquet file and are read whenever they are asked for.

    Parameters
    ----------
    table : RawTable
        The whole file, each column of which has passed its checks.
    folder : Path or None
        Where mapped rows go.
    """

    def __init__(self, table: RawTable, config: DataConfig, is_text: dict[str, bool], folder: Path | None) -> None:
        self._table, self._config, self._folder = table, config, folder
        self.is_text = is_text

    def column(self, name: str) -> pd.Series:
        """Return a column."""
        return self._read(self._table, name)

    def blocks(self, names: Sequence[str]) -> Iterator[dict[str, pd.Series]]:
        """Yield some columns in blocks of rows, in file order.

        Raises
        ------
        InputError
            The file has another number of rows than before.
        """
        # The file is read several times, and another program may still write to it.
        n_rows = 0
        for part in table_chunks(Path(self._table.path), self._config, names):
            n_rows += len(part)
            yield {name: self._read(part, name) for name in names}
        if n_rows != len(self._table):
            raise InputError("changed while it was read", self._table.path, "start again once it is written")

    def new_file(self, shape: tuple[int, int]) -> MappedRows:
        """Return the file that an array of rows of these columns is mapped from."""
        return MappedRows(self._folder, shape)

    def _read(self, table: RawTable, name: str) -> pd.Series:
        if self.is_text[name]:
            return as_categories(*table.words(name))
        return pd.Series(column_numbers(table, name).values)
