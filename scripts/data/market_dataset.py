"""Data set of a market's bars."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.config.class_positions import positions_of
from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.data.features import BarIndex, index_bars, market_features
from scripts.data.labels import Labels, market_labels
from scripts.data.table import Table
from scripts.data.trades import fills_of, held_for, market_bars
from scripts.statistics.bars import Bars


def market_dataset(table: Table, config: DataConfig, longest_window: int, like: Dataset | None) -> Dataset:
    """Return the data set of bars: features and labels derived from prices and volumes."""
    frame = table.frame
    bars = index_bars(frame)
    features, labels = market_features(frame, bars), market_labels(frame, bars, config)
    x = np.column_stack([features.values, *labels.features.values()]) if labels.features else features.values
    reach = max(features.lookback, labels.lookback) + longest_window - 1
    row = np.arange(len(frame))
    known = (bars.history >= reach) & np.isfinite(x).all(axis=1)
    usable = known & (labels.y >= 0)
    earned, cost_bps, fill = _fills(frame, bars, labels, config)
    left_out = (f"left out: {name} ({reason})" for name, reason in features.left_out.items())
    return Dataset(
        x=x,
        feature_names=(*features.names, *labels.features),
        categorical=np.zeros(x.shape[1], dtype=bool),
        vocabularies={},
        y=labels.y,
        classes=labels.classes,
        date=bars.date,
        dates=bars.dates,
        ticker=bars.ticker,
        tickers=bars.tickers,
        feature_start=bars.date[np.maximum(row - reach + 1, bars.first_row)],
        label_end=labels.label_end,
        forward_return=labels.forward_return,
        bars=earned,
        cost_bps=cost_bps,
        fill=fill,
        class_positions=_market_positions(labels.classes, labels.positions, config),
        naive=labels.naive,
        rows=np.flatnonzero(usable),
        predictable=np.flatnonzero(known),
        groups=False,
        ordered=True,
        truth=table.truth if config.label_price == "close" else None,
        notes=(*table.notes, *labels.notes, *left_out),
        horizon=config.horizon,
        embargo=config.embargo,
    )


def _fills(
    frame: pd.DataFrame, index: BarIndex, labels: Labels, config: DataConfig
) -> tuple[Bars, np.ndarray | None, str]:
    """Returns of positions, and the cost and price at which decisions are filled."""
    fills = fills_of(frame, config.fill)
    bars = market_bars(index, fills)
    if config.holding == "horizon":
        bars = held_for(bars, fills, config.horizon, labels.touches)
    cost = None
    if config.cost_bps_column is not None:
        last = np.searchsorted(index.ticker, index.ticker, side="right") - 1
        cost = frame[config.cost_bps_column].to_numpy(np.float64)[np.minimum(np.arange(len(last)) + fills.delay, last)]
    return bars, cost, "next_open" if fills.delay else "close_to_close"


def _market_positions(classes: tuple[str, ...], own: tuple[float, ...], config: DataConfig) -> tuple[float, ...]:
    """Positions of a market label's classes, those of the label where the config states none."""
    return own if config.class_positions is None else positions_of(classes, config.class_positions)
