"""Data set as arrays: features, labels, the span of bars that each row reads, and its splits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scripts.config.experiment import FoldKind
from scripts.data.files.mapped_rows import MappedRows
from scripts.data.single_precision import Reference
from scripts.data.splits import CombinatorialPurged, PurgedKFold, Spans, Split, WalkForward, split_end
from scripts.errors import InputError
from scripts.statistics.bars import Bars
from scripts.statistics.periods_per_year import PeriodsPerYear


@dataclass(frozen=True)
class Dataset:
    """Rows of features with labels; `rows` are those that may be trained or tested on, the others serve as history.

    Attributes
    ----------
    x : ndarray of float32, shape (n, n_columns)
        Raw columns; NaN = missing, categories as codes into `vocabularies`. Rows of one ticker are contiguous in time
        order, so that a window is a run of rows.
    categorical : ndarray of bool, shape (n_columns,)
    y : ndarray of int64, shape (n,)
        Class, -1 where unknown.
    date, ticker : ndarray of int64, shape (n,)
        Positions in `dates` and `tickers`; without time each row is its own date.
    feature_start, label_end : ndarray of int64, shape (n,)
        Positions in `dates` of the first bar that the row's features (longest window included) and of the last bar
        that its label reads.
    forward_return : ndarray of float64, shape (n,)
        Return of a position of +1 decided at the row, a fraction; NaN where unknown.
    bars : Bars or None
        What positions earn between the fills of a market; None: `forward_return` is what a position earns.
    cost_bps : ndarray of float64, shape (n,), or None
        Cost of one unit of turnover at the fill of a decision of the row, in basis points; None: that of its ticker.
    forward_return_rows : int
        Rows of its ticker that the forward return of a table spans.
    fill : str or None
        Price at which decisions in a market are filled: next_open or close_to_close.
    predictable : ndarray of int64 or None
        Rows with all features, with a label or without, ascending; None: those of `rows`.
    periods : PeriodsPerYear or None
        Dates of the calendar per year, for annual figures; None if unknown.
    class_positions : tuple of float or None
        Position of each predicted class; None if there are no returns.
    naive : dict of str to ndarray of int64, shape (n,)
        The label's own naive rules: predicted class of each row, -1 where unknown.
    rows : ndarray of int64
        Usable rows, ascending.
    ordered : bool
        Whether the rows of a ticker follow each other in time, so that windows make sense.
    truth : ndarray of float64, shape (n,), or None
        Exact probability of class 1 where the market is synthetic.
    dropped : tuple of str
        Columns of a table that are not features, because they are constant in the development rows.
    mapped : MappedRows or None
        File that `x` is mapped from if it does not fit in memory; `x` must then be processed in parts.
    shuffle_block_rows : int or None
        See `DataConfig`.
    sealed_sketch : str
        See `row_sketch.sealed_sketch`; empty in development data.
    references : dict of str to tuple of float
        By column of `x`, the value and the unit that it is relative to; the others are as they were read.
    """

    x: np.ndarray
    feature_names: tuple[str, ...]
    categorical: np.ndarray
    vocabularies: dict[str, tuple[str, ...]]
    y: np.ndarray
    classes: tuple[str, ...]
    date: np.ndarray
    dates: np.ndarray | None
    ticker: np.ndarray
    tickers: tuple[str, ...]
    feature_start: np.ndarray
    label_end: np.ndarray
    forward_return: np.ndarray
    class_positions: tuple[float, ...] | None
    naive: dict[str, np.ndarray]
    rows: np.ndarray
    horizon: int
    embargo: int
    groups: bool
    ordered: bool
    fingerprint: str = ""
    sealed_fingerprint: str = ""
    truth: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())
    dropped: tuple[str, ...] = ()
    mapped: MappedRows | None = None
    shuffle_block_rows: int | None = None
    sealed_sketch: str = ""
    references: dict[str, Reference] = field(default_factory=dict)
    bars: Bars | None = None
    cost_bps: np.ndarray | None = None
    forward_return_rows: int = 1
    periods: PeriodsPerYear | None = None
    fill: str | None = None
    predictable: np.ndarray | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def n_dates(self) -> int:
        """Number of dates in the calendar; 0 without time."""
        return 0 if self.dates is None else len(self.dates)

    @property
    def has_time(self) -> bool:
        """True if rows are ordered in time, so that windows and dated splits are possible."""
        return self.dates is not None

    def spans(self, rows: np.ndarray) -> Spans:
        """Return the data of `rows` for a splitter."""
        return Spans(self.date[rows], self.feature_start[rows], self.label_end[rows])

    def tail_split(self, fraction: float, seed: int) -> Split:
        """Usable rows cut into training rows and the last `fraction` (without time: a stratified sample)."""
        if self.has_time:
            train, test = split_end(self.spans(self.rows), fraction, self.embargo)
        else:
            from scripts.data.table_splits import table_split_end  # scikit-learn takes a second to import

            train, test = table_split_end(self.y[self.rows], self._row_groups(), fraction, seed, self.classes)
        return self.rows[train], self.rows[test]

    def folds(self, kind: FoldKind, n_folds: int, seed: int) -> list[Split]:
        """Pairs of training and test rows.

        Parameters
        ----------
        kind : str
            kfold: blocks of dates, purged on both sides (without time: by class shares), each row tested once.
            walk_forward: the second half of the dates in `n_folds` blocks, each after training on all before it.
            rolling: the same with training on half of the dates. combinatorial: every two of `n_folds` blocks.
        """
        if self.has_time:
            pairs = list(self._dated_splitter(kind, n_folds).split(self.spans(self.rows)))
        elif kind == "kfold":
            from scripts.data.table_splits import table_folds

            pairs = list(table_folds(self.y[self.rows], self._row_groups(), n_folds, seed, self.classes))
        else:
            raise InputError(f"{kind} needs time", "extended.cv", "name data.time_column, or use kfold")
        return [(self.rows[train], self.rows[test]) for train, test in pairs]

    def _dated_splitter(self, kind: FoldKind, n_folds: int) -> PurgedKFold | WalkForward | CombinatorialPurged:
        if kind == "kfold":
            return PurgedKFold(n_folds, self.embargo)
        if kind == "combinatorial":
            return CombinatorialPurged(n_folds, 2, self.embargo)
        half = len(np.unique(self.date[self.rows])) // 2
        return WalkForward(n_folds, max(1, half // n_folds), self.embargo, half if kind == "rolling" else None)

    def _row_groups(self) -> np.ndarray | None:
        return self.ticker[self.rows] if self.groups else None
