"""Tables of features and labels: columns, labels, order of the rows; bundled tables of scikit-learn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.cells import read_dates
from scripts.data.files.column_names import missing_column
from scripts.data.files.columns import named_columns, read_column
from scripts.data.files.feature_columns import FeatureColumns, StoredColumns
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.files.raw_bytes import container_of
from scripts.data.files.raw_tables import read_table
from scripts.data.table import Table, drop_copies, refuse_conflicts, sort_rows
from scripts.errors import InputError

MAX_CLASSES = 1000
MAX_FRACTIONS, MAX_FRACTION_SHARE = 10, 0.1  # labels beyond both are continuous values
BUNDLED = ("breast_cancer", "digits")


def read_features(path: Path, config: DataConfig, bound: MemoryBound = NO_BOUND) -> Table:
    """Read a table of features and labels.

    Parameters
    ----------
    path : Path
        CSV (plain or gzipped) or Parquet.
    config : DataConfig
        Names the label column and, if they exist, those of time, group and forward return.
    bound : MemoryBound
        The features of a Parquet file that exceeds it are left where they are.

    Raises
    ------
    InputError
        If a problem cannot be repaired without guessing.
    """
    named = [name for name in named_columns(config) if name is not None]
    if other := [name for name in config.text_columns if name in named]:
        raise InputError(f"{other[0]!r} is not a feature", "data.text_columns", "remove it from the list")
    raw = read_table(path, config, [*named, *config.text_columns])
    stored = container_of(path) == "parquet" and bound.exceeded_by(len(raw) * len(raw.columns))
    notes = raw.notes
    frame, kept, text = dict[str, object](), dict[str, pd.Series](), dict[str, bool]()
    for name in raw.columns:
        if name == config.time_column:
            frame[name], date_notes = read_dates(raw, name, config.date_format)
            notes += date_notes
            continue
        values = read_column(raw, name, config)
        if name in named:
            frame[name] = values
        elif stored:
            text[name] = isinstance(values, pd.Series)
        else:
            kept[name] = pd.Series(values)
    features = StoredColumns(raw, config, text, bound.folder) if stored else FeatureColumns(kept)
    table = Table.of(pd.DataFrame(frame, copy=False), features, raw.columns, raw).noted(*notes)
    table = _order(_drop_unlabelled(table, config), config)
    _check(table, config, raw.path)
    return table


def read_bundled(name: str, config: DataConfig) -> Table:
    """Read one of scikit-learn's bundled tables, `sklearn:breast_cancer` or `sklearn:digits`; labels are "target"."""
    known = ", ".join(f"sklearn:{other}" for other in BUNDLED)
    if name not in BUNDLED:
        raise InputError(f"scikit-learn table {name!r} is not known", "data.path", f"choose one of {known}")
    import sklearn.datasets  # takes a second to import

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    frame = pd.DataFrame(bunch.data, columns=list(map(str, bunch.feature_names))).astype(np.float64)
    frame["target"] = bunch.target.astype(np.float64)
    place = f"sklearn:{name}"
    if config.text_columns:
        raise InputError(f"{place} has only numbers", "data.text_columns", "remove the key")
    if config.cost_bps_column is not None:
        raise InputError(f"{place} has no costs", "data.cost_bps_column", "remove the key")
    for column in named_columns(config):
        if column is not None and column not in frame:
            raise missing_column(column, list(frame.columns)[::-1], place, "the label column is 'target'")
    table = frame_as_table(frame, config)
    _check(table, config, place)
    return table


def frame_as_table(frame: pd.DataFrame, config: DataConfig) -> Table:
    """Return a checked frame as a table."""
    frame = frame.reset_index(drop=True)
    names = list(map(str, frame.columns))
    features = [name for name in names if config.source == "table" and name not in named_columns(config)]
    columns = FeatureColumns({name: frame[name] for name in features})
    return Table.of(frame.drop(columns=features), columns, names)


def _drop_unlabelled(table: Table, config: DataConfig) -> Table:
    missing = table.frame[config.label_column].isna().to_numpy()
    if not missing.any():
        return table
    place = table.source.place(int(missing.argmax()), config.label_column)
    return table.take(~missing).noted(f"{int(missing.sum())} rows without a label were dropped, the first is {place}")


def _order(table: Table, config: DataConfig) -> Table:
    """Sort dated rows, drop exact copies, refuse two of one group and time; undated copies may be real."""
    # Without time, equal rows may be different cases. With time, an exact copy is a mistake of the file.
    if config.time_column is None:
        copies = table.repeated()
        if not copies.any():
            return table
        return table.noted(
            f"{int(copies.sum())} rows are exact copies of earlier ones; kept, since rows without time may be equal; "
            f"the first is {table.place(int(copies.argmax()))}"
        )
    key = [name for name in (config.group_column, config.time_column) if name is not None]
    table = drop_copies(table, key)
    if config.group_column is not None:
        refuse_conflicts(table, key)
    return sort_rows(table, config.time_column, config.group_column, group_first=False)


def _check(table: Table, config: DataConfig, path: str) -> None:
    """Raise InputError unless there are classes and features."""
    _check_classes(table.frame[config.label_column], path, str(config.label_column))
    if not table.features.is_text:
        raise InputError("no feature column found", path, "provide at least one column besides the label")


def _check_classes(labels: pd.Series, path: str, name: str) -> None:
    counts = Counter(labels.tolist())
    where = f"{path}, column {name}"
    fractions = [value for value in counts if isinstance(value, float) and not value.is_integer()]
    if len(fractions) > MAX_FRACTIONS and len(counts) > MAX_FRACTION_SHARE * len(labels):
        what = f"{len(counts)} different numbers in {len(labels)} rows, such as {fractions[0]:.6g}, are not classes"
        raise InputError(what, where, "name a column of classes, for example the sign of these values")
    if len(counts) < 2:
        shown = ", ".join(f"{value} {count}" for value, count in counts.items()) or "none"
        raise InputError(f"fewer than two classes: {shown} of {len(labels)} rows", where, "give rows of another class")
    if len(counts) > MAX_CLASSES:
        remedy = "name a column of classes in data.label_column, not of continuous values"
        raise InputError(f"{len(counts)} classes are more than {MAX_CLASSES}", where, remedy)
