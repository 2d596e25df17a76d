"""Metrics of a classifier on arrays of labels and probabilities; None if undefined.

Everywhere `y` is an integer array (n,) of class indices, `probabilities` a float array (n, n_classes) whose rows sum to
one, and `predicted` an integer array (n,), the first maximum of each row by default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


def confusion(y: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Return row counts, int64 of shape (n_classes, n_classes): true class by row, predicted class by column."""
    cells = np.asarray(y, dtype=np.int64) * n_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def balanced_accuracy(y: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return the mean recall over the classes that occur in `y`, in [0, 1]; None without rows."""
    return float(np.mean([np.mean(predicted[y == k] == k) for k in np.unique(y)])) if len(y) else None


def mcc(y: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return the Matthews correlation for any number of classes (Gorodkin 2004), in [-1, 1].

    It is 0 if only one class occurs or is predicted, and None without rows.
    """
    if not len(y):
        return None
    from sklearn.metrics import matthews_corrcoef  # slow to import, and not needed in training

    # scikit-learn gives the same 0 with a warning.
    constant = np.ptp(y) == 0 or np.ptp(predicted) == 0
    return 0.0 if constant else float(matthews_corrcoef(y, predicted))


def log_loss(y: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the mean negative logarithm of the label's probability, in nats; None without rows.

    Probabilities are clipped to [eps, 1 - eps] with the eps of double precision, 2.2e-16.
    """
    return float(log_losses(y, probabilities).mean()) if len(y) else None


def log_losses(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the log loss of each row in nats, float64 of shape (n,), clipped as in `log_loss`."""
    eps = np.finfo(np.float64).eps
    return -np.log(np.clip(probabilities[np.arange(len(y)), y].astype(np.float64), eps, 1.0 - eps))


def brier(y: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the Brier score summed over all classes, in [0, 2]; None without rows.

    For two classes it is twice the one-sided form, which uses the positive class only.
    """
    error = probabilities.astype(np.float64)
    error[np.arange(len(y)), y] -= 1.0
    return float(np.mean(np.sum(error**2, axis=1))) if len(y) else None


def placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the share of the other side that each row is ranked correctly against, ties half (DeLong et al. 1988).

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        At least one row of each side.
    score : ndarray of float, shape (n,)
        Higher means positive.

    Returns
    -------
    ndarray of float64, shape (n,)
        The mean over the positive rows, and over the others, is the AUC.
    """
    positive = np.asarray(positive, dtype=bool)
    # Rank among all rows minus rank on its own side = number of rows of the other side below.
    everywhere, place = _ranks(score), np.empty(len(score))
    place[positive] = (everywhere[positive] - _ranks(score[positive])) / (~positive).sum()
    place[~positive] = 1.0 - (everywhere[~positive] - _ranks(score[~positive])) / positive.sum()
    return place


def _ranks(score: np.ndarray) -> np.ndarray:
    """Return ranks from 1; equal scores share their mean rank."""
    return pd.Series(score).rank().to_numpy()


def auc(y: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the area under the ROC curve in [0, 1]; None if undefined.

    Two classes: area of class 1. More: mean over the classes with a defined area (macro, one against the rest).
    """
    rows = auc_by_row(y, probabilities)
    return None if rows is None else float(rows.mean())


def auc_by_row(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray | None:
    """Return values whose mean over the rows is the AUC, so that it can be resampled like any mean; shape (n,).

    A value is the AUC plus n times the row's first-order influence on it (Efron 1982, the infinitesimal jackknife): a
    row that counts twice moves the AUC as it moves the mean of these values, up to terms of order 1 / n. None where
    the AUC is undefined; classes as in `auc`.
    """
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [_area(y == k, probabilities[:, k]) for k in classes]
    defined = [area for area in areas if area is not None]
    return np.mean(defined, axis=0) if defined else None


def _area(positive: np.ndarray, score: np.ndarray) -> np.ndarray | None:
    """Return the values of `auc_by_row` for one class; None if a side has no row."""
    n, n_positive = len(positive), int(positive.sum())
    if n_positive in (0, n):
        return None
    place = placements(positive, score)
    area = float(place[positive].mean())
    return area + n * (place - area) / np.where(positive, n_positive, n - n_positive)


def average_precision(y: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the area under the precision-recall curve as a sum of steps, in [0, 1]; chance level is the class share.

    Two classes: area of the rarer one. More: mean over the classes that occur. None without rows or with a single
    class.
    """
    from sklearn.metrics import average_precision_score  # slow to import, and not needed in training

    counts = np.bincount(y, minlength=probabilities.shape[1])
    present = np.flatnonzero((counts > 0) & (counts < len(y)))
    if probabilities.shape[1] == 2 and len(present):
        present = np.array([counts.argmin()])
    areas = [average_precision_score(y == k, probabilities[:, k]) for k in present]
    return float(np.mean(areas)) if areas else None


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows in one bin of confidence: number of the bin from 0, rows, mean confidence, share of hits."""

    index: int
    count: int
    confidence: float
    accuracy: float


def reliability_bins(
    confidence: np.ndarray, correct: np.ndarray, n_bins: int = 15, equal_mass: bool = False
) -> list[ReliabilityBin]:
    """Return the non-empty bins of confidence, ascending.

    Parameters
    ----------
    confidence : ndarray of float, shape (n,)
        In [0, 1].
    correct : ndarray of bool or int, shape (n,)
        1 if the predicted event occurred.
    n_bins : int
        Bins (l, u] of equal width; a value of 0 is in the first.
    equal_mass : bool
        Put the edges at the quantiles k / n_bins (linear interpolation) instead; equal values share a bin.
    """
    if not len(confidence):
        return []
    shares = np.linspace(0.0, 1.0, n_bins + 1)
    edges = np.quantile(confidence, shares) if equal_mass else shares
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(place, minlength=n_bins)
    total_confidence = np.bincount(place, confidence, minlength=n_bins)
    total_correct = np.bincount(place, correct, minlength=n_bins)
    return [
        ReliabilityBin(int(k), int(count[k]), float(total_confidence[k] / count[k]), float(total_correct[k] / count[k]))
        for k in np.flatnonzero(count)
    ]


def reliability(y: np.ndarray, probabilities: np.ndarray, n_bins: int = 15) -> list[ReliabilityBin]:
    """Return non-empty bins of equal width of the largest probability of each row, with the share of hits."""
    return reliability_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == y, n_bins)


def calibration_error(bins: list[ReliabilityBin]) -> float | None:
    """Return the mean gap between confidence and accuracy weighted by rows (Guo et al. 2017, eq. 3); None if empty."""
    n = sum(b.count for b in bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / n if n else None


def ece(y: np.ndarray, probabilities: np.ndarray, n_bins: int = 15) -> float | None:
    """Return the expected calibration error of the largest probability over bins of equal width; None without rows."""
    return calibration_error(reliability(y, probabilities, n_bins))
