"""Test of whether the confidences of a classifier are calibrated, on a panel of dates."""

from __future__ import annotations

import numpy as np

from scripts.statistics.intervals import mean_intervals


def calibration_p_value(y: np.ndarray, probabilities: np.ndarray, date: np.ndarray | None, horizon: int) -> float:
    """Return the p-value of calibrated confidences, by their intercept and slope (Cox 1958).

    If the probabilities are calibrated, hits minus confidences have mean 0 and no correlation with the confidence. Both
    means are tested with the standard error of all intervals, and the smaller p-value is doubled (Bonferroni). The
    expected calibration error is not a test: it is positive for calibrated probabilities too, especially on few rows.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
    probabilities : ndarray of float, shape (n, n_classes)
    date, horizon
        As in `statistics.accuracy_interval`.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    excess = (probabilities.argmax(axis=1) == y) - confidence
    moments = {"intercept": excess, "slope": excess * (confidence - confidence.mean())}
    found = [interval.p_value for interval in mean_intervals(moments, date, horizon).values()]
    return min(1.0, len(found) * min(1.0 if p is None else p for p in found))
