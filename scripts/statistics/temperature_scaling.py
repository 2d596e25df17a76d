"""Temperature scaling: calibration of probabilities, with a bias for each class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import logsumexp, softmax

TEMPERATURE_BOUNDS = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """Fit the temperature T in [0.05, 20] that minimises the log loss of softmax(logits / T) (Guo et al. 2017, 4.2).

    Parameters
    ----------
    logits : ndarray of float, shape (n, n_classes)
        Finite, of validation rows. At least one row.
    y : ndarray of int, shape (n,)

    Returns
    -------
    float
        1 if the loss does not depend on the temperature, such as for equal logits in every row.

    Raises
    ------
    ValueError
        If there is no row or a logit is not finite.
    """
    z = np.asarray(logits, dtype=np.float64)
    if not z.size or not np.isfinite(z).all():
        raise ValueError("a temperature needs at least one row of logits, all finite")
    z = z - z.max(axis=1, keepdims=True)
    mean_true = z[np.arange(len(y)), y].mean()

    def slope(log_temperature: float) -> float:
        """Derivative of the mean log loss by 1 / T; it falls as T rises, because the loss is convex in 1 / T."""
        weights = softmax(z / math.exp(log_temperature), axis=1)
        return float(np.sum(weights * z, axis=1).mean() - mean_true)

    coldest, hottest = TEMPERATURE_BOUNDS
    at_coldest, at_hottest = slope(math.log(coldest)), slope(math.log(hottest))
    if at_coldest <= 0.0 <= at_hottest:
        return 1.0
    if at_coldest <= 0.0:
        return coldest
    if at_hottest >= 0.0:
        return hottest
    return math.exp(brentq(slope, math.log(coldest), math.log(hottest), xtol=1e-12))


@dataclass(frozen=True)
class Calibration:
    """Calibration map: logits are divided by `temperature`, then `bias`, shape (n_classes,) with sum 0, is added."""

    temperature: float
    bias: np.ndarray

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 of shape (n, n_classes)."""
        return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / self.temperature + self.bias, axis=1))


def fit_calibration(logits: np.ndarray, y: np.ndarray) -> Calibration:
    """Fit bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020, section 2.2) by log loss.

    With the bias, a model that has learned nothing can predict the class shares, which a temperature alone cannot.
    Parameters and errors as `fit_temperature`, with the same bounds of the temperature.
    """
    z = np.asarray(logits, dtype=np.float64)
    start, n_classes, row = fit_temperature(z, y), z.shape[1], np.arange(len(y))
    target = np.zeros_like(z)
    target[row, y] = 1.0

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean log loss of softmax(slope z + bias), convex in slope and bias, and its gradient."""
        scores = parameters[0] * z + parameters[1:]
        excess = (softmax(scores, axis=1) - target) / len(y)
        value = float((logsumexp(scores, axis=1) - scores[row, y]).mean())
        return value, np.concatenate([[(excess * z).sum()], excess.sum(axis=0)])

    coldest, hottest = TEMPERATURE_BOUNDS
    found = minimize(
        loss,
        np.concatenate([[1.0 / start], np.zeros(n_classes)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1.0 / hottest, 1.0 / coldest), *[(None, None)] * n_classes],
    )
    bias = found.x[1:]
    return Calibration(float(1.0 / found.x[0]), bias - bias.mean())
