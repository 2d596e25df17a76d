"""Data sets as arrays: features, labels and what each row's label and features span, without the sealed rows.

`load_development` is what phases 1 to 3 see; only an evaluation calls `load_sealed`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.config import DataConfig
from scripts.data.features import index_bars, market_features
from scripts.data.labels import market_labels
from scripts.data.sources import RawData, read_data
from scripts.data.splits import PurgedKFold, Spans, Split, split_end
from scripts.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """Rows of features with labels; `rows` are those that may be trained or tested on, the others serve as history.

    Attributes
    ----------
    x : ndarray of float32, shape (n, n_columns)
        Raw columns; NaN = missing, categories as codes into `vocabularies`. Rows of one ticker lie together in time
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
    class_positions : tuple of float or None
        Position held for each predicted class; None if there are no returns.
    naive : dict of str to ndarray of int64, shape (n,)
        The label's own naive rules: predicted class of each row, -1 where unknown.
    rows : ndarray of int64
        Usable rows, ascending.
    truth : ndarray of float64, shape (n,), or None
        Exact probability of class 1 where the market is synthetic.
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
    fingerprint: str
    sealed_fingerprint: str
    truth: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def has_time(self) -> bool:
        """Whether rows are ordered in time, so that windows and dated splits make sense."""
        return self.dates is not None

    def spans(self, rows: np.ndarray) -> Spans:
        """What a splitter must know of `rows`."""
        return Spans(self.date[rows], self.feature_start[rows], self.label_end[rows])

    def tail_split(self, fraction: float, seed: int) -> Split:
        """Usable rows cut into training rows and the last `fraction` (without time: a stratified sample)."""
        if self.has_time:
            train, test = split_end(self.spans(self.rows), fraction, self.embargo)
        else:
            from scripts.data.table_splits import table_split_end  # scikit-learn takes a second to import

            train, test = table_split_end(self.y[self.rows], self._row_groups(), fraction, seed)
        return self.rows[train], self.rows[test]

    def folds(self, n_folds: int, seed: int) -> list[Split]:
        """Usable rows cut into `n_folds` pairs of training and test rows; each row is tested once."""
        if self.has_time:
            pairs = list(PurgedKFold(n_folds, self.embargo).split(self.spans(self.rows)))
        else:
            from scripts.data.table_splits import table_folds

            pairs = list(table_folds(self.y[self.rows], self._row_groups(), n_folds, seed))
        return [(self.rows[train], self.rows[test]) for train, test in pairs]

    def _row_groups(self) -> np.ndarray | None:
        return self.ticker[self.rows] if self.groups else None


def load_development(config: DataConfig, longest_window: int, seed: int) -> Dataset:
    """The data set without its sealed rows.

    Parameters
    ----------
    config : DataConfig
    longest_window : int
        Rows of history that the longest window of any configuration reads.
    seed : int
        Seed of the sealed sample of a table without time.
    """
    raw = read_data(config)
    sealed = _sealed_mask(raw.frame, config, seed)
    dataset = _build(raw, raw.frame[~sealed], config, longest_window, _fingerprints(raw.frame, sealed))
    if not dataset.has_time:
        return dataset
    # Labels that would read into the sealed rows are undefined here, since those bars are absent; the embargo is
    # counted from the first sealed date, which has the position after the last development date.
    first_sealed = len(dataset.dates) if dataset.dates is not None else 0
    rows = dataset.rows[dataset.label_end[dataset.rows] + config.embargo < first_sealed]
    return _replace_rows(dataset, rows)


def load_sealed(config: DataConfig, longest_window: int, seed: int) -> Dataset:
    """The data set whose usable rows are the sealed ones; earlier rows serve as history alone."""
    raw = read_data(config)
    sealed = _sealed_mask(raw.frame, config, seed)
    development = _build(raw, raw.frame[~sealed], config, longest_window, _fingerprints(raw.frame, sealed))
    if not development.has_time:
        part = raw.frame[sealed]
        return _build(raw, part, config, longest_window, _fingerprints(raw.frame, sealed), like=development)
    whole = _build(raw, raw.frame, config, longest_window, _fingerprints(raw.frame, sealed), like=development)
    first_sealed = len(development.dates) if development.dates is not None else 0
    return _replace_rows(whole, whole.rows[whole.date[whole.rows] >= first_sealed])


def load_other(config: DataConfig, longest_window: int, path: Path, like: Dataset) -> Dataset:
    """All usable rows of another file with the schema of `like`."""
    raw = read_data(config, path)
    nothing = np.zeros(len(raw.frame), dtype=bool)
    return _build(raw, raw.frame, config, longest_window, _fingerprints(raw.frame, nothing), like=like)


def _replace_rows(dataset: Dataset, rows: np.ndarray) -> Dataset:
    _check_classes(dataset, rows)
    return Dataset(**{**dataset.__dict__, "rows": rows})


def _sealed_mask(frame: pd.DataFrame, config: DataConfig, seed: int) -> np.ndarray:
    """True for the rows of the sealed test set: the last dates, cut between dates."""
    time = "date" if config.source != "table" else config.time_column
    if time is None:
        y = pd.factorize(frame[config.label_column], sort=True)[0]
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


def _fingerprints(frame: pd.DataFrame, sealed: np.ndarray) -> tuple[str, str]:
    """SHA-256 of the content of the development rows and of the sealed rows."""
    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    names = ",".join(map(str, frame.columns)).encode()
    development, closed = (hashlib.sha256(names + hashes[part].tobytes()).hexdigest() for part in (~sealed, sealed))
    return development, closed


def _build(
    raw: RawData,
    frame: pd.DataFrame,
    config: DataConfig,
    longest_window: int,
    fingerprints: tuple[str, str],
    like: Dataset | None = None,
) -> Dataset:
    """Data set of all rows of `frame`; classes and vocabularies from `like` where given."""
    build = _build_table if config.source == "table" else _build_market
    columns = build(raw, frame, config, longest_window, like)
    dataset = Dataset(
        **columns,
        horizon=config.horizon,
        embargo=config.embargo,
        fingerprint=fingerprints[0],
        sealed_fingerprint=fingerprints[1],
    )
    if like is not None and dataset.feature_names != like.feature_names:
        odd = sorted(set(dataset.feature_names) ^ set(like.feature_names))
        raise InputError(f"features differ: {', '.join(odd[:5])}", str(config.path), "use data with the same columns")
    _check_classes(dataset, dataset.rows)
    return dataset


def _build_market(
    raw: RawData, frame: pd.DataFrame, config: DataConfig, longest_window: int, like: Dataset | None
) -> dict[str, Any]:
    truth = None if raw.truth is None else raw.truth[frame.index.to_numpy()]
    frame = frame.reset_index(drop=True)
    bars = index_bars(frame)
    features, labels = market_features(frame, bars), market_labels(frame, bars, config)
    x = np.column_stack([features.values, *labels.features.values()]) if labels.features else features.values
    reach = max(features.lookback, labels.lookback) + longest_window - 1
    row = np.arange(len(frame))
    usable = (bars.history >= reach) & (labels.y >= 0) & np.isfinite(x).all(axis=1)
    return {
        "x": x,
        "feature_names": (*features.names, *labels.features),
        "categorical": np.zeros(x.shape[1], dtype=bool),
        "vocabularies": {},
        "y": labels.y,
        "classes": labels.classes,
        "date": bars.date,
        "dates": bars.dates,
        "ticker": bars.ticker,
        "tickers": bars.tickers,
        "feature_start": bars.date[np.maximum(row - reach + 1, bars.first_row)],
        "label_end": labels.label_end,
        "forward_return": labels.forward_return,
        "class_positions": labels.positions,
        "naive": labels.naive,
        "rows": np.flatnonzero(usable),
        "groups": False,
        "truth": truth,
        "notes": (*raw.notes, *labels.notes, *(f"left out: {name}" for name in features.left_out)),
    }


def _build_table(
    raw: RawData, frame: pd.DataFrame, config: DataConfig, longest_window: int, like: Dataset | None
) -> dict[str, Any]:
    time, group = config.time_column, config.group_column
    order = [c for c in (group, time) if c is not None and time is not None]
    frame = (frame.sort_values(order, kind="stable") if order else frame).reset_index(drop=True)
    ticker, tickers = (
        pd.factorize(frame[group], sort=True) if group else (np.zeros(len(frame), dtype=np.int64), ["all"])
    )
    dates, date = (None, np.arange(len(frame))) if time is None else np.unique(frame[time], return_inverse=True)
    row, first_row = np.arange(len(frame)), np.searchsorted(ticker, ticker) if time else np.arange(len(frame))
    last = np.searchsorted(ticker, ticker, side="right") - 1 if time else row
    special = {config.label_column, time, group, config.forward_return_column}
    features = frame.drop(columns=[c for c in special if c])
    if like is not None:  # of another file, the columns that the model knows
        features = features[[name for name in like.feature_names if name in features]]
    x, names, categorical, vocabularies = _table_columns(features, like)
    text = frame[config.label_column].map(_class_name)
    classes = like.classes if like else tuple(sorted(set(text), key=_class_order))
    y = pd.Categorical(text, categories=list(classes)).codes.astype(np.int64)
    # The label is taken to look `horizon` bars ahead; one whose bars are not all there may read beyond these rows.
    complete = (row + config.horizon <= last) if time is not None else np.ones(len(frame), dtype=bool)
    returns = frame[config.forward_return_column] if config.forward_return_column else np.full(len(frame), np.nan)
    return {
        "x": x,
        "feature_names": names,
        "categorical": categorical,
        "vocabularies": vocabularies,
        "y": y,
        "classes": classes,
        "date": date.astype(np.int64),
        "dates": dates,
        "ticker": ticker.astype(np.int64),
        "tickers": tuple(map(str, tickers)),
        "feature_start": date[np.maximum(row - longest_window + 1, first_row)].astype(np.int64),
        "label_end": date[np.minimum(row + (config.horizon if time else 0), last)].astype(np.int64),
        "forward_return": np.asarray(returns, dtype=np.float64),
        "class_positions": _ordered_positions(len(classes)) if config.forward_return_column else None,
        "naive": {},
        "rows": np.flatnonzero((y >= 0) & complete & (row - first_row + 1 >= longest_window if time else True)),
        "groups": group is not None,
        "notes": raw.notes,
    }


def _table_columns(
    frame: pd.DataFrame, like: Dataset | None
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray, dict[str, tuple[str, ...]]]:
    """Raw columns as float32: numbers as they are, text as codes into its vocabulary, -1 where missing or unknown."""
    if frame.shape[1] == 0:
        raise InputError("has no feature column", "table", "give at least one column beside the label")
    known = {} if like is None else like.vocabularies
    vocabularies: dict[str, tuple[str, ...]] = {}
    columns, categorical = [], []
    for name, values in frame.items():
        text = not pd.api.types.is_numeric_dtype(values)
        if text:
            vocabulary = known.get(str(name), tuple(sorted(set(values.dropna().astype(str)))))
            vocabularies[str(name)] = vocabulary
            values = pd.Series(pd.Categorical(values.astype("object"), categories=list(vocabulary)).codes)
        columns.append(values.to_numpy(dtype=np.float32))
        categorical.append(text)
    return np.column_stack(columns), tuple(map(str, frame.columns)), np.array(categorical), vocabularies


def _class_name(value: Any) -> str:
    """Label value as text; whole numbers without `.0`."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _class_order(name: str) -> tuple[int, float, str]:
    """Numbers by value, then text."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _ordered_positions(n_classes: int) -> tuple[float, ...]:
    """Positions from -1 for the first class to +1 for the last."""
    return tuple(float(p) for p in np.linspace(-1.0, 1.0, n_classes))


def _check_classes(dataset: Dataset, rows: np.ndarray) -> None:
    counts = np.bincount(dataset.y[rows], minlength=dataset.n_classes)
    if (counts > 0).sum() < 2:
        shown = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, counts, strict=True))
        raise InputError(
            f"only {len(rows)} usable rows with labels {shown}",
            "data",
            "two classes and enough history are needed: give more rows or another label",
        )
