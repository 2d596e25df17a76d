"""Type of a table column: numbers if most of its cells are numbers, otherwise text."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.files.cells import Numbers, checked_costs, checked_numbers, column_numbers, read_numbers
from scripts.data.files.raw_tables import RawTable
from scripts.data.files.spelling import MISSING
from scripts.errors import InputError

_PLAIN_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)([.,]\d+)?", re.ASCII)


def named_columns(config: DataConfig) -> tuple[str | None, ...]:
    """Columns of a table that the config gives another purpose than that of a feature."""
    traded = config.forward_return_column, config.cost_bps_column
    return config.label_column, config.time_column, config.group_column, *traded


def read_column(table: RawTable, name: str, config: DataConfig) -> np.ndarray | pd.Series:
    """A column as numbers if all of its cells are numbers, else as text, a feature as categories.

    Errors as `read_features`.
    """
    if name == config.group_column:
        return groups(table, name)
    if name == config.cost_bps_column:
        return checked_costs(table, name)
    if name in config.text_columns:
        return as_categories(*table.words(name))
    numbers = column_numbers(table, name)
    if name == config.label_column and table.floats(name) is None:
        _refuse_merged_labels(table, name)
    if _is_numeric(numbers, name, config):
        try:
            return checked_numbers(table, name, numbers)
        except InputError as error:
            if name in named_columns(config) or not numbers.unreadable.any():
                raise
            declared = shlex.quote(f"data.text_columns={json.dumps([*config.text_columns, name])}")
            remedy = f"{error.remedy}; if the column is text, add --set {declared}"
            raise InputError(error.what, error.where, remedy) from None
    # A feature may well have a category called NA; a label called so is a missing one.
    codes, distinct = table.words(name)
    if name == config.label_column:
        return _texts(codes, [None if cell in MISSING else cell for cell in distinct])
    return as_categories(codes, distinct)


def as_categories(codes: np.ndarray, distinct: np.ndarray) -> pd.Series:
    """Return a column of text, given as in `RawTable.words`, as categories; empty cells are missing."""
    there = distinct != ""
    places = np.where(there, np.cumsum(there) - 1, -1)
    categories = pd.Index(distinct[there], dtype="str")
    return pd.Series(pd.Categorical.from_codes(places[codes], categories))


def groups(table: RawTable, name: str) -> pd.Series:
    """A column of groups; InputError for a cell that is missing."""
    codes, distinct = table.words(name)
    if len(gap := np.flatnonzero(distinct == "")):
        raise InputError("the group is missing", table.place(int((codes == gap[0]).argmax()), name), "fill it in")
    return _texts(codes, list(distinct))


def _refuse_merged_labels(table: RawTable, name: str) -> None:
    """Raise InputError for labels that differ as text, such as 01 and 1, and would be one class by their value."""
    codes, distinct = table.words(name)
    values = read_numbers(list(distinct), table.style).values
    first: dict[float, str] = {}
    for cell, value in zip(distinct, values, strict=True):
        other = first.setdefault(float(value), cell)
        if other != cell and not (_PLAIN_NUMBER.fullmatch(cell) and _PLAIN_NUMBER.fullmatch(other)):
            row = int((codes == np.flatnonzero(distinct == cell)[0]).argmax())
            what = f"the label {cell[:40]!a} has the value of the label {other[:40]!a}"
            remedy = "use one spelling if they are one class, else start one with a letter"
            raise InputError(what, table.place(row, name), remedy)


def _texts(codes: np.ndarray, distinct: list[str | None]) -> pd.Series:
    return pd.Series(np.array(distinct, dtype=object)[codes], dtype="str")


def _is_numeric(numbers: Numbers, name: str, config: DataConfig) -> bool:
    """Return True if a column is numeric: if most cells are numbers, the others are errors."""
    if name == config.forward_return_column:
        return True
    # A few unreadable cells in a column of numbers are mistakes, which an error names. As text, the column would
    # silently become thousands of categories. For labels, any text makes classes of all cells.
    n_bad, n_there = int(numbers.unreadable.sum()), int((~numbers.missing).sum())
    return n_bad == 0 if name == config.label_column else 2 * n_bad < n_there or n_there == 0
