"""Splits of rows in time: the tail, purged k-fold, walk-forward, combinatorial; and stratified ones for tables.

Splitters are generators of index arrays and know nothing of models. The rule of purging (Lopez de Prado 2018, chapter
7): with s the first date of a block of tested dates and E the last date that a label of its rows reads, a row at date
t may train if it lies before the block and its label ends more than the embargo before s, or lies after the block,
more than the embargo after E, and its features begin after E.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from scripts.errors import InputError

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Spans:
    """What a splitter must know of each row: positions in the calendar of all tickers, int64 of shape (n,).

    Attributes
    ----------
    date : ndarray
        Date of the row.
    feature_start : ndarray
        First bar that its features read, the model's window included.
    label_end : ndarray
        Last bar that its label reads.
    """

    date: np.ndarray
    feature_start: np.ndarray
    label_end: np.ndarray


class PurgedKFold:
    """k blocks of consecutive dates, each tested once by a model that is trained on the purged rest."""

    def __init__(self, n_splits: int, embargo: int) -> None:
        self.n_splits, self.embargo = n_splits, embargo

    def split(self, spans: Spans) -> Iterator[Split]:
        """Yield (train, test) positions, ascending."""
        for block in _date_blocks(spans, self.n_splits):
            test = np.isin(spans.date, block)
            yield _checked(_may_train(spans, test, self.embargo), test, f"fold of {len(block)} dates")


class WalkForward:
    """Blocks of dates tested one after the other by models trained on what came before.

    Parameters
    ----------
    n_blocks : int
        Blocks of equal length at the end of the dates that are tested; the dates before them train alone.
    embargo : int
    n_train_dates : int or None
        Dates before each block that train (rolling); None takes all (expanding).
    first_train_dates : int or None
        Dates before the first tested block; None means as many as a block has.
    """

    def __init__(
        self, n_blocks: int, embargo: int, n_train_dates: int | None = None, first_train_dates: int | None = None
    ) -> None:
        self.n_blocks, self.embargo = n_blocks, embargo
        self.n_train_dates, self.first_train_dates = n_train_dates, first_train_dates

    def split(self, spans: Spans) -> Iterator[Split]:
        """Yield (train, test) positions, ascending."""
        dates = np.unique(spans.date)
        first = self.first_train_dates or len(dates) // (self.n_blocks + 1)
        for block in np.array_split(dates[first:], self.n_blocks):
            test = np.isin(spans.date, block)
            train = _may_train(spans, test, self.embargo) & (spans.date < block[0])
            if self.n_train_dates is not None:
                train &= spans.date >= block[0] - self.n_train_dates
            yield _checked(train, test, f"block of {len(block)} dates")


class CombinatorialPurged:
    """Every choice of `n_test_blocks` of `n_blocks` blocks of dates is tested once (Lopez de Prado 2018, chapter 12)."""

    def __init__(self, n_blocks: int, n_test_blocks: int, embargo: int) -> None:
        self.n_blocks, self.n_test_blocks, self.embargo = n_blocks, n_test_blocks, embargo

    def split(self, spans: Spans) -> Iterator[Split]:
        """Yield (train, test) positions, ascending; purged around every tested block."""
        blocks = _date_blocks(spans, self.n_blocks)
        for chosen in itertools.combinations(blocks, self.n_test_blocks):
            tests = [np.isin(spans.date, block) for block in chosen]
            train = np.logical_and.reduce([_may_train(spans, test, self.embargo) for test in tests])
            yield _checked(train, np.logical_or.reduce(tests), f"{self.n_test_blocks} blocks")


def split_end(spans: Spans, fraction: float, embargo: int) -> Split:
    """Training positions and those of the last dates, which hold about `fraction` of the rows."""
    dates, counts = np.unique(spans.date, return_counts=True)
    rows_from = counts[::-1].cumsum()[::-1]
    first = int(np.searchsorted(-rows_from, -fraction * len(spans.date)))
    if not 0 < first < len(dates):
        raise InputError(
            f"{len(dates)} dates cannot be cut into training rows and a tail of {fraction:g}",
            "data",
            "give more history",
        )
    test = spans.date >= dates[first]
    return _checked(_may_train(spans, test, embargo), test, f"tail of {fraction:g}")


def table_split_end(y: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int) -> Split:
    """Stratified sample of about `fraction` of the rows of a table without time; groups stay together."""
    n_splits = max(2, round(1 / fraction))
    return next(iter(table_folds(y, groups, n_splits, seed)))


def table_folds(y: np.ndarray, groups: np.ndarray | None, n_splits: int, seed: int) -> Iterator[Split]:
    """Stratified folds of a table without time; groups stay together."""
    counts = np.bincount(y[y >= 0])
    fewest = counts[counts > 0].min() if groups is None else len(np.unique(groups))
    if fewest < n_splits:
        what = "rows in the rarest class" if groups is None else "groups"
        raise InputError(f"{fewest} {what} cannot fill {n_splits} folds", "data", "give more rows or use fewer folds")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits, shuffle=True, random_state=seed % 2**32)
    yield from splitter.split(np.zeros(len(y)), y, groups)


def _date_blocks(spans: Spans, n_blocks: int) -> list[np.ndarray]:
    """The dates that have a row, cut into blocks; the first ones are larger."""
    dates = np.unique(spans.date)
    if len(dates) < n_blocks:
        raise InputError(f"{len(dates)} dates cannot fill {n_blocks} folds", "data", "give more history or use fewer folds")
    return np.array_split(dates, n_blocks)


def _may_train(spans: Spans, test: np.ndarray, embargo: int) -> np.ndarray:
    """Rows outside a block of tested dates whose labels and features do not touch it."""
    first, last = spans.date[test].min(), spans.label_end[test].max()
    before = spans.label_end + embargo < first
    after = (spans.date > last + embargo) & (spans.feature_start > last)
    return (before & (spans.date < first)) | after


def _checked(train: np.ndarray, test: np.ndarray, what: str) -> Split:
    if not train.any() or not test.any():
        raise InputError(
            f"a {what} leaves {train.sum()} training and {test.sum()} test rows of {len(train)} after purging",
            "data",
            "give more history, use fewer folds, or lower data.embargo, data.horizon or the longest window",
        )
    return np.flatnonzero(train), np.flatnonzero(test)
