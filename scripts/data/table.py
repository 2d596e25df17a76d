"""Checked table whose rows keep their line numbers, common to market files and tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scripts.data.files.feature_columns import FeatureColumns
from scripts.data.files.raw_tables import RawTable
from scripts.data.single_precision import Reference
from scripts.errors import InputError
from scripts.storage.printable import and_more


@dataclass(frozen=True)
class Table:
    """Rows of a data source, and which of them are sealed.

    Attributes
    ----------
    frame : DataFrame
        Market: date (datetime64[ns], without time zone), ticker (text), close and those of open, high, low, volume
        that exist (float64); sorted by ticker, then date. Table: the columns that the config gives another purpose than
        that of a feature (numbers float64, others text, missing cells NaN), by time if there is a time column, else in
        file order. The index counts from 0.
    features : FeatureColumns
        Feature columns of a table, of all rows of its file.
    rows : ndarray of int64, shape (n_rows,)
        Row of the file, from 0, of each row of `frame`.
    columns : tuple of str
        Names of the columns of `frame` and `features` in use, in file order.
    source : RawTable
        Lines of the file.
    sealed : ndarray of bool, shape (n_rows,)
    notes : tuple of str
        Repairs and warnings in words.
    truth : ndarray of float64, shape (n_rows,), or None
        Exact probability that the next close is higher; synthetic markets only.
    dropped : tuple of str
        Feature columns that the development rows do not allow to use.
    references : dict of str to tuple of float
        By feature column, the value and unit that it is kept relative to in single precision.
    roles : dict of str to str
        Markets: column of the file by its role.
    """

    frame: pd.DataFrame
    features: FeatureColumns
    rows: np.ndarray
    columns: tuple[str, ...]
    sealed: np.ndarray
    source: RawTable
    notes: tuple[str, ...] = ()
    truth: np.ndarray | None = None
    dropped: tuple[str, ...] = ()
    references: dict[str, Reference] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        features: FeatureColumns | None = None,
        columns: Iterable[str] | None = None,
        source: RawTable | None = None,
    ) -> Table:
        """Return a table of all rows of a file, none of them sealed; without a file its rows are numbered."""
        rows, sealed = np.arange(len(frame)), np.zeros(len(frame), dtype=bool)
        columns = tuple(map(str, frame.columns if columns is None else columns))
        source = RawTable("", {}, rows + 1, "row") if source is None else replace(source, columns={})
        return cls(frame, FeatureColumns({}) if features is None else features, rows, columns, sealed, source)

    @property
    def feature_names(self) -> list[str]:
        """Names of the feature columns in use, in file order."""
        return [name for name in self.columns if name not in self.frame]

    def take(self, rows: np.ndarray) -> Table:
        """Return these rows, by position or as a mask, in this order."""
        return replace(
            self,
            frame=self.frame.iloc[rows].reset_index(drop=True),
            rows=self.rows[rows],
            sealed=self.sealed[rows],
            truth=None if self.truth is None else self.truth[rows],
        )

    def noted(self, *notes: str) -> Table:
        """Return the table with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def column(self, name: str) -> pd.Series:
        """Return one column."""
        if name in self.frame:
            return self.frame[name]
        return self.features.column(name).iloc[self.rows].reset_index(drop=True)

    def whole(self) -> pd.DataFrame:
        """Return all columns in use as one frame."""
        return pd.DataFrame({name: self.column(name) for name in self.columns}, copy=False)

    def repeated(self) -> np.ndarray:
        """Return True for rows that equal an earlier one in all columns."""
        hashes = self.row_hashes(self.columns, equal_zeros=True)
        suspects = np.flatnonzero(pd.Series(hashes).duplicated(keep=False))
        repeated = np.zeros(len(hashes), dtype=bool)
        if len(suspects):
            repeated[suspects] = self.take(suspects).whole().duplicated()
        return repeated

    def row_hashes(self, columns: Sequence[str], equal_zeros: bool = False) -> np.ndarray:
        """Return a 64-bit hash of the content of each row in some columns, one column in memory at a time.

        These are the hashes of `pandas.util.hash_pandas_object` for a frame of these columns. With `equal_zeros`, zeros
        of both signs have the same hash.
        """
        factor, combined = np.uint64(1_000_003), np.array([0x345678], dtype=np.uint64)
        for k, values in enumerate(map(self.column, columns)):
            if equal_zeros and pd.api.types.is_numeric_dtype(values):
                values = values + 0.0
            hashes = np.asarray(pd.util.hash_pandas_object(values, index=False), dtype=np.uint64)
            combined = (combined ^ hashes) * factor
            factor += np.uint64(82_520 + 2 * (len(columns) - k))
        return np.asarray(combined + np.uint64(97_531))

    def fingerprints(self) -> tuple[str, str]:
        """Return SHA-256 of the content of the development rows and of the sealed rows."""
        hashes = self.row_hashes(self.columns)
        names = ",".join(self.columns).encode()
        parts = (~self.sealed, self.sealed)
        development, closed = (hashlib.sha256(names + hashes[part].tobytes()).hexdigest() for part in parts)
        return development, closed

    def place(self, row: int, key: Sequence[str] = ()) -> str:
        """Return file and line of a row and its values of the columns `key`, for messages."""
        values = (f", {name} {shown(self.frame[name].iloc[row])}" for name in key)
        return self.source.place(int(self.rows[row])) + "".join(values)


def shown(value: object) -> str:
    """A value for messages: dates as ISO 8601, without the time where it is midnight."""
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else value.isoformat()
    return str(value)


def drop_copies(table: Table, key: Sequence[str]) -> Table:
    """Leave out rows that are exact copies of an earlier one; the note shows the columns `key` of the first."""
    # Copies have equal keys, and comparing keys is cheap compared with all columns.
    if not table.frame.duplicated(list(key)).any():
        return table
    copies = table.repeated()
    if not copies.any():
        return table
    place = table.place(int(copies.argmax()), key)
    note = f"{int(copies.sum())} rows are exact copies of earlier ones and were dropped; the first is {place}"
    return table.take(~copies).noted(note)


def refuse_conflicts(table: Table, key: Sequence[str]) -> None:
    """Raise InputError, naming both lines, if two rows have the same values in the columns `key`."""
    conflicts = table.frame.duplicated(list(key)).to_numpy()
    if not conflicts.any():
        return
    second = int(conflicts.argmax())
    same = np.logical_and.reduce([(table.frame[name] == table.frame[name].iloc[second]).to_numpy() for name in key])
    line = f"{table.source.unit} {table.source.lines[table.rows[int(same.argmax())]]}"
    what = f"differs from {line}, which has the same {' and '.join(key)}{and_more(int(conflicts.sum()))}"
    raise InputError(what, table.place(second, key), "keep one of the two")


def sort_rows(table: Table, time: str, group: str | None, group_first: bool) -> Table:
    """Sort by time, equal times in file order; with `group_first` by group, then time.

    There is a note only if times run backwards within a group: a file sorted by time and then group is in order.
    """
    times = table.frame[time].to_numpy()
    codes = np.zeros(len(times), dtype=np.int64) if group is None else pd.factorize(table.frame[group], sort=True)[0]
    by_group = np.argsort(codes, kind="stable")
    same, backwards = np.diff(codes[by_group]) == 0, np.diff(times[by_group]) < np.timedelta64(0)
    late = by_group[1:][same & backwards]
    order = np.lexsort((times, codes)) if group_first else np.argsort(times, kind="stable")
    if (np.diff(order) == 1).all():
        return table
    if not len(late):
        return table.take(order)
    key = [time] if group is None else [group, time]
    place = table.place(int(late.min()), key)
    return table.take(order).noted(f"{len(late)} rows were out of order of {time} and sorted; the first is {place}")
