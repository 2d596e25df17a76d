"""Seal of the test rows; columns, types and tickers are determined from the development rows only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.cells import MAX_NUMBER, read_numbers
from scripts.data.files.number_style import NumberStyle
from scripts.data.single_precision import Reference, reference_of
from scripts.data.table import Table
from scripts.errors import InputError
from scripts.storage.printable import listed

# Everything here is determined from the development rows: a column or ticker that was kept or dropped because of sealed
# rows would be knowledge of the test set (docs/log.md, 2026-11-24, "Constant columns").
MIN_BARS = 100  # a ticker with fewer is excluded: the longest feature windows need most of them

MANY_CATEGORIES, MAX_CATEGORIES = 1000, 10_000  # of a column, for a note and at most; each takes 4 bytes a row
UNIQUE, _ENOUGH_WORDS = 0.9, 50  # share of distinct cells above which text is an identifier; minimum cells


def cut(raw: Table, config: DataConfig, seed: int) -> Table:
    """Seal the last dates; of a table without time, a stratified sample.

    Parameters
    ----------
    raw : Table
        What `config` names.
    seed : int
        Seed of the sample.

    Returns
    -------
    Table
        Without the tickers and columns that the development rows do not allow to use; labels of a table are names of
        classes.

    Raises
    ------
    InputError
        If one side is empty, or no feature varies in the development rows.
    """
    if config.source != "table":
        return _without_short_tickers(replace(raw, sealed=_sealed_mask(raw.frame, config, seed)), config)
    table = replace(raw, frame=_with_class_names(raw.frame, config, raw.source.style))
    return _without_constants(replace(table, sealed=_sealed_mask(table.frame, config, seed)), config)


def uncut(raw: Table, config: DataConfig) -> Table:
    """Return a table of the schema of `config` of which nothing is sealed and all columns are kept."""
    if config.source != "table":
        return _without_short_tickers(raw, config)
    return replace(raw, frame=_with_class_names(raw.frame, config, raw.source.style))


def class_name(value: Any) -> str:
    """Label value as text; whole numbers without `.0`."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def class_order(name: str) -> tuple[int, float, str]:
    """Sort key of classes: numbers by value, then text."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _with_class_names(frame: pd.DataFrame, config: DataConfig, style: NumberStyle) -> pd.DataFrame:
    """Labels as names of classes, each by its own cell: a word in one row does not make text of another's number."""
    column = str(config.label_column)
    labels = frame[column]
    if pd.api.types.is_numeric_dtype(labels):
        codes, distinct = pd.factorize(labels.to_numpy())
        names = pd.Series([class_name(float(value)) for value in distinct], dtype="str")
        return frame.assign(**{column: names.take(codes).set_axis(frame.index)})
    values = read_numbers(labels.tolist(), style).values
    sane = np.abs(values) <= MAX_NUMBER
    cells = [class_name(float(v)) if ok else text for v, ok, text in zip(values, sane, labels, strict=True)]
    return frame.assign(**{column: pd.Series(cells, index=frame.index, dtype=object)})


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
    # Cut between dates, never within one: rows of one date share the market.
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


def _without_short_tickers(table: Table, config: DataConfig) -> Table:
    """Leave out tickers with too few development bars, unless all are short; the sealed rows are not used."""
    tickers = table.frame["ticker"]
    counts = tickers[~table.sealed].value_counts(sort=False).reindex(tickers.unique(), fill_value=0)
    short = counts[counts < MIN_BARS]
    if short.empty:
        return table
    shown, place = listed([f"{ticker} ({count})" for ticker, count in short.items()]), config.path or config.source
    before = f"{MIN_BARS} bars before the sealed dates" if table.sealed.any() else f"{MIN_BARS} bars"
    if len(short) == len(counts):
        kept = ~tickers.isin(short.index[short == 0]).to_numpy()  # what the development rows do not know
        return table.take(kept).noted(f"{place}: all tickers have fewer than {before}: {shown}")
    kept = ~tickers.isin(short.index).to_numpy()
    return table.take(kept).noted(f"{place}: tickers with fewer than {before} left out: {shown}")


def _without_constants(table: Table, config: DataConfig) -> Table:
    """Drop feature columns that are constant, or never repeat, in the development rows; refuse those of two types.

    Columns that single precision would blur get their references.
    """
    features = table.feature_names
    constant, unique, many, fault = list[str](), list[str](), list[str](), None
    references: dict[str, Reference] = {}
    for name in features:
        development = table.column(name)[~table.sealed]
        if _is_constant(development):
            constant.append(name)
        # A fault is raised only if some column remains: "every column is constant" is the more useful message.
        elif (mixed := _fault_of_type(name, development, config, table.source.style)) is not None:
            fault = fault or mixed
        elif (n_inputs := _n_inputs(development, f"{config.path}, column {name}")) == 0:
            unique.append(name)
        elif n_inputs >= MANY_CATEGORIES:
            many.append(f"{name} ({n_inputs:,})")
        elif pd.api.types.is_numeric_dtype(development) and (own := reference_of(development.to_numpy(np.float64))):
            references[name] = own
    dropped = [name for name in features if name in {*constant, *unique}]
    if features and len(dropped) == len(features):
        what = "every feature column is constant" + (", or text that never repeats" if unique else "")
        raise InputError(what, f"{config.path}, development rows", "give a column whose values differ")
    if fault is not None:
        raise fault
    notes = [f"{config.path}: constant columns dropped: {listed(constant)}"] if constant else []
    if unique:
        notes.append(f"{config.path}: columns dropped whose text differs in nearly every row: {listed(unique)}")
    if many:
        notes.append(f"{config.path}: text columns with many categories, each of which is an input: {listed(many)}")
    notes += _references_note(references, str(config.path))
    columns = tuple(name for name in table.columns if name not in dropped)
    return replace(table, references=references, columns=columns, dropped=tuple(dropped)).noted(*notes)


def _n_inputs(values: pd.Series, where: str) -> int:
    """Return how many inputs a column becomes; 0 if it is text with about as many categories as rows.

    Raises
    ------
    InputError
        It has more than `MAX_CATEGORIES` that do repeat.
    """
    if pd.api.types.is_numeric_dtype(values):
        return 1
    n_there, n_words = int(values.notna().sum()), int(values.nunique())
    # Identifiers: their one-hot inputs would memorise the training rows.
    if n_there >= _ENOUGH_WORDS and n_words > UNIQUE * n_there:
        return 0
    if n_words > MAX_CATEGORIES:
        what = f"has {n_words:,} categories, each of which would be an input, more than {MAX_CATEGORIES:,}"
        raise InputError(what, where, "remove the column, or put its rare values together")
    return n_words


def _references_note(references: Mapping[str, Reference], path: str) -> tuple[str, ...]:
    """Return a note that names the columns with a reference."""
    if not references:
        return ()
    shown = listed([f"{name} ({centre:.10g})" for name, (centre, _) in references.items()])
    return (f"{path}: columns kept relative to their median, since single precision blurs their values: {shown}",)


def _is_constant(values: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(values):
        return values.nunique(dropna=False) <= 1
    numbers = values.to_numpy()
    return bool((numbers == numbers[:1]).all() or np.isnan(numbers).all())


def _fault_of_type(name: str, development: pd.Series, config: DataConfig, style: NumberStyle) -> InputError | None:
    """Return the fault of a column that is text only in its sealed rows, and would otherwise be numeric."""
    if pd.api.types.is_numeric_dtype(development) or name in config.text_columns:
        return None
    if read_numbers(development.dropna().unique().tolist(), style).unreadable.any():
        return None
    return InputError(
        "has numbers in the development rows and text in the sealed ones",
        f"{config.path}, column {name}",
        "use the same type in all rows, remove the column or add it to data.text_columns",
    )
