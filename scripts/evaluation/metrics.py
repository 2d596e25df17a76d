"""Metrics of a probabilistic classifier on arrays of labels and probabilities; None where one is not defined."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import log_softmax
from sklearn import metrics

_SMALLEST = 2.2e-16  # probabilities are clipped there in logarithms


def accuracy(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose first largest probability is that of the label."""
    return float((probabilities.argmax(axis=1) == y).mean())


def balanced_accuracy(y: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over the classes that occur in `y` of the share of their rows that is recognised."""
    return float(np.mean([(predicted[y == c] == c).mean() for c in np.unique(y)]))


def log_loss(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative logarithm of the label's probability, in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], _SMALLEST)).mean())


def brier(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared distance to the one-hot label, summed over all classes: 0 to 2."""
    target = np.zeros_like(probabilities)
    target[np.arange(len(y)), y] = 1.0
    return float(((probabilities - target) ** 2).sum(axis=1).mean())


def auc(y: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Area under the ROC curve; with more than two classes the mean over those that occur, each against the rest."""
    n_classes = probabilities.shape[1]
    if len(np.unique(y)) < 2:
        return None
    if n_classes == 2:
        return float(metrics.roc_auc_score(y == 1, probabilities[:, 1]))
    present = [c for c in range(n_classes) if 0 < (y == c).sum() < len(y)]
    return float(np.mean([metrics.roc_auc_score(y == c, probabilities[:, c]) for c in present]))


def mcc(y: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews correlation coefficient for any number of classes (Gorodkin 2004); 0 where a margin is constant."""
    return float(metrics.matthews_corrcoef(y, predicted))


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose largest probability lies in one bin: mean confidence, share of hits, number."""

    confidence: float
    accuracy: float
    count: int


def reliability(y: np.ndarray, probabilities: np.ndarray, n_bins: int = 15) -> list[ReliabilityBin]:
    """Non-empty bins (l, u] of the largest probability, the value 0 in the first."""
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == y
    which = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [
        ReliabilityBin(float(confidence[which == b].mean()), float(hit[which == b].mean()), int((which == b).sum()))
        for b in np.unique(which)
    ]


def ece(y: np.ndarray, probabilities: np.ndarray, n_bins: int = 15) -> float:
    """Expected calibration error of the largest probability (Guo et al. 2017, equation 3)."""
    bins = reliability(y, probabilities, n_bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(y)


def confusion(y: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts, int64 of shape (n_classes, n_classes): true class by row, predicted class by column."""
    return np.bincount(y * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def fit_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """Temperature T in [0.05, 20] that minimises the log loss of softmax(logits / T) (Guo et al. 2017, 4.2)."""
    z = logits.astype(np.float64)
    row = np.arange(len(y))
    found = optimize.minimize_scalar(
        lambda t: -log_softmax(z / math.exp(t), axis=1)[row, y].mean(),
        bounds=(math.log(0.05), math.log(20.0)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return math.exp(found.x)
