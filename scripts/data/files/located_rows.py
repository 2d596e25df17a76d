"""Typed rows that still know their lines: what market files and tables have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scripts.data.files.raw_tables import RawTable
from scripts.data.files.streamed_features import StreamedFeatures
from scripts.errors import InputError


@dataclass(frozen=True)
class LocatedRows:
    """Rows of a frame, the file and lines they come from, and those of their columns that are not in the frame."""

    frame: pd.DataFrame
    source: RawTable
    features: StreamedFeatures | None = None

    def take(self, rows: np.ndarray) -> LocatedRows:
        """These rows in this order."""
        source = replace(self.source, lines=self.source.lines[rows], columns={})
        features = None if self.features is None else self.features.take(rows)
        return LocatedRows(self.frame.iloc[rows].reset_index(drop=True), source, features)

    def repeated(self) -> np.ndarray:
        """True for rows that equal an earlier one in all columns."""
        if self.features is not None:
            return self.features.repeated(self.frame)
        return self.frame.duplicated().to_numpy()

    def place(self, row: int, key: Sequence[str] = ()) -> str:
        """File and line of a row and its values of the columns `key`, for messages."""
        values = (f", {name} {shown(self.frame[name].iloc[row])}" for name in key)
        return self.source.place(row) + "".join(values)


def shown(value: object) -> str:
    """A value for messages: dates as ISO 8601, without the time where it is midnight."""
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else value.isoformat()
    return str(value)


def drop_copies(rows: LocatedRows, key: Sequence[str]) -> tuple[LocatedRows, list[str]]:
    """Leave out rows that are exact copies of an earlier one; the note shows the columns `key` of the first."""
    # Copies agree in the key, too, and to look for those that do is cheap beside looking at all columns.
    if not rows.frame.duplicated(list(key)).any():
        return rows, []
    copies = rows.repeated()
    if not copies.any():
        return rows, []
    place = rows.place(int(copies.argmax()), key)
    note = f"{int(copies.sum())} rows are exact copies of earlier ones and were dropped; the first is {place}"
    return rows.take(np.flatnonzero(~copies)), [note]


def refuse_conflicts(rows: LocatedRows, key: Sequence[str]) -> None:
    """Raise InputError, naming both lines, if two rows have the same values in the columns `key`."""
    conflicts = rows.frame.duplicated(list(key)).to_numpy()
    if not conflicts.any():
        return
    second = int(conflicts.argmax())
    same = np.logical_and.reduce([(rows.frame[name] == rows.frame[name].iloc[second]).to_numpy() for name in key])
    first, count = int(same.argmax()), int(conflicts.sum())
    more = f" ({count - 1} more like it)" if count > 1 else ""
    what = f"differs from {rows.source.unit} {rows.source.lines[first]}, which has the same {' and '.join(key)}{more}"
    raise InputError(what, rows.place(second, key), "keep one of the two")


def sort_rows(rows: LocatedRows, time: str, group: str | None, group_first: bool) -> tuple[LocatedRows, list[str]]:
    """Sort by time, equal times in file order; with `group_first` by group, then time.

    There is a note only if times run backwards within a group: a file sorted by time and then group is in order.
    """
    times = rows.frame[time].to_numpy()
    codes = np.zeros(len(times), dtype=np.int64) if group is None else pd.factorize(rows.frame[group], sort=True)[0]
    by_group = np.argsort(codes, kind="stable")
    same, backwards = np.diff(codes[by_group]) == 0, np.diff(times[by_group]) < np.timedelta64(0)
    late = by_group[1:][same & backwards]
    order = np.lexsort((times, codes)) if group_first else np.argsort(times, kind="stable")
    if (np.diff(order) == 1).all():
        return rows, []
    notes = []
    if len(late):
        key = [time] if group is None else [group, time]
        notes = [
            f"{len(late)} rows were out of order of {time} and sorted; the first is {rows.place(int(late.min()), key)}"
        ]
    return rows.take(order), notes
