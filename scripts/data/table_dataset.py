"""Data set of a table of features and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.config.class_positions import KEY, in_words, positions_of
from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.data.files.mapped_rows import MappedRows
from scripts.data.files.spelling import spelled
from scripts.data.known_categories import BOOLEANS, category_codes, class_codes, unknown_in_words
from scripts.data.seal import class_order
from scripts.data.single_precision import Reference, as_single
from scripts.data.table import Table
from scripts.errors import InputError


@dataclass(frozen=True)
class _Features:
    """Fields of a data set about its features; the notes list unknown categories."""

    x: np.ndarray
    mapped: MappedRows | None
    feature_names: tuple[str, ...]
    categorical: np.ndarray
    vocabularies: dict[str, tuple[str, ...]]
    references: dict[str, Reference]
    notes: Sequence[str]


def table_dataset(table: Table, config: DataConfig, longest_window: int, like: Dataset | None) -> Dataset:
    """Return the data set of a table: its columns in single precision, text as codes into vocabularies.

    Raises
    ------
    InputError
        A feature is missing, or one is text while that of `like` is numeric.
    """
    time, group = config.time_column, config.group_column
    table = table.take(order_of_rows(table.frame, config))
    frame = table.frame
    ticker, tickers = (
        pd.factorize(frame[group], sort=True) if group else (np.zeros(len(frame), dtype=np.int64), ["all"])
    )
    dates, date = (None, np.arange(len(frame))) if time is None else np.unique(frame[time], return_inverse=True)
    ordered = time is not None and not frame.duplicated([c for c in (group, time) if c is not None]).any()
    row = np.arange(len(frame))
    first_row = np.searchsorted(ticker, ticker) if ordered else row
    window = longest_window if ordered else 1
    # A forward return that spans more rows than the label must not read the tested rows either.
    ahead = max(config.horizon, config.forward_return_rows or 1)
    label_end, complete = _label_ends(date, ticker, ahead, ordered, time is not None)
    features = _features(table, like)
    labels = frame[config.label_column]
    classes = like.classes if like else tuple(sorted(set(labels), key=class_order))
    y, unknown = class_codes(labels, classes, str(config.path))
    _check_cost_matrix(config, classes)
    positions, position_notes = _table_positions(classes, config)
    returns = frame[config.forward_return_column] if config.forward_return_column else np.full(len(frame), np.nan)
    return Dataset(
        x=features.x,
        mapped=features.mapped,
        feature_names=features.feature_names,
        categorical=features.categorical,
        vocabularies=features.vocabularies,
        references=features.references,
        y=y,
        classes=classes,
        date=date.astype(np.int64),
        dates=dates,
        ticker=ticker.astype(np.int64),
        tickers=tuple(map(str, tickers)),
        feature_start=date[np.maximum(row - window + 1, first_row)].astype(np.int64),
        label_end=label_end.astype(np.int64),
        forward_return=np.asarray(returns, dtype=np.float64),
        forward_return_rows=config.forward_return_rows or 1,
        cost_bps=frame[config.cost_bps_column].to_numpy(np.float64) if config.cost_bps_column else None,
        class_positions=positions,
        naive={},
        rows=np.flatnonzero((y >= 0) & complete & (row - first_row + 1 >= window)),
        groups=group is not None,
        ordered=ordered,
        notes=(*table.notes, *features.notes, *unknown, *position_notes),
        horizon=config.horizon,
        embargo=config.embargo,
    )


def order_of_rows(frame: pd.DataFrame, config: DataConfig) -> np.ndarray:
    """Return positions that put a table's rows of one group together in time order; a market is read in that order."""
    if config.source != "table" or config.time_column is None:
        return np.arange(len(frame))
    keys = [c for c in (config.group_column, config.time_column) if c is not None]
    return frame.sort_values(keys, kind="stable").index.to_numpy()


def _features(table: Table, like: Dataset | None) -> _Features:
    names, references = table.feature_names, table.references
    if like is not None:  # of another file, the columns that the model knows
        names = [name for name in like.feature_names if name in names]
        references = {name: like.references[name] for name in names if name in like.references}
    if not names:
        raise InputError("has no feature column", "table", "provide at least one column besides the label")
    text = [name for name in names if table.features.is_text[name]]
    unknown = {}
    if like is None:
        vocabularies = {name: tuple(sorted(table.column(name).dropna().unique())) for name in text}
    else:
        vocabularies = {name: words for name, words in like.vocabularies.items() if name in names}
        _refuse_text(table, [name for name in text if name not in vocabularies])
        unknown = {name: category_codes(*_words(table.column(name)), vocabularies[name])[1] for name in vocabularies}
    x, mapped = _filled(table, names, vocabularies, references)
    return _Features(
        x=x,
        mapped=mapped,
        feature_names=tuple(names),
        categorical=np.array([name in vocabularies for name in names]),
        vocabularies=vocabularies,
        references=references,
        notes=unknown_in_words(unknown, vocabularies),
    )


def _filled(
    table: Table, names: list[str], vocabularies: Mapping[str, Sequence[str]], references: Mapping[str, Reference]
) -> tuple[np.ndarray, MappedRows | None]:
    """Columns as float32, shape (n_rows, n_columns), -1 where text is missing or unknown; the file if it is mapped."""
    place = np.full(int(table.rows.max()) + 1, -1)
    place[table.rows] = np.arange(len(table.rows))
    mapped = table.features.new_file((len(table.rows), len(names)))
    x = np.empty((len(table.rows), len(names)), np.float32) if mapped is None else mapped.array(writes=True)
    first = 0
    for columns in table.features.blocks(names):
        block = np.empty((len(columns[names[0]]), len(names)), dtype=np.float32)
        for k, name in enumerate(names):
            if name in vocabularies:
                block[:, k] = category_codes(*_words(columns[name]), vocabularies[name])[0]
            else:
                block[:, k] = as_single(_numbers(columns[name]), references.get(name))
        here = place[first : first + len(block)]
        wanted = np.flatnonzero(here >= 0)
        x[here[wanted]] = block[wanted]
        first += len(block)
    return x if mapped is None else mapped.array(), mapped


def _refuse_text(table: Table, names: Sequence[str]) -> None:
    """Raise InputError for text where the model knows numbers, but for booleans."""
    for name in names:
        if not set(table.column(name).dropna().unique()) <= BOOLEANS.keys():
            what = "is text, unlike in training"
            raise InputError(what, f"column {name}", "use the same types")


def _words(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Cells as positions, int64 of shape (n,), in the distinct ones, which are text, missing ones empty."""
    if pd.api.types.is_numeric_dtype(values):
        cells = np.array(["" if np.isnan(v) else spelled(repr(float(v))) for v in values], dtype=object)
        return pd.factorize(cells)
    codes, used = pd.factorize(values.cat.codes.to_numpy())
    return codes, np.array([*values.cat.categories, ""], dtype=object)[used]


def _numbers(values: pd.Series) -> np.ndarray:
    """Cells as numbers, booleans as 1 and 0."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64)
    return values.astype(object).map(BOOLEANS).to_numpy(dtype=np.float64)


def _check_cost_matrix(config: DataConfig, classes: tuple[str, ...]) -> None:
    """Raise InputError if there is a cost matrix for another number of classes."""
    if config.cost_matrix is not None and len(config.cost_matrix) != len(classes):
        shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise InputError(
            f"has {len(config.cost_matrix)} rows for {len(classes)} classes",
            "data.cost_matrix",
            f"give a row and a column for each class in this order: {shown}",
        )


def _label_ends(
    date: np.ndarray, ticker: np.ndarray, horizon: int, ordered: bool, has_time: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Last date that the label of each row reads, and whether all of the bars up to it are there.

    A label is assumed to look `horizon` bars of its ticker ahead, or dates if rows are not consecutive; one
    whose bars are not all there may read beyond these rows.
    """
    if not has_time:
        return date, np.ones(len(date), dtype=bool)
    if not ordered:
        return np.minimum(date + horizon, date.max()), date + horizon <= date.max()
    ahead = np.arange(len(date)) + horizon
    last = np.searchsorted(ticker, ticker, side="right") - 1
    return date[np.minimum(ahead, last)], ahead <= last


def _table_positions(classes: tuple[str, ...], config: DataConfig) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Positions of a table's classes, with a note that shows them; None without forward returns."""
    if config.forward_return_column is None:
        return None, ()
    positions = positions_of(classes, config.class_positions)
    source = "by their names; data.class_positions changes them" if config.class_positions is None else KEY
    return positions, (f"positions of the classes: {in_words(classes, positions)} ({source})",)
