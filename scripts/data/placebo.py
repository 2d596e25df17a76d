"""Placebo labels: real labels moved to other dates in blocks, so that nothing can predict them.

Blocks of dates keep what labels of neighbouring dates and of one day have in common; features, their dependence and
the naive rules stay as they are. Whatever accuracy the whole procedure reports on such data is luck.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scripts.data.dataset import Dataset
from scripts.random_keys import numpy_generator

_BLOCK = 20  # dates, or the label's horizon if that is longer


def permute_labels(dataset: Dataset, placebo: int, first_sealed: int) -> Dataset:
    """Return the data set with labels and forward returns of other dates of the same part.

    Parameters
    ----------
    placebo : int
        Number of the placebo; each has its own permutation.
    first_sealed : int
        Position of the first sealed date: labels are moved within the development dates and within the sealed ones,
        never across.
    """
    source = _source_rows(dataset, placebo, first_sealed)
    known = source >= 0
    y = np.where(known, dataset.y[source], -1)
    forward_return = np.where(known, dataset.forward_return[source], np.nan)
    rows = dataset.rows[y[dataset.rows] >= 0]
    bars = None if dataset.bars is None else dataset.bars.moved(source)
    return replace(dataset, y=y, forward_return=forward_return, bars=bars, rows=rows, truth=None)


def _source_rows(dataset: Dataset, placebo: int, first_sealed: int) -> np.ndarray:
    """Row whose label each row gets, -1 where its ticker has none on that date."""
    n = len(dataset.y)
    if dataset.dates is None:
        return numpy_generator("placebo", placebo, n).permutation(n)
    length = max(_BLOCK, dataset.horizon)
    moved = np.concatenate(
        [
            _moved_dates(first, last, length, numpy_generator("placebo", placebo, first))
            for first, last in ((0, first_sealed), (first_sealed, len(dataset.dates)))
        ]
    )
    row_of = np.full((len(dataset.tickers), len(dataset.dates)), -1)
    row_of[dataset.ticker, dataset.date] = np.arange(n)
    return np.asarray(row_of[dataset.ticker, moved[dataset.date]])


def _moved_dates(first: int, last: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Dates first..last - 1 with their blocks of `length` dates in another order."""
    blocks = [np.arange(a, min(a + length, last)) for a in range(first, last, length)]
    order = generator.permutation(len(blocks))
    return np.concatenate([blocks[k] for k in order]) if blocks else np.empty(0, dtype=np.int64)
