"""Offset and unit of columns whose values float32 cannot distinguish."""

from __future__ import annotations

import numpy as np

Reference = tuple[float, float]  # value, unit
_SAMPLED = 20_000  # rows that determine the resolution of a column
_BLURRED = 1e-4  # rounding error relative to the distance of values from their median
_LEAST, _MOST = 1e-20, 1e20  # spreads whose squares and quotients single precision can represent


def reference_of(values: np.ndarray) -> Reference | None:
    """Return the reference of a column, or None if single precision can represent its values.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Development rows; NaN is missing.
    """
    some = values[:: max(1, len(values) // _SAMPLED)]
    some = some[np.isfinite(some)]
    if not len(some):
        return None
    centre = float(np.median(some))
    away = some != centre
    if not away.any():
        return None
    spread = float(np.median(np.abs(some[away] - centre)))
    with np.errstate(over="ignore", under="ignore"):
        error = float(np.median(np.abs(some[away] - some[away].astype(np.float32))))
    extreme = not _LEAST < spread < _MOST
    if error <= _BLURRED * spread and not extreme:
        return None
    return centre, 2.0 ** float(np.floor(np.log2(spread))) if extreme else 1.0


def as_single(values: np.ndarray, reference: Reference | None) -> np.ndarray:
    """Return values in single precision, relative to their reference if they have one."""
    if reference is None:
        return values.astype(np.float32)
    centre, unit = reference
    with np.errstate(over="ignore"):
        return np.clip((values.astype(np.float64) - centre) / unit, -1e30, 1e30).astype(np.float32)
