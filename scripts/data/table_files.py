"""Tables of features and labels: types of columns, missing cells, labels; bundled tables of scikit-learn."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config import DataConfig
from scripts.data.cells import MISSING, Numbers, checked_numbers, read_dates, read_numbers
from scripts.data.located_rows import LocatedRows, drop_copies, refuse_conflicts, sort_rows
from scripts.data.raw_tables import RawTable, missing_column, read_table
from scripts.errors import InputError

MAX_CLASSES = 1000
BUNDLED = ("breast_cancer", "digits")


def read_features(path: Path, config: DataConfig) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table of features and labels.

    Parameters
    ----------
    path : Path
        CSV (plain or gzipped) or Parquet.
    config : DataConfig
        Names the label column and, if they exist, those of time, group and forward return.

    Returns
    -------
    frame : DataFrame
        Numeric columns as float64, others as text, missing cells NaN, time as datetime64[ns]; by time if there is one,
        else in file order.
    notes : tuple of str

    Raises
    ------
    InputError
        If a problem cannot be mended without guessing.
    """
    named = (config.label_column, config.time_column, config.group_column, config.forward_return_column)
    table = read_table(path, config, [name for name in named if name is not None])
    notes = list(table.notes)
    columns: dict[str, object] = {}
    for name in table.columns:
        if name == config.time_column:
            columns[name], date_notes = read_dates(table, name, config.date_format)
            notes += date_notes
        else:
            columns[name] = _column(table, name, config)
    rows = LocatedRows(pd.DataFrame(columns), table)
    rows, label_notes = _drop_unlabelled(rows, config)
    rows, order_notes = _order(rows, config)
    _check(rows.frame, config, table.path)
    return rows.frame, (*notes, *label_notes, *order_notes)


def read_bundled(name: str, config: DataConfig) -> tuple[pd.DataFrame, str]:
    """Read one of scikit-learn's bundled tables, `sklearn:breast_cancer` or `sklearn:digits`.

    Returns
    -------
    frame : DataFrame
        Features and the label in column "target", all float64.
    digest : str
        SHA-256 of the values.
    """
    known = ", ".join(f"sklearn:{other}" for other in BUNDLED)
    if name not in BUNDLED:
        raise InputError(f"scikit-learn table {name!r} is not known", "data.path", f"choose one of {known}")
    import sklearn.datasets  # takes a second to import

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    frame = pd.DataFrame(bunch.data, columns=list(map(str, bunch.feature_names))).astype(np.float64)
    frame["target"] = bunch.target.astype(np.float64)
    place = f"sklearn:{name}"
    for column in (config.label_column, config.time_column, config.group_column, config.forward_return_column):
        if column is not None and column not in frame:
            raise missing_column(column, list(frame.columns)[::-1], place, "the label column is 'target'")
    digest = hashlib.sha256(np.ascontiguousarray(frame.to_numpy()).tobytes()).hexdigest()
    _check(frame, config, place)
    return frame, digest


def _column(table: RawTable, name: str, config: DataConfig) -> np.ndarray | pd.Series:
    """A column as numbers if all of its cells are numbers, else as text."""
    cells = table.cells(name)
    if name == config.group_column:
        if "" in cells:
            raise InputError("the group is missing", table.place(cells.index(""), name), "fill it in")
        return pd.Series(cells, dtype="str")
    numbers = read_numbers(cells, table.decimal)
    if _is_numeric(numbers, name, config):
        return checked_numbers(table, name, numbers)
    # A feature may well have a category called NA; a label called so is a missing one.
    gaps = MISSING if name == config.label_column else {""}
    return pd.Series([None if cell in gaps else cell for cell in cells], dtype="str")


def _is_numeric(numbers: Numbers, name: str, config: DataConfig) -> bool:
    """Whether a column is meant to hold numbers: if most cells do, the others are mistakes."""
    if name == config.forward_return_column:
        return True
    n_bad, n_there = int(numbers.unreadable.sum()), int((~numbers.missing).sum())
    return n_bad == 0 if name == config.label_column else 2 * n_bad < n_there or n_there == 0


def _drop_unlabelled(rows: LocatedRows, config: DataConfig) -> tuple[LocatedRows, list[str]]:
    missing = rows.frame[config.label_column].isna().to_numpy()
    if not missing.any():
        return rows, []
    place = rows.source.place(int(missing.argmax()), config.label_column)
    note = f"{int(missing.sum())} rows without a label were dropped, the first is {place}"
    return rows.take(np.flatnonzero(~missing)), [note]


def _order(rows: LocatedRows, config: DataConfig) -> tuple[LocatedRows, list[str]]:
    """Sort dated rows, drop exact copies, refuse two of one group and time; undated copies may be real."""
    if config.time_column is None:
        copies = rows.frame.duplicated().to_numpy()
        if not copies.any():
            return rows, []
        return rows, [
            f"{int(copies.sum())} rows are exact copies of earlier ones; kept, since rows without time may be equal; "
            f"the first is {rows.place(int(copies.argmax()))}"
        ]
    key = [name for name in (config.group_column, config.time_column) if name is not None]
    rows, copy_notes = drop_copies(rows, key)
    if config.group_column is not None:
        refuse_conflicts(rows, key)
    rows, order_notes = sort_rows(rows, config.time_column, config.group_column, group_first=False)
    return rows, copy_notes + order_notes


def _check(frame: pd.DataFrame, config: DataConfig, path: str) -> None:
    """Raise InputError unless there are classes and features."""
    _check_classes(frame[config.label_column], path, str(config.label_column))
    named = {config.label_column, config.time_column, config.group_column, config.forward_return_column}
    if named.issuperset(frame.columns):
        raise InputError("there is no feature column", path, "give at least one column beside the label")


def _check_classes(labels: pd.Series, path: str, name: str) -> None:
    counts = Counter(labels.tolist())
    where = f"{path}, column {name}"
    if len(counts) < 2:
        shown = ", ".join(f"{value} {count}" for value, count in counts.items()) or "none"
        raise InputError(f"fewer than two classes: {shown} of {len(labels)} rows", where, "give rows of another class")
    if len(counts) > MAX_CLASSES:
        remedy = "name a column of classes in data.label_column, not of continuous values"
        raise InputError(f"{len(counts)} classes are more than {MAX_CLASSES}", where, remedy)
