"""Purged splits with embargo: k-fold, combinatorial and walk-forward, as positions of rows.

Terms: a row has a date t, reads features from the date a on and its label up to the date e. A test block has the
first date s, and E is the last date that any label of its rows reads. A row outside the block may train if

    before the block: e + embargo < s        after it: t > E + embargo and a > E

(Lopez de Prado 2018, chapter 7, with the embargo on both sides and the features purged as well). All dates are
positions in the calendar of all tickers. Rows of one date are never on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scripts.errors import InputError

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Spans:
    """Data of each row for a splitter: positions in the calendar, int64, shape (n,).

    Attributes
    ----------
    date : ndarray
        Date of the row.
    feature_start : ndarray
        First bar that the row's features read, the model's window included.
    label_end : ndarray
        Last bar that the row's label reads.
    """

    date: np.ndarray
    feature_start: np.ndarray
    label_end: np.ndarray


class PurgedKFold:
    """Consecutive blocks of dates, each the test set once.

    Parameters
    ----------
    n_splits : int
        Number of blocks, at least 2; the first ones are larger by a date where the dates do not divide evenly.
    embargo : int
        Dates kept free on both sides of the test block.
    """

    def __init__(self, n_splits: int, embargo: int) -> None:
        self.n_splits, self.embargo = n_splits, embargo

    def split(self, spans: Spans) -> Iterator[Split]:
        """Yield (training, test) positions into the arrays of `spans`, ascending.

        Raises
        ------
        InputError
            If there are fewer dates than folds or purging leaves a fold without training rows.
        """
        return CombinatorialPurged(self.n_splits, 1, self.embargo).split(spans)


class CombinatorialPurged:
    """Splitter with every choice of test blocks among consecutive blocks of dates (Lopez de Prado 2018, chapter 12).

    Purging and embargo apply around each test block, not around their common span.

    Parameters
    ----------
    n_blocks : int
        Blocks that the dates are cut into, at least 2.
    n_test_blocks : int
        Blocks tested together, at least 1 and fewer than `n_blocks`.
    embargo : int
        Dates kept free on both sides of each test block.
    """

    def __init__(self, n_blocks: int, n_test_blocks: int, embargo: int) -> None:
        if not 1 <= n_test_blocks < n_blocks:
            raise InputError(
                f"{n_test_blocks} of {n_blocks} blocks cannot be tested", "folds", "test at least one, not all of them"
            )
        self.n_blocks, self.n_test_blocks, self.embargo = n_blocks, n_test_blocks, embargo

    def split(self, spans: Spans) -> Iterator[Split]:
        """Yield (training, test) positions into the arrays of `spans`, ascending; test blocks in lexical order.

        Raises
        ------
        InputError
            If there are fewer dates than blocks or purging leaves a split without training rows.
        """
        dates = np.unique(spans.date)
        _require_dates(len(dates), self.n_blocks, "folds")
        blocks = [_block(spans, part) for part in np.array_split(dates, self.n_blocks)]
        for k, chosen in enumerate(combinations(blocks, self.n_test_blocks)):
            test, may_train = np.zeros(len(spans.date), bool), np.ones(len(spans.date), bool)
            for block in chosen:
                test |= block
                may_train &= _may_train(spans, block, self.embargo)
            yield _positions(may_train, test, spans, self.embargo, f"fold {k + 1}")


class WalkForward:
    """Yield the last blocks of dates, each tested after training on earlier dates.

    Parameters
    ----------
    n_splits : int
        Number of test blocks.
    test_dates : int
        Dates per test block.
    embargo : int
        Dates kept free between the labels of the training rows and the test block.
    train_dates : int or None
        Train on the last so many dates that may train (rolling); None for all of them (expanding).
    """

    def __init__(self, n_splits: int, test_dates: int, embargo: int, train_dates: int | None = None) -> None:
        self.n_splits, self.test_dates, self.embargo, self.train_dates = n_splits, test_dates, embargo, train_dates

    def split(self, spans: Spans) -> Iterator[Split]:
        """Yield (training, test) positions into the arrays of `spans`, ascending, the earliest block first.

        Raises
        ------
        InputError
            If there are too few dates for all blocks, or a block has no training rows before it.
        """
        dates, n_tested = np.unique(spans.date), self.n_splits * self.test_dates
        _require_dates(len(dates), n_tested + 1, "walk-forward blocks")
        for k, part in enumerate(dates[-n_tested:].reshape(self.n_splits, self.test_dates)):
            test = _block(spans, part)
            train = _ends_before(spans, part[0], self.embargo)
            if self.train_dates is not None and train.any():
                train &= spans.date >= np.unique(spans.date[train])[-self.train_dates :][0]
            yield _positions(train, test, spans, self.embargo, f"walk-forward block {k + 1}")


def split_end(spans: Spans, fraction: float, embargo: int) -> Split:
    """Training rows and, as test rows, the last dates.

    Parameters
    ----------
    fraction : float
        Share of the rows to test, above 0 and below 1; the cut is between the two dates that come closest to it.
    embargo : int
        Dates kept free between the labels of the training rows and the first test date.

    Returns
    -------
    (train, test) : ndarrays of int64
        Positions into the arrays of `spans`, ascending.

    Raises
    ------
    InputError
        If there are fewer than two dates or purging leaves no training rows.
    """
    dates, counts = np.unique(spans.date, return_counts=True)
    _require_dates(len(dates), 2, "split at the end")
    rows_from = counts[::-1].cumsum()[::-1]
    first = dates[1 + np.abs(rows_from[1:] - fraction * len(spans.date)).argmin()]
    return _positions(_ends_before(spans, first, embargo), spans.date >= first, spans, embargo, "split at the end")


def _block(spans: Spans, dates: np.ndarray) -> np.ndarray:
    return (spans.date >= dates[0]) & (spans.date <= dates[-1])


def _ends_before(spans: Spans, first_date: int, embargo: int) -> np.ndarray:
    return (spans.date < first_date) & (spans.label_end + embargo < first_date)


def _may_train(spans: Spans, block: np.ndarray, embargo: int) -> np.ndarray:
    """Return the rows that the rule of this module allows for training with the test rows `block`."""
    # After the block, the embargo counts from the last bar that a test label reads, and features must not read it.
    last_read = spans.label_end[block].max()
    after = (spans.date > last_read + embargo) & (spans.feature_start > last_read)
    return ~block & (_ends_before(spans, spans.date[block].min(), embargo) | after)


def _positions(train: np.ndarray, test: np.ndarray, spans: Spans, embargo: int, where: str) -> Split:
    if not train.any():
        back, ahead = (spans.date - spans.feature_start).max(), (spans.label_end - spans.date).max()
        raise InputError(
            f"no training rows are left for {test.sum()} test rows ({len(test)} rows in all): the look-back is "
            f"{back} dates, the horizon {ahead}, the embargo {embargo}",
            where,
            "give a longer history, or set fewer folds, a smaller test share, data.horizon, data.embargo, "
            "data.regime_window or search_space.window",
        )
    return np.flatnonzero(train), np.flatnonzero(test)


def _require_dates(n_dates: int, needed: int, where: str) -> None:
    if n_dates < needed:
        raise InputError(
            f"{n_dates} dates have usable rows, {needed} are needed", where, "give a longer history or set fewer folds"
        )
