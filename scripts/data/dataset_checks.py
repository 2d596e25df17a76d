"""Checks of a data set: usable rows of two classes, features that vary, sensible returns, costs and positions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.config.class_positions import KEY, in_words, losing_positions
from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.data.features import LONGEST_WINDOW
from scripts.data.labels import REGIME_VOLATILITY_WINDOW
from scripts.errors import InputError
from scripts.statistics.overlapping_returns import Overlap, find_overlap
from scripts.storage.printable import listed

_KEPT = 0.1  # share of the bars below which the settings are named as the cause


def check_classes(dataset: Dataset, rows: np.ndarray, config: DataConfig, window: int, embargo: int) -> None:
    """Check that rows of two classes are usable.

    Parameters
    ----------
    rows : ndarray of int64
        Usable rows.
    window : int
        Rows that the longest window of any configuration reads.
    embargo : int
        Dates kept free after the labels of the rows.

    Raises
    ------
    InputError
        Names the look-back, the horizon and the embargo where they take nearly all bars, with a setting to use.
    """
    counts = np.bincount(dataset.y[rows], minlength=dataset.n_classes)
    if (counts > 0).sum() >= 2:
        return
    shown = ", ".join(f"{name} {count}" for name, count in zip(dataset.classes, counts, strict=True))
    what = f"only {len(rows)} usable rows with labels {shown}"
    bars = int(np.bincount(dataset.ticker).max()) if dataset.ordered else dataset.n_dates
    look_back = _look_back(config, window) if dataset.ordered else 1
    needed = look_back - 1 + config.horizon + embargo
    if not dataset.has_time or bars - needed > _KEPT * bars:
        raise InputError(what, "data", "two classes and enough history are needed: give more rows or another label")
    unit = _unit(config) if dataset.ordered else "dates"
    taken = f"look-back {look_back - 1}, horizon {config.horizon} and embargo {embargo} take {needed}"
    key, value = _remedy(config, bars, window if dataset.ordered else 1, embargo)
    more = f"give more than {max(2 * needed, bars)} {unit}"
    raise InputError(
        f"{what}: there are {bars} {unit}, and {taken}",
        key,
        more if value is None else f"set {key}={value}, or {more}",
    )


def check_sealed_bars(tickers: pd.Series, config: DataConfig) -> None:
    """Check that a label of a market fits into the sealed dates.

    Parameters
    ----------
    tickers : Series
        Ticker of each sealed bar.

    Raises
    ------
    InputError
        No ticker has more sealed bars than the label looks ahead.
    """
    most = max(tickers.value_counts(), default=0)
    if most <= config.horizon:
        raise InputError(
            f"labels look {config.horizon} bars ahead, but no ticker has more than {most} bars in the sealed test set",
            "data.horizon",
            f"set data.horizon={max(1, most // 10)}, raise data.test_fraction or give more bars",
        )


def development_notes(dataset: Dataset, config: DataConfig, bars: pd.DataFrame) -> tuple[str, ...]:
    """Return notes on development rows: costs of unknown tickers, losing positions, constant features.

    Parameters
    ----------
    dataset : Dataset
        Only the usable rows count.
    bars : DataFrame
        Of a market, with "ticker".

    Raises
    ------
    InputError
        Neighbouring forward returns overlap, and the number of rows is not configured.
    """
    return (
        *_tickers_without_costs(dataset, config),
        *_doubts_of_positions(dataset, config),
        *_check_span_of_returns(dataset, config),
        *(() if config.source == "table" else _constant_features(dataset, bars)),
    )


def _constant_features(dataset: Dataset, frame: pd.DataFrame) -> tuple[str, ...]:
    """Return notes on bars without volume, by ticker, and on constant features of a market."""
    notes = []
    if "volume" in frame:
        largest = frame.groupby("ticker", sort=True)["volume"].max()
        if len(silent := largest.index[largest <= 0]):
            shown = "any ticker" if len(silent) == len(largest) else listed(list(map(str, silent)))
            notes.append(f"the volume is 0 in all development bars of {shown}: its features are uninformative there")
    x, rows = dataset.x, dataset.rows
    constant = [name for k, name in enumerate(dataset.feature_names) if np.ptp(x[rows, k]) == 0]
    if constant:
        notes.append(f"features that are constant in the development rows: {listed(constant)}")
    return tuple(notes)


def _tickers_without_costs(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """Return a note that names the tickers of `ticker_cost_bps` that are not in the data."""
    unknown = sorted((config.ticker_cost_bps or {}).keys() - set(dataset.tickers))
    return (f"data.ticker_cost_bps names tickers that are not in the data: {listed(unknown)}",) if unknown else ()


def _doubts_of_positions(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """Return a note where a table's positions would lose even if every prediction were right."""
    if config.source != "table" or dataset.class_positions is None:
        return ()
    rows = dataset.rows
    lost = losing_positions(dataset.class_positions, dataset.y[rows], dataset.forward_return[rows], dataset.date[rows])
    if lost is None:
        return ()
    shown = in_words(dataset.classes, dataset.class_positions)
    return (f"with every prediction right these positions lose {-lost:.3%} a row ({shown}): check {KEY}",)


def _check_span_of_returns(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """Check that forward returns overlap as declared; those declared as 1 row are accepted."""
    declared = config.forward_return_rows
    if config.forward_return_column is None or declared == 1 or not dataset.has_time:
        return ()
    found = _overlap(dataset)
    if declared is None and found is not None:
        raise InputError(
            f"has an autocorrelation of {found.correlation:.2f}, like returns over about {found.rows} rows each, "
            "but counts as the return of one row",
            f"column {config.forward_return_column}",
            f"give the return of each row until the next one, or set data.forward_return_rows={found.rows}; 1 if it is "
            "the return of one row",
        )
    if declared is not None and not dataset.ordered:
        raise InputError(
            "returns over several rows need rows that follow each other: one row per group and time",
            "data.forward_return_rows",
            "name data.group_column, or give returns of one row",
        )
    return ()


def _overlap(dataset: Dataset) -> Overlap | None:
    """Overlap of the usable rows; of the means by date where rows of a group do not follow each other in time."""
    returns = np.full(len(dataset.y), np.nan)
    returns[dataset.rows] = dataset.forward_return[dataset.rows]
    if dataset.ordered:
        return find_overlap(returns, dataset.ticker, dataset.date)
    means = pd.Series(returns).groupby(dataset.date).mean()
    return find_overlap(means.to_numpy(), np.zeros(len(means), dtype=np.int64), means.index.to_numpy())


def _look_back(config: DataConfig, window: int) -> int:
    """Bars that a row reads backwards, itself included."""
    if config.source == "table":
        return window
    own = {"volatility_regime": config.regime_window + REGIME_VOLATILITY_WINDOW}.get(config.label, config.horizon + 1)
    return max(LONGEST_WINDOW + 1, own) + window - 1


def _unit(config: DataConfig) -> str:
    if config.source != "table":
        return "bars of the longest ticker"
    return "rows" if config.group_column is None else "rows of the longest group"


def _remedy(config: DataConfig, bars: int, window: int, embargo: int) -> tuple[str, int | None]:
    """Key of the setting that takes most, and a value that leaves most bars; ("data", None) where none does."""
    takes = {"search_space.window": window - 1, "data.horizon": config.horizon, "data.embargo": embargo}
    regime = config.regime_window if config.label == "volatility_regime" else 0
    key = max(takes, key=lambda name: takes[name])
    if regime > takes[key]:
        key = "data.regime_window"
    fixed = 0 if config.source == "table" else LONGEST_WINDOW
    free = bars - fixed - sum(taken for name, taken in takes.items() if name != key)
    if free < bars // 4:
        return "data", None
    if key == "data.regime_window":
        return key, LONGEST_WINDOW + 1 - REGIME_VOLATILITY_WINDOW  # no longer than the features look back
    return key, max(1, min(free // 10, LONGEST_WINDOW))
