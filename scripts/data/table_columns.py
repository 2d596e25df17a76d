"""One column of a table: numbers where it is meant to hold numbers, else text."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.config import DataConfig
from scripts.data.cells import MISSING, Numbers, checked_numbers, column_numbers
from scripts.data.raw_tables import RawTable
from scripts.errors import InputError


def read_column(table: RawTable, name: str, config: DataConfig) -> np.ndarray | pd.Series:
    """A column as numbers if all of its cells are numbers, else as text; errors as `read_features`."""
    if name == config.group_column:
        return _groups(table, name)
    numbers = column_numbers(table, name)
    if _is_numeric(numbers, name, config):
        return checked_numbers(table, name, numbers)
    # A feature may well have a category called NA; a label called so is a missing one.
    gaps = MISSING if name == config.label_column else {""}
    codes, distinct = table.categories(name)
    return _texts(codes, [None if cell in gaps else cell for cell in distinct])


def _groups(table: RawTable, name: str) -> pd.Series:
    codes, distinct = table.categories(name)
    if len(gap := np.flatnonzero(distinct == "")):
        raise InputError("the group is missing", table.place(int((codes == gap[0]).argmax()), name), "fill it in")
    return _texts(codes, list(distinct))


def _texts(codes: np.ndarray, distinct: list[str | None]) -> pd.Series:
    return pd.Series(np.array(distinct, dtype=object)[codes], dtype="str")


def _is_numeric(numbers: Numbers, name: str, config: DataConfig) -> bool:
    """Whether a column is meant to hold numbers: if most cells do, the others are mistakes."""
    if name == config.forward_return_column:
        return True
    n_bad, n_there = int(numbers.unreadable.sum()), int((~numbers.missing).sum())
    return n_bad == 0 if name == config.label_column else 2 * n_bad < n_there or n_there == 0
