"""Feature drift between two sets of rows, and rows that occur in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, xlogy  # scipy.stats takes long to import

from scripts.statistics.intervals import mean_intervals

_BINS = 10
_MIN_SHARE = 1e-4  # of an empty bin, which keeps the index finite
DRIFT_LEVEL = 0.001  # significance level for all features together
_HASHED_ROWS = 65_536  # at a time


@dataclass(frozen=True)
class FeatureDrift:
    """Population stability index and Kolmogorov-Smirnov distance of one feature between two sets of rows.

    Attributes
    ----------
    psi : float
        Sum over bins of (q - p) ln(q / p) with the shares p and q of the two sets; the bins are the deciles of the
        first set, or the categories, and one for missing values. By convention, below 0.1 is small and above 0.25 large
        (Siddiqi 2006).
    ks : float
        Largest distance of the two distribution functions, in [0, 1].
    p_value : float
        P-value of equal distributions, by the G-test over the bins, corrected for all features (Bonferroni).
    """

    feature: str
    psi: float
    ks: float
    p_value: float = 0.0


def feature_drift(
    before: np.ndarray,
    after: np.ndarray,
    names: Sequence[str],
    categorical: np.ndarray,
    dates: tuple[np.ndarray, np.ndarray] | None = None,
    n_features: int | None = None,
) -> list[FeatureDrift]:
    """Return the drift of each feature, the largest index first.

    Parameters
    ----------
    before, after : ndarray of float, shape (n, n_features)
        NaN = missing; categories as codes, -1 = unknown. At least one row each.
    categorical : ndarray of bool, shape (n_features,)
    dates : pair of ndarray of int, shape (n,), optional
        Dates of the two sets of rows; without them rows count as independent.
    n_features : int, optional
        Number of features for the correction of the p-values; by default those given.
    """
    found = []
    for k, name in enumerate(names):
        pair = before[:, k], after[:, k]
        p, q = _shares(*pair, bool(categorical[k]))
        psi = float(np.sum((q - p) * np.log(q / p)))
        worth = [_independent_rows(own, pair[0], None if dates is None else dates[i]) for i, own in enumerate(pair)]
        chance = _p_of_homogeneity(p * worth[0], q * worth[1]) * (n_features or len(names))
        found.append(FeatureDrift(str(name), psi, _distance(*pair), min(1.0, chance)))
    return sorted(found, key=lambda drift: (-drift.psi, drift.feature))


def _independent_rows(values: np.ndarray, reference: np.ndarray, date: np.ndarray | None) -> float:
    """Return the effective number of independent rows of a feature, at most their number.

    The mean rank among the values of `reference` and the mean distance from the middle rank have the standard error of
    so many independent rows; the smaller of the two numbers is returned. A slowly changing feature has few effective
    rows.
    """
    if date is None or len(np.unique(date)) < 2:
        return float(len(values))
    known = np.sort(reference[np.isfinite(reference)])
    rank = np.where(np.isnan(values), 0.0, np.searchsorted(known, values, "right") / max(1, len(known)))
    found = mean_intervals({"rank": rank, "distance": np.abs(rank - 0.5)}, date, 1).values()
    return min([float(len(values)), *(i.n_effective for i in found if i.n_effective is not None)])


def n_rows_in_both(before: np.ndarray, after: np.ndarray) -> int:
    """Return the number of rows of `after`, shape (n, n_features), that are bitwise equal to a row of `before`."""
    known, rows = (_as_items(part) for part in (before, after))
    return int(np.isin(rows, known).sum())


def n_shared_rows(before: np.ndarray, rows_before: np.ndarray, after: np.ndarray, rows_after: np.ndarray) -> int:
    """Return `n_rows_in_both` for some rows of two arrays without copying them: equal rows have equal hashes."""
    known, asked = _row_hashes(before, rows_before), _row_hashes(after, rows_after)
    rows_after = rows_after[np.isin(asked, known)]
    rows_before = rows_before[np.isin(known, asked)]
    return n_rows_in_both(before[rows_before], after[rows_after])


def _row_hashes(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    factors = np.random.default_rng(0).integers(0, 2**64, x.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), _HASHED_ROWS):
        part = np.take(x, rows[start : start + _HASHED_ROWS], axis=0).astype(np.float32, copy=False) + np.float32(0)
        hashes[start : start + _HASHED_ROWS] = part.view(np.uint32).astype(np.uint64) @ factors
    return hashes


def _as_items(rows: np.ndarray) -> np.ndarray:
    """Return each row as one item of raw bytes; -0.0 and 0.0 are equal."""
    whole = np.ascontiguousarray(rows) + 0.0
    return whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).ravel()


def _shares(before: np.ndarray, after: np.ndarray, categorical: bool) -> tuple[np.ndarray, np.ndarray]:
    edges = np.unique(np.concatenate([before, after]))[1:] if categorical else _deciles(before)
    p, q = (np.maximum(_counts(x, edges) / len(x), _MIN_SHARE) for x in (before, after))
    return p, q


def _deciles(values: np.ndarray) -> np.ndarray:
    """Return the decile bounds of the non-missing values; a value with a tenth or more of the rows has its own bin."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.empty(0)
    bounds, counts = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1]), return_counts=True)
    # The next single-precision number, because features are float32: larger values must not share the bin of this one.
    above = np.nextafter(bounds[counts > 1].astype(np.float32), np.float32(np.inf))
    return np.unique(np.concatenate([bounds, above.astype(bounds.dtype)]))


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the rows in each bin, the last one for missing values; two more than edges."""
    bin_index = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, "right"))
    return np.bincount(bin_index, minlength=len(edges) + 2)


def _p_of_homogeneity(first: np.ndarray, second: np.ndarray) -> float:
    """Return the p-value of the G-test for equal shares of two rows of counts."""
    observed = np.stack([first, second])[:, (first > 0) | (second > 0)]
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0) / observed.sum()
    g = 2.0 * float(np.sum(xlogy(observed, observed / expected)))
    return float(chdtrc(max(1, observed.shape[1] - 1), g))


def _distance(before: np.ndarray, after: np.ndarray) -> float:
    first, second = (np.sort(x[np.isfinite(x)]) for x in (before, after))
    if not len(first) or not len(second):
        return 0.0 if len(first) == len(second) else 1.0
    at = np.concatenate([first, second])
    below = [np.searchsorted(x, at, "right") / len(x) for x in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


@dataclass(frozen=True)
class FeatureReference:
    """Shares of bins of each feature in one set of rows, small enough for a model file.

    Attributes
    ----------
    edges : tuple of ndarray of float64
        Bin bounds of each feature, ascending: deciles, or the codes of its categories.
    shares : tuple of ndarray of float64
        Share of the rows in each bin of each feature, the last one for missing values; two more than edges.
    """

    edges: tuple[np.ndarray, ...]
    shares: tuple[np.ndarray, ...]
    n_rows: int

    @classmethod
    def of(cls, rows: np.ndarray, n_categories: Sequence[int]) -> FeatureReference:
        """Return the reference of `rows`, shape (n, n_features); `n_categories` is 0 for a numeric feature."""
        edges = tuple(
            np.arange(n, dtype=np.float64) if n else _deciles(column)
            for column, n in zip(rows.T, n_categories, strict=True)
        )
        empty = cls(edges, (), len(rows))
        return cls(edges, tuple(counts / len(rows) for counts in empty.counts(rows)), len(rows))

    def counts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Number of `rows`, shape (n, n_features), in each bin of each feature; counts of parts can be added."""
        return [_counts(column, edges) for column, edges in zip(rows.T, self.edges, strict=True)]

    def drifted(
        self, counts: Sequence[np.ndarray], names: Sequence[str], bound: float, n_independent: int
    ) -> list[FeatureDrift]:
        """Return features whose index exceeds `bound` and whose drift is significant, the largest index first.

        The test is the likelihood-ratio test of homogeneity over the bins (G-test; Sokal and Rohlf 1995, 17.2) at a
        level of .001 for all features together (Bonferroni), because the index of a few rows is large without any
        drift. A period that is short compared with the memory of a feature may differ without a real drift.

        Parameters
        ----------
        counts : sequence of ndarray
            Result of `counts`, at least one row in total.
        n_independent : int
            Effective number of independent rows, such as the number of their dates.
        """
        found = []
        for name, before, seen in zip(names, self.shares, counts, strict=True):
            p, q = np.maximum(before, _MIN_SHARE), np.maximum(seen / seen.sum(), _MIN_SHARE)
            psi = float(np.sum((q - p) * np.log(q / p)))
            worth = seen * min(1.0, n_independent / seen.sum())
            if psi > bound and _p_of_homogeneity(before * self.n_rows, worth) < DRIFT_LEVEL / len(names):
                distance = np.abs(np.cumsum(before) - np.cumsum(seen) / seen.sum()).max()
                found.append(FeatureDrift(str(name), psi, float(distance)))
        return sorted(found, key=lambda drift: (-drift.psi, drift.feature))
