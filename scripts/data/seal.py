"""The seal: which rows are sealed; columns, types and tickers are chosen by looking at the other rows alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scripts.config import DataConfig
from scripts.data.cells import MAX_NUMBER, read_numbers
from scripts.data.located_rows import listed
from scripts.data.sources import RawData
from scripts.errors import InputError

MIN_BARS = 100  # a ticker with fewer is left out: the longest feature windows alone take most of them


@dataclass(frozen=True)
class CutTable:
    """A checked table cut into development rows and sealed rows.

    Attributes
    ----------
    frame : DataFrame
        As in `RawData`, without the tickers and columns that the development rows do not allow to use; labels of a
        table are names of classes. The index counts rows of the checked table.
    sealed : ndarray of bool, shape (n_rows,)
    notes : tuple of str
    truth : ndarray of float64 or None
        By the index of `frame`.
    dropped : tuple of str
        Feature columns that were left out.
    """

    frame: pd.DataFrame
    sealed: np.ndarray
    notes: tuple[str, ...]
    truth: np.ndarray | None
    dropped: tuple[str, ...] = ()

    @property
    def fingerprints(self) -> tuple[str, str]:
        """SHA-256 of the content of the development rows and of the sealed rows."""
        hashes = row_hashes(self.frame)
        names = ",".join(map(str, self.frame.columns)).encode()
        parts = (~self.sealed, self.sealed)
        development, closed = (hashlib.sha256(names + hashes[part].tobytes()).hexdigest() for part in parts)
        return development, closed


def cut(raw: RawData, config: DataConfig, seed: int) -> CutTable:
    """Seal the last dates; of a table without time, a stratified sample.

    Parameters
    ----------
    raw : RawData
        What `config` names.
    config : DataConfig
    seed : int
        Seed of the sample.

    Raises
    ------
    InputError
        If nothing is left on one side, or the development rows hold no feature that varies.
    """
    table = uncut(raw, config, check_length=False)
    table = replace(table, sealed=_sealed_mask(table.frame, config, seed))
    if config.source == "table":
        table = _without_constants(table, config)
        _refuse_types_of_sealed_rows(table, config)
        return table
    return _without_short_tickers(table, config)


def uncut(raw: RawData, config: DataConfig, check_length: bool = True) -> CutTable:
    """A table of the schema of `config` of which nothing is sealed and all columns are kept.

    Parameters
    ----------
    check_length : bool
        Whether tickers with too few bars are left out.
    """
    frame = _with_class_names(raw.frame, config) if config.source == "table" else raw.frame
    table = CutTable(frame, np.zeros(len(frame), dtype=bool), raw.notes, raw.truth)
    return _without_short_tickers(table, config) if check_length and config.source != "table" else table


def row_hashes(frame: pd.DataFrame) -> np.ndarray:
    """A 64-bit hash of the content of each row."""
    return np.asarray(pd.util.hash_pandas_object(frame, index=False))


def class_name(value: Any) -> str:
    """Label value as text; whole numbers without `.0`."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def class_order(name: str) -> tuple[int, float, str]:
    """Sort key of classes: numbers by value, then text."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def feature_columns(columns: Sequence[str], config: DataConfig) -> list[str]:
    """Those columns of a table that the config gives no other purpose."""
    named = {config.label_column, config.time_column, config.group_column, config.forward_return_column}
    return [name for name in columns if name not in named]


def _with_class_names(frame: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    """Labels as names of classes, each by its own cell: a word in one row does not make text of another's number."""
    column = str(config.label_column)
    labels = frame[column]
    if pd.api.types.is_numeric_dtype(labels):
        return frame.assign(**{column: labels.map(class_name)})
    values = read_numbers(labels.tolist(), config.decimal).values
    sane = np.abs(values) <= MAX_NUMBER
    names = [class_name(float(v)) if ok else text for v, ok, text in zip(values, sane, labels, strict=True)]
    return frame.assign(**{column: pd.Series(names, index=frame.index, dtype=object)})


def _sealed_mask(frame: pd.DataFrame, config: DataConfig, seed: int) -> np.ndarray:
    """True for the rows of the sealed test set: the last dates, cut between dates."""
    time = "date" if config.source != "table" else config.time_column
    if time is None:
        labels = frame[config.label_column]
        y = pd.Categorical(labels, categories=sorted(set(labels), key=class_order)).codes.astype(np.int64)
        groups = None if config.group_column is None else pd.factorize(frame[config.group_column])[0]
        from scripts.data.table_splits import table_split_end

        sealed = np.zeros(len(frame), dtype=bool)
        sealed[table_split_end(y, groups, config.test_fraction, seed)[1]] = True
        return sealed
    dates, counts = np.unique(frame[time].to_numpy(), return_counts=True)
    rows_from = counts[::-1].cumsum()[::-1]
    first = int(np.searchsorted(-rows_from, -config.test_fraction * len(frame)))
    if first in (0, len(dates)):
        raise InputError(
            f"{len(dates)} dates leave nothing on one side of a sealed fraction of {config.test_fraction}",
            f"{config.path or config.source}",
            "give more dates or change data.test_fraction",
        )
    return np.asarray(frame[time].to_numpy() >= dates[first])


def _without_short_tickers(table: CutTable, config: DataConfig) -> CutTable:
    """Leave out tickers with too few development bars, unless all are short; the sealed rows have no say."""
    tickers = table.frame["ticker"]
    counts = tickers[~table.sealed].value_counts(sort=False).reindex(tickers.unique(), fill_value=0)
    short = counts[counts < MIN_BARS]
    if short.empty:
        return table
    shown, place = listed([f"{ticker} ({count})" for ticker, count in short.items()]), config.path or config.source
    before = f"{MIN_BARS} bars before the sealed dates" if table.sealed.any() else f"{MIN_BARS} bars"
    if len(short) == len(counts):
        return replace(table, notes=(*table.notes, f"{place}: all tickers have fewer than {before}: {shown}"))
    kept = ~tickers.isin(short.index).to_numpy()
    note = f"{place}: tickers with fewer than {before} left out: {shown}"
    return replace(table, frame=table.frame[kept], sealed=table.sealed[kept], notes=(*table.notes, note))


def _without_constants(table: CutTable, config: DataConfig) -> CutTable:
    """Leave out feature columns that never vary in the development rows."""
    development = table.frame[~table.sealed]
    features = feature_columns(list(development.columns), config)
    constant = [name for name in features if development[name].nunique(dropna=False) <= 1]
    if not constant:
        return table
    if len(constant) == len(features):
        raise InputError(
            "every feature column is constant", f"{config.path}, development rows", "give a column whose values differ"
        )
    note = f"{config.path}: constant columns dropped: {listed(constant)}"
    frame = table.frame.drop(columns=constant)
    return replace(table, frame=frame, notes=(*table.notes, note), dropped=tuple(constant))


def _refuse_types_of_sealed_rows(table: CutTable, config: DataConfig) -> None:
    """Refuse a column that is text only because of its sealed rows: alone, the others would be read as numbers."""
    development = table.frame[~table.sealed]
    for name in feature_columns(list(development.columns), config):
        if pd.api.types.is_numeric_dtype(development[name]):
            continue
        if not read_numbers(development[name].dropna().tolist(), config.decimal).unreadable.any():
            raise InputError(
                "holds numbers in the development rows and text in the sealed ones",
                f"{config.path}, column {name}",
                "use the same type in all rows or remove the column",
            )
