"""Feature columns of a table that is too large for memory: read one at a time, or all of them in parts of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.cells import column_numbers
from scripts.data.files.columns import read_column
from scripts.data.files.mapped_rows import MappedRows
from scripts.data.files.raw_tables import RawTable, table_chunks
from scripts.data.known_categories import UnknownCells, category_codes, known_numbers
from scripts.data.single_precision import Reference, as_single
from scripts.errors import InputError


@dataclass(frozen=True)
class StreamedFeatures:
    """Some rows of the feature columns of a Parquet file.

    Attributes
    ----------
    table : RawTable
        The whole file, each column of which has passed its checks.
    config : DataConfig
    names : tuple of str
        In file order.
    text : frozenset of str
        Those that hold text.
    rows : ndarray of int64, shape (n,)
        Rows of the file, from 0, in any order.
    folder : Path or None
        Where mapped rows go.
    """

    table: RawTable
    config: DataConfig
    names: tuple[str, ...]
    text: frozenset[str]
    rows: np.ndarray
    folder: Path | None

    def take(self, rows: np.ndarray) -> StreamedFeatures:
        """These of the rows, by position or as a mask."""
        return replace(self, rows=self.rows[rows])

    def only(self, names: Iterable[str]) -> StreamedFeatures:
        """These columns, in the order given."""
        return replace(self, names=tuple(names))

    def column(self, name: str) -> pd.Series:
        """One column, as `read_features` gives it."""
        values = read_column(self.table, name, self.config)
        return pd.Series(values[self.rows]) if isinstance(values, np.ndarray) else values.iloc[self.rows]

    def items(self, frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
        """These columns and those of `frame`, whose rows are these ones, in file order and one at a time."""
        for name in self.table.columns:
            if name in frame:
                yield name, frame[name]
            elif name in self.names:
                yield name, self.column(name)

    def whole(self, frame: pd.DataFrame) -> pd.DataFrame:
        """All columns at once, with the index of `frame`, whose rows are these ones; for a few rows."""
        return pd.DataFrame({name: values.set_axis(frame.index) for name, values in self.items(frame)})

    def repeated(self, frame: pd.DataFrame) -> np.ndarray:
        """True for rows that equal an earlier one in these columns and those of `frame`."""
        hashes = combined_hashes(
            (_without_negative_zeros(values) for _, values in self.items(frame)), self._width(frame)
        )
        suspects = np.flatnonzero(pd.Series(hashes).duplicated(keep=False))
        repeated = np.zeros(len(frame), dtype=bool)
        if len(suspects):
            repeated[suspects] = self.take(suspects).whole(frame.iloc[suspects]).duplicated()
        return repeated

    def mapped(
        self, vocabularies: Mapping[str, Sequence[str]], references: Mapping[str, Reference]
    ) -> tuple[MappedRows, dict[str, UnknownCells]]:
        """The rows as `Dataset.x`, in a mapped file, text as codes into the vocabulary of its column; unknown cells."""
        place = np.full(len(self.table), -1)
        place[self.rows] = np.arange(len(self.rows))
        mapped = MappedRows(self.folder, (len(self.rows), len(self.names)))
        unknown = {name: UnknownCells(0, 0) for name in vocabularies}
        x, first = mapped.array(writes=True), 0
        for part in table_chunks(Path(self.table.path), self.config, self.names):
            here = place[first : first + len(part)]
            wanted = here >= 0
            first += len(part)
            block = np.empty((len(part), len(self.names)), dtype=np.float32)
            for k, name in enumerate(self.names):
                if name not in vocabularies:
                    numbers = column_numbers(part, name)
                    values = known_numbers(part, name) if numbers.unreadable.any() else numbers.values
                    block[:, k] = as_single(values, references.get(name))
                    continue
                codes, distinct = part.categories(name)
                block[:, k] = category_codes(codes, distinct, vocabularies[name])[0]
                unknown[name] += category_codes(codes[wanted], distinct, vocabularies[name])[1]
            x[here[wanted]] = block[wanted]
        if first != len(self.table):
            raise InputError("changed while it was read", self.table.path, "start again once it is written")
        return mapped, unknown

    def _width(self, frame: pd.DataFrame) -> int:
        return len(self.names) + frame.shape[1]


def combined_hashes(columns: Iterable[pd.Series], n_columns: int) -> np.ndarray:
    """What `pandas.util.hash_pandas_object` gives for the rows of a frame of these columns, of which one is there."""
    factor, combined = np.uint64(1_000_003), np.array([0x345678], dtype=np.uint64)
    for k, values in enumerate(columns):
        hashes = np.asarray(pd.util.hash_pandas_object(values, index=False), dtype=np.uint64)
        combined = (combined ^ hashes) * factor
        factor += np.uint64(82_520 + 2 * (n_columns - k))
    return np.asarray(combined + np.uint64(97_531))


def _without_negative_zeros(values: pd.Series) -> pd.Series:
    """The same values, of which equal ones have equal bits."""
    return values + 0.0 if pd.api.types.is_numeric_dtype(values) else values
