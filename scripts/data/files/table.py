"""Tables of features and labels: columns, labels, order of the rows; bundled tables of scikit-learn."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.cells import read_dates
from scripts.data.files.column_names import missing_column
from scripts.data.files.columns import named_columns, read_column
from scripts.data.files.located_rows import LocatedRows, drop_copies, refuse_conflicts, sort_rows
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.files.raw_bytes import is_parquet
from scripts.data.files.raw_tables import read_table
from scripts.data.files.streamed_features import StreamedFeatures
from scripts.errors import InputError

MAX_CLASSES = 1000
BUNDLED = ("breast_cancer", "digits")


def read_features(
    path: Path, config: DataConfig, bound: MemoryBound = NO_BOUND
) -> tuple[pd.DataFrame, tuple[str, ...], StreamedFeatures | None]:
    """Read a table of features and labels.

    Parameters
    ----------
    path : Path
        CSV (plain or gzipped) or Parquet.
    config : DataConfig
        Names the label column and, if they exist, those of time, group and forward return.
    bound : MemoryBound
        The features of a Parquet file that exceeds it are left where they are.

    Returns
    -------
    frame : DataFrame
        Numeric columns as float64, others as text, missing cells NaN, time as datetime64[ns]; by time if there is one,
        else in file order.
    notes : tuple of str
    features : StreamedFeatures or None
        Of the same rows, the feature columns that are not in the frame.

    Raises
    ------
    InputError
        If a problem cannot be mended without guessing.
    """
    named = [name for name in named_columns(config) if name is not None]
    if other := [name for name in config.text_columns if name in named]:
        raise InputError(f"{other[0]!r} is not a feature", "data.text_columns", "remove it from the list")
    table = read_table(path, config, [*named, *config.text_columns])
    streams = is_parquet(path) and bound.exceeded_by(len(table) * len(table.columns))
    notes = list(table.notes)
    columns: dict[str, object] = {}
    text = set[str]()
    for name in table.columns:
        if name == config.time_column:
            columns[name], date_notes = read_dates(table, name, config.date_format)
            notes += date_notes
            continue
        values = read_column(table, name, config)
        if streams and name not in named:
            text |= {name} if isinstance(values, pd.Series) else set()
        else:
            columns[name] = values
    features = None
    if streams:
        names = tuple(name for name in table.columns if name not in named)
        features = StreamedFeatures(table, config, names, frozenset(text), np.arange(len(table)), bound.folder)
    rows = LocatedRows(pd.DataFrame(columns, copy=False), table, features)
    rows, label_notes = _drop_unlabelled(rows, config)
    rows, order_notes = _order(rows, config)
    _check(rows.frame, config, table.path, has_features=bool(features and features.names))
    return rows.frame, (*notes, *label_notes, *order_notes), rows.features


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
    if config.text_columns:
        raise InputError(f"{place} holds numbers alone", "data.text_columns", "remove the key")
    if config.cost_bps_column is not None:
        raise InputError(f"{place} holds no costs", "data.cost_bps_column", "remove the key")
    for column in named_columns(config):
        if column is not None and column not in frame:
            raise missing_column(column, list(frame.columns)[::-1], place, "the label column is 'target'")
    digest = hashlib.sha256(np.ascontiguousarray(frame.to_numpy()).tobytes()).hexdigest()
    _check(frame, config, place)
    return frame, digest


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
        copies = rows.repeated()
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


def _check(frame: pd.DataFrame, config: DataConfig, path: str, has_features: bool = False) -> None:
    """Raise InputError unless there are classes and features, in the frame if nowhere else."""
    _check_classes(frame[config.label_column], path, str(config.label_column))
    if not has_features and set(named_columns(config)).issuperset(frame.columns):
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
