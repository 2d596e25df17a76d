"""Volatility regime of each test row: terciles of trailing volatility, bounded on the development rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.data.dataset import Dataset

FEATURE = "log_volatility_20"  # logarithm of the root mean square of the last 20 log returns
THIRDS = ("low", "middle", "high")


@dataclass(frozen=True)
class VolatilityThirds:
    """Return the tercile of each test row, and its bounds.

    Attributes
    ----------
    bounds : tuple of float
        Volatility per bar, a fraction, that parts low from middle and middle from high.
    third : ndarray of int64, shape (n,)
        0 low, 1 middle, 2 high.
    """

    bounds: tuple[float, float]
    third: np.ndarray

    def span(self, name: str) -> tuple[float | None, float | None]:
        """Return lower and upper bound of a third; None where it is open."""
        edges = (None, *self.bounds, None)
        k = THIRDS.index(name)
        return edges[k], edges[k + 1]


def volatility_thirds(development: Dataset, dataset: Dataset) -> VolatilityThirds | None:
    """Thirds of the development rows by volatility, applied to the usable rows of `dataset`; None without that feature.

    The bounds come from the development rows, so that calm test years are all "low" and not cut in three.
    """
    if FEATURE not in dataset.feature_names or not dataset.has_time:
        return None
    column = dataset.feature_names.index(FEATURE)
    known = development.x[development.rows, column].astype(np.float64)
    edges = np.nanquantile(known, [1 / 3, 2 / 3])
    third = np.searchsorted(edges, dataset.x[dataset.rows, column], side="right")
    low, high = np.exp(edges).tolist()
    return VolatilityThirds((low, high), third)
