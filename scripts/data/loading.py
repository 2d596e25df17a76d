"""From a config to data sets: read, seal the last dates, derive features and labels.

`load_development` is what phases 1 to 3 see; only an evaluation calls `load_sealed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.config.class_positions import KEY, in_words, losing_positions, positions_of
from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.data.features import BarIndex, index_bars, market_features
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.known_categories import class_codes, lost_categories
from scripts.data.labels import Labels, market_labels
from scripts.data.placebo import permute_labels
from scripts.data.raw_columns import table_columns
from scripts.data.return_spans import check_span_of_returns
from scripts.data.row_sketch import sealed_sketch
from scripts.data.seal import CutTable, class_order, cut, feature_columns, uncut
from scripts.data.sources import read_data
from scripts.data.trades import fills_of, held_for, market_bars
from scripts.data.usable_rows import check_classes, check_sealed_bars, constant_features
from scripts.errors import InputError
from scripts.statistics.periods_per_year import PeriodsPerYear, contradicts, infer_periods_per_year
from scripts.storage.durable_files import file_sha256
from scripts.storage.printable import listed


@dataclass(frozen=True)
class Development:
    """The development rows as they were read, none of the sealed ones among them.

    Attributes
    ----------
    config : DataConfig
    table : CutTable
        Without its sealed rows.
    fingerprints : tuple of str
        SHA-256 of the content of the development rows and of the sealed rows.
    """

    config: DataConfig
    table: CutTable
    fingerprints: tuple[str, str]

    def dataset(self, longest_window: int, frame: pd.DataFrame | None = None) -> Dataset:
        """The data set of these rows, or of other values or fewer of them in `frame`.

        Parameters
        ----------
        longest_window : int
            Rows of history that the longest window of any configuration reads.
        frame : DataFrame, optional
            Columns and index labels as in `table.frame`.
        """
        config, table = self.config, self.table
        if frame is not None:
            table = replace(table, frame=frame, features=None)
        dataset = _build(table, config, longest_window, self.fingerprints)
        if dataset.has_time:
            # Labels that would read into the sealed rows are undefined here, since those bars are absent; the embargo
            # is counted from the first sealed date, which has the position after the last development date.
            rows = dataset.rows[dataset.label_end[dataset.rows] + config.embargo < dataset.n_dates]
            check_classes(dataset, rows, config, longest_window, config.embargo)
            dataset = replace(dataset, rows=rows)
        told = (
            *_tickers_without_costs(dataset, config),
            *_doubts_of_positions(dataset, config),
            *check_span_of_returns(dataset, config),
        )
        if config.source != "table":
            told = (*told, *constant_features(dataset, table.frame))
        dataset = replace(dataset, notes=(*dataset.notes, *told))
        return _as_placebo(dataset, config, dataset.n_dates)


def read_development(config: DataConfig, seed: int, bound: MemoryBound = NO_BOUND) -> Development:
    """Read the data and keep the development rows.

    Parameters
    ----------
    config : DataConfig
    seed : int
        Of the sealed sample of a table without time.
    bound : MemoryBound
        A table in a Parquet file that exceeds it has its features in a mapped file, with the same results.
    """
    table = cut(read_data(config, bound=bound), config, seed)
    if config.source != "table":
        check_sealed_bars(table.frame["ticker"][table.sealed], config)
    alone = table.take(~table.sealed)
    truth = None if table.truth is None else table.truth[alone.frame.index.to_numpy()]
    alone = replace(alone, frame=alone.frame.reset_index(drop=True), truth=truth)
    return Development(config, alone, table.fingerprints)


def load_development(config: DataConfig, longest_window: int, seed: int, bound: MemoryBound = NO_BOUND) -> Dataset:
    """The data set without its sealed rows; arguments as `read_development` and `Development.dataset`."""
    return read_development(config, seed, bound).dataset(longest_window)


def load_sealed(
    config: DataConfig, longest_window: int, development: Dataset, seed: int, bound: MemoryBound = NO_BOUND
) -> Dataset:
    """The data set whose usable rows are the sealed ones; earlier rows serve as history alone.

    `development` is what `load_development` gave for the same arguments: its classes and vocabularies are taken over.
    """
    raw = read_data(config, bound=bound)
    table = cut(raw, config, seed)
    rows = table if development.has_time else table.take(table.sealed)
    dataset = _build(rows, config, longest_window, table.fingerprints, like=development)
    dataset = replace(dataset, sealed_sketch=sealed_sketch(raw, table, config))
    if development.has_time:
        sealed = dataset.rows[dataset.date[dataset.rows] >= development.n_dates]
        check_classes(dataset, sealed, config, longest_window, 0)
        dataset = replace(dataset, rows=sealed)
        if (known := dataset.predictable) is not None:
            dataset = replace(dataset, predictable=known[dataset.date[known] >= development.n_dates])
    return _as_placebo(dataset, config, development.n_dates)


def load_other(
    config: DataConfig,
    longest_window: int,
    path: Path,
    like: Dataset,
    seed: int,
    bound: MemoryBound = NO_BOUND,
    written: DataConfig | None = None,
) -> tuple[Dataset, int, int]:
    """Usable rows of another file with the schema of `like`, without those that the model was trained on.

    `written` says how numbers and dates are written in that file, `config` if None.

    Returns
    -------
    tuple
        The data set; how many of the file's rows are development rows (left out), how many are sealed ones.
    """
    raw = read_data(config, bound=bound)
    own = cut(raw, config, seed)
    written = (written or config).model_copy(update={"path": str(path)})
    other = uncut(read_data(written, path, bound), written)
    columns = [name for name in own.columns if name in other.columns]
    known, mine = (table.row_hashes(columns) for table in (other, own))
    trained = np.isin(known, mine[~own.sealed])
    dataset = _build(other, config, longest_window, other.fingerprints, like=like)
    # A table's rows may have been put into another order, so its rows are compared again in that order.
    order = _order_of_rows(other.frame, config)
    rows = dataset.rows[~trained[order][dataset.rows]]
    if (all_known := dataset.predictable) is not None:
        dataset = replace(dataset, predictable=all_known[~trained[order][all_known]])
    if not len(rows):
        raise InputError("holds no usable row beyond the development data", str(path), "give newer or other data")
    lost = lost_categories(lambda name: bool(other.column(name).isna().any()), like.vocabularies)
    notes = dataset.notes if lost is None else (*dataset.notes, lost)
    dataset = replace(dataset, notes=notes, sealed_sketch=sealed_sketch(raw, own, config))
    check_classes(dataset, rows, config, longest_window, 0)
    return replace(dataset, rows=rows), int(trained.sum()), int(np.isin(known, mine[own.sealed]).sum())


def data_sha256(path: Path) -> str:
    """SHA-256 of a data file."""
    if not path.is_file():
        raise InputError("there is no such file", str(path), "check --data")
    return file_sha256(path)


def _as_placebo(dataset: Dataset, config: DataConfig, first_sealed: int) -> Dataset:
    """The data set itself, or with permuted labels if the config asks for a placebo."""
    return dataset if config.placebo is None else permute_labels(dataset, config.placebo, first_sealed)


def _build(
    table: CutTable,
    config: DataConfig,
    longest_window: int,
    fingerprints: tuple[str, str],
    like: Dataset | None = None,
) -> Dataset:
    """Data set of all rows of `table`; classes and vocabularies from `like` where given."""
    build = _build_table if config.source == "table" else _build_market
    columns = build(table, config, longest_window, like)
    dataset = Dataset(
        **columns,
        horizon=config.horizon,
        embargo=config.embargo,
        fingerprint=fingerprints[0],
        sealed_fingerprint=fingerprints[1],
        dropped=table.dropped,
        shuffle_block_rows=config.shuffle_block_rows,
        periods=periods_per_year(columns["dates"], config.periods_per_year),
    )
    if like is not None and dataset.feature_names != like.feature_names:
        odd = sorted(set(dataset.feature_names) ^ set(like.feature_names))
        raise InputError(f"features differ: {', '.join(odd[:5])}", str(config.path), "use data with the same columns")
    check_classes(dataset, dataset.rows, config, longest_window, config.embargo if like is None else 0)
    return dataset


def periods_per_year(dates: np.ndarray | None, configured: float | None) -> PeriodsPerYear | None:
    """Periods a year by the dates, or as configured; None where neither tells.

    Raises
    ------
    InputError
        The configured number differs from the dates by more than a fifth.
    """
    found = None if dates is None else infer_periods_per_year(dates)
    if configured is None:
        return found
    if found is not None and contradicts(configured, found):
        raise InputError(
            f"{configured:g} does not fit {found.how}, which are {found.value:g} a year",
            "data.periods_per_year",
            f"remove the key or set data.periods_per_year={found.value:g}",
        )
    return PeriodsPerYear(configured, "data.periods_per_year")


def _build_market(table: CutTable, config: DataConfig, longest_window: int, like: Dataset | None) -> dict[str, Any]:
    truth = None if table.truth is None else table.truth[table.frame.index.to_numpy()]
    frame = table.frame.reset_index(drop=True)
    bars = index_bars(frame)
    features, labels = market_features(frame, bars), market_labels(frame, bars, config)
    x = np.column_stack([features.values, *labels.features.values()]) if labels.features else features.values
    reach = max(features.lookback, labels.lookback) + longest_window - 1
    row = np.arange(len(frame))
    known = (bars.history >= reach) & np.isfinite(x).all(axis=1)
    usable = known & (labels.y >= 0)
    left_out = (f"left out: {name} ({reason})" for name, reason in features.left_out.items())
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
        **_fills(frame, bars, labels, config),
        "class_positions": _market_positions(labels.classes, labels.positions, config),
        "naive": labels.naive,
        "rows": np.flatnonzero(usable),
        "predictable": np.flatnonzero(known),
        "groups": False,
        "ordered": True,
        "truth": truth if config.label_price == "close" else None,
        "notes": (*table.notes, *labels.notes, *left_out),
    }


def _fills(frame: pd.DataFrame, index: BarIndex, labels: Labels, config: DataConfig) -> dict[str, Any]:
    """What positions earn, and the price and cost at which decisions are filled."""
    fills = fills_of(frame, config.fill)
    bars = market_bars(index, fills)
    if config.holding == "horizon":
        bars = held_for(bars, fills, config.horizon, labels.touches)
    cost = None
    if config.cost_bps_column is not None:
        last = np.searchsorted(index.ticker, index.ticker, side="right") - 1
        cost = frame[config.cost_bps_column].to_numpy(np.float64)[np.minimum(np.arange(len(last)) + fills.delay, last)]
    return {"bars": bars, "cost_bps": cost, "fill": "next_open" if fills.delay else "close_to_close"}


def _order_of_rows(frame: pd.DataFrame, config: DataConfig) -> np.ndarray:
    """Positions that put a table's rows of one group together in time order; a market is read in that order."""
    if config.source != "table" or config.time_column is None:
        return np.arange(len(frame))
    keys = [c for c in (config.group_column, config.time_column) if c is not None]
    return frame.reset_index(drop=True).sort_values(keys, kind="stable").index.to_numpy()


def _build_table(table: CutTable, config: DataConfig, longest_window: int, like: Dataset | None) -> dict[str, Any]:
    time, group = config.time_column, config.group_column
    order = _order_of_rows(table.frame, config)
    frame = table.frame.iloc[order].reset_index(drop=True)
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
    names = feature_columns(table.columns, config)
    if like is not None:  # of another file, the columns that the model knows
        names = [name for name in like.feature_names if name in names]
    streamed = None if table.features is None else table.features.take(order).only(names)
    columns = table_columns(frame[names] if streamed is None else streamed, like, table.references)
    labels = frame[config.label_column]
    classes = like.classes if like else tuple(sorted(set(labels), key=class_order))
    y, unknown = class_codes(labels, classes, str(config.path))
    _check_cost_matrix(config, classes)
    positions, told = _table_positions(classes, config)
    returns = frame[config.forward_return_column] if config.forward_return_column else np.full(len(frame), np.nan)
    return {
        **vars(columns),
        "y": y,
        "classes": classes,
        "date": date.astype(np.int64),
        "dates": dates,
        "ticker": ticker.astype(np.int64),
        "tickers": tuple(map(str, tickers)),
        "feature_start": date[np.maximum(row - window + 1, first_row)].astype(np.int64),
        "label_end": label_end.astype(np.int64),
        "forward_return": np.asarray(returns, dtype=np.float64),
        "forward_return_rows": config.forward_return_rows or 1,
        "cost_bps": frame[config.cost_bps_column].to_numpy(np.float64) if config.cost_bps_column else None,
        "class_positions": positions,
        "naive": {},
        "rows": np.flatnonzero((y >= 0) & complete & (row - first_row + 1 >= window)),
        "groups": group is not None,
        "ordered": ordered,
        "notes": (*table.notes, *columns.notes, *unknown, *told),
    }


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

    A label is taken to look `horizon` bars of its own ticker ahead, or dates where rows do not follow each other; one
    whose bars are not all there may read beyond these rows.
    """
    if not has_time:
        return date, np.ones(len(date), dtype=bool)
    if not ordered:
        return np.minimum(date + horizon, date.max()), date + horizon <= date.max()
    ahead = np.arange(len(date)) + horizon
    last = np.searchsorted(ticker, ticker, side="right") - 1
    return date[np.minimum(ahead, last)], ahead <= last


def _market_positions(classes: tuple[str, ...], own: tuple[float, ...], config: DataConfig) -> tuple[float, ...]:
    """Positions of a market label's classes, those of the label where the config states none."""
    return own if config.class_positions is None else positions_of(classes, config.class_positions)


def _table_positions(classes: tuple[str, ...], config: DataConfig) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Positions of a table's classes, with a note that shows them; None without forward returns."""
    if config.forward_return_column is None:
        return None, ()
    positions = positions_of(classes, config.class_positions)
    source = "by their names; data.class_positions changes them" if config.class_positions is None else KEY
    return positions, (f"positions of the classes: {in_words(classes, positions)} ({source})",)


def _tickers_without_costs(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """A note that names the tickers of `ticker_cost_bps` that are not in the data."""
    unknown = sorted((config.ticker_cost_bps or {}).keys() - set(dataset.tickers))
    return (f"data.ticker_cost_bps names tickers that are not in the data: {listed(unknown)}",) if unknown else ()


def _doubts_of_positions(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """A note where a table's positions would lose even if every prediction were right."""
    if config.source != "table" or dataset.class_positions is None:
        return ()
    rows = dataset.rows
    lost = losing_positions(dataset.class_positions, dataset.y[rows], dataset.forward_return[rows], dataset.date[rows])
    if lost is None:
        return ()
    shown = in_words(dataset.classes, dataset.class_positions)
    return (f"with every prediction right these positions lose {-lost:.3%} a row ({shown}): check {KEY}",)
