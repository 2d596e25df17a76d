"""Encoding of new cells by the categories of a trained model; unknown ones are counted and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.data.files.cells import Numbers, checked_numbers, column_numbers
from scripts.data.files.raw_tables import RawTable
from scripts.data.files.spelling import READ_AS_MISSING, positions_of, spelled
from scripts.errors import InputError

_SHOWN = 5
BOOLEANS = {"True": 1.0, "False": 0.0, "": np.nan}


@dataclass(frozen=True)
class UnknownCells:
    """Number of cells of a feature with an unknown category, and the first of these categories.

    Attributes
    ----------
    n_cells, n_unknown : int
        Cells that are not missing, and those of them that are unknown.
    """

    n_cells: int
    n_unknown: int
    words: tuple[str, ...] = ()

    def __add__(self, other: UnknownCells) -> UnknownCells:
        words = tuple(dict.fromkeys((*self.words, *other.words)))[: _SHOWN + 1]
        return UnknownCells(self.n_cells + other.n_cells, self.n_unknown + other.n_unknown, words)


def category_codes(
    codes: np.ndarray, distinct: np.ndarray, vocabulary: Sequence[str]
) -> tuple[np.ndarray, UnknownCells]:
    """Positions of cells in a vocabulary, int64 of shape (n,), -1 where missing or unknown, and which are unknown.

    Parameters
    ----------
    codes : ndarray of int64, shape (n,)
        Position of each cell in `distinct`.
    distinct : ndarray of object
        Cells as text; a missing one is empty.
    """
    known = positions_of(distinct, vocabulary)
    counts = np.bincount(codes, minlength=len(distinct))
    unknown = [k for k, cell in enumerate(distinct) if cell and known[k] < 0 and counts[k]]
    there = sum(int(counts[k]) for k, cell in enumerate(distinct) if cell)
    words = tuple(dict.fromkeys(spelled(distinct[k]) for k in unknown))[: _SHOWN + 1]
    return known[codes], UnknownCells(there, int(counts[unknown].sum()), words)


def class_codes(labels: pd.Series, classes: Sequence[str], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class of each row, int64 of shape (n,), -1 where its label is unknown, and a note that names those labels.

    Raises
    ------
    InputError
        No label is known.
    """
    codes, distinct = pd.factorize(labels)
    y, unknown = category_codes(codes, np.asarray(distinct, dtype=object), classes)
    if not unknown.n_unknown:
        return y, ()
    message = f"their label is not one of {_listed(classes)} but {_listed(unknown.words)}"
    if unknown.n_unknown == len(y):
        remedy = "write the labels as they were in training, or name another label column"
        raise InputError(f"no row can be used: {message}", where, remedy)
    return y, (f"{unknown.n_unknown} rows skipped: {message}",)


def unknown_in_words(unknown: Mapping[str, UnknownCells], vocabularies: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each feature with unknown categories."""
    return [
        f"{cells.n_unknown:,} of {cells.n_cells:,} cells of {name} are unknown: {_listed(cells.words)}; "
        f"training knew {_listed(vocabularies[name])}"
        for name, cells in unknown.items()
        if cells.n_unknown
    ]


def known_numbers(table: RawTable, name: str) -> np.ndarray:
    """Return the checked numbers of a feature that was numeric in training; a column of booleans is 1 and 0."""
    numbers = column_numbers(table, name)
    if numbers.unreadable.any():
        codes, distinct = table.words(name)
        if BOOLEANS.keys() >= set(distinct):
            values = np.array([BOOLEANS[word] for word in distinct])[codes]
            numbers = Numbers(values, np.isnan(values), np.zeros(len(values), dtype=bool))
    return checked_numbers(table, name, numbers)


def lost_categories(has_missing: Callable[[str], bool], vocabularies: Mapping[str, Sequence[str]]) -> str | None:
    """Return the ambiguity of missing cells, if any: pandas.read_csv makes them of a category called NA.

    Parameters
    ----------
    has_missing : callable
        Returns whether a column has missing cells.
    """
    for name, words in vocabularies.items():
        lost = [word for word in words if word in READ_AS_MISSING]
        if lost and has_missing(name):
            return f"column {name} has missing cells, which may have been its category {lost[0]!r}"
    return None


def refuse_lost_categories(table: RawTable, vocabularies: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError if a frame has missing cells where `lost_categories` cannot know what they were."""
    if (lost := lost_categories(table.has_nulls, vocabularies)) is not None:
        remedy = "read the file with pandas.read_csv(..., keep_default_na=False), which leaves missing cells empty"
        raise InputError(lost, table.path, remedy)


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(ascii(word if len(word) <= 40 else word[:37] + "...") for word in words[:_SHOWN])
    return shown + (", ..." if len(words) > _SHOWN else "")
