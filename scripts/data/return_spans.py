"""Check that the forward returns of a table span as many rows as the config says."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.errors import InputError
from scripts.statistics.overlapping_returns import Overlap, find_overlap


def check_span_of_returns(dataset: Dataset, config: DataConfig) -> tuple[str, ...]:
    """Notes on forward returns that do not overlap as declared.

    Parameters
    ----------
    dataset : Dataset
        Its usable rows alone are looked at.
    config : DataConfig
        With `forward_return_rows` of 1, returns are those of one row, whatever they look like.

    Raises
    ------
    InputError
        Neighbouring returns overlap, and the config does not say over how many rows.
    """
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
