"""What two sets of rows have to do with each other: how far each feature has drifted, and rows that lie in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BINS = 10
_LEAST_SHARE = 1e-4  # of an empty bin, so that the index stays finite


@dataclass(frozen=True)
class FeatureDrift:
    """Population stability index and Kolmogorov-Smirnov distance of one feature between two sets of rows.

    Attributes
    ----------
    psi : float
        Sum over bins of (q - p) ln(q / p) with the shares p and q of the two sets; the bins are the deciles of the
        first set, or the categories, and one for missing values. By convention below 0.1 is little and above 0.25 much
        (Siddiqi 2006).
    ks : float
        Largest distance of the two distribution functions, in [0, 1].
    """

    feature: str
    psi: float
    ks: float


def feature_drift(
    before: np.ndarray, after: np.ndarray, names: Sequence[str], categorical: np.ndarray
) -> list[FeatureDrift]:
    """Drift of each feature, the largest index first.

    Parameters
    ----------
    before, after : ndarray of float, shape (n, n_features)
        NaN = missing; categories as codes, -1 = unknown. At least one row each.
    names : sequence of str
    categorical : ndarray of bool, shape (n_features,)
    """
    found = []
    for k, name in enumerate(names):
        p, q = _shares(before[:, k], after[:, k], bool(categorical[k]))
        psi = float(np.sum((q - p) * np.log(q / p)))
        found.append(FeatureDrift(str(name), psi, _distance(before[:, k], after[:, k])))
    return sorted(found, key=lambda drift: (-drift.psi, drift.feature))


def n_rows_in_both(before: np.ndarray, after: np.ndarray) -> int:
    """How many rows of `after`, shape (n, n_features), equal a row of `before` bit for bit."""
    known, rows = (_as_items(part) for part in (before, after))
    return int(np.isin(rows, known).sum())


def _as_items(rows: np.ndarray) -> np.ndarray:
    """Each row as one item of raw bytes; -0.0 and 0.0 are the same value."""
    whole = np.ascontiguousarray(rows) + 0.0
    return whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).ravel()


def _shares(before: np.ndarray, after: np.ndarray, categorical: bool) -> tuple[np.ndarray, np.ndarray]:
    known = before[np.isfinite(before)]
    if categorical:
        edges = np.unique(np.concatenate([before, after]))[1:]
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.empty(0)
    counts = [
        np.bincount(np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, "right")), minlength=len(edges) + 2)
        for x in (before, after)
    ]
    p, q = (np.maximum(c / c.sum(), _LEAST_SHARE) for c in counts)
    return p, q


def _distance(before: np.ndarray, after: np.ndarray) -> float:
    first, second = (np.sort(x[np.isfinite(x)]) for x in (before, after))
    if not len(first) or not len(second):
        return 0.0 if len(first) == len(second) else 1.0
    at = np.concatenate([first, second])
    below = [np.searchsorted(x, at, "right") / len(x) for x in (first, second)]
    return float(np.abs(below[0] - below[1]).max())
