"""Ensembles from a library of predictions: greedy selection, and what it is worth on rows that it did not see.

The probabilities of an ensemble are the weighted mean of its candidates' calibrated ones. Everywhere `y` holds class
indices, shape (n,), and `logits` the candidates' answers, shape (n_candidates, n, n_classes), up to a constant per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.errors import InputError
from scripts.statistics.metrics import Calibration, fit_calibration

_TOLERANCE = 1e-12  # of a mean log loss: fewer draws that differ by no more do as well


@dataclass(frozen=True)
class Ensemble:
    """Calibrations of all candidates, and the draws, in order, that the greedy selection has made among them."""

    calibrations: tuple[Calibration, ...]
    draws: tuple[int, ...]

    @property
    def weights(self) -> dict[int, float]:
        """Share of the draws of each candidate that was drawn, the heaviest first, then the one drawn first."""
        counts = {k: self.draws.count(k) / len(self.draws) for k in self.draws}
        return dict(sorted(counts.items(), key=lambda pair: -pair[1]))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of the ensemble, float64 of shape (n, n_classes)."""
        parts = [weight * self.calibrations[k].probabilities(logits[k]) for k, weight in self.weights.items()]
        return np.sum(parts, axis=0)


def greedy_draws(likelihoods: np.ndarray, most: int) -> tuple[int, ...]:
    """Draws with replacement of which each is the one that leaves the least mean log loss (Caruana et al. 2004).

    Of all numbers of draws up to `most`, the one with the least loss is kept, the smaller on a tie; a tie between
    candidates goes to the first.

    Parameters
    ----------
    likelihoods : ndarray of float, shape (n_candidates, n)
        What each candidate gives to the true class of each row: all that the log loss of a mean depends on.
    most : int
        At least 1.

    Returns
    -------
    tuple of int
        Positions of candidates; their shares are the weights.
    """
    likelihoods = np.asarray(likelihoods, dtype=np.float64)
    total, draws, losses = np.zeros(likelihoods.shape[1]), list[int](), list[float]()
    for count in range(1, most + 1):
        reached = [_mean_loss((total + own) / count) for own in likelihoods]
        draws.append(int(np.argmin(reached)))
        losses.append(reached[draws[-1]])
        total += likelihoods[draws[-1]]
    enough = next(k for k, loss in enumerate(losses, 1) if loss <= min(losses) + _TOLERANCE)
    return tuple(draws[:enough])


def fit_ensemble(y: np.ndarray, logits: np.ndarray, most: int) -> Ensemble:
    """Calibrate each candidate, then select among them, on the same rows."""
    calibrations = tuple(fit_calibration(own, y) for own in logits)
    pairs = zip(calibrations, logits, strict=True)
    likelihoods = [calibration.probabilities(own)[np.arange(len(y)), y] for calibration, own in pairs]
    return Ensemble(calibrations, greedy_draws(np.array(likelihoods), most))


def on_other_folds(
    y: np.ndarray, logits: np.ndarray, fold: np.ndarray, row: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities for each fold by what is fitted and selected on the others alone.

    On the rows that it was made on a selection looks better than it is; on those of a fold that was left out it does
    not.

    Parameters
    ----------
    fold, row : ndarray of int, shape (n,)
        Fold that tests a row, and the row itself: one that several folds test is left out with each of them.
    most : int
        Draws.

    Returns
    -------
    tuple of ndarray
        Of the ensemble, shape (n, n_classes), and of each candidate alone, shape (n_candidates, n, n_classes).

    Raises
    ------
    InputError
        The folds leave no rows to choose on.
    """
    together, alone = np.empty(logits.shape[1:]), np.empty(logits.shape)
    for k in np.unique(fold):
        own = fold == k
        others = ~own & ~np.isin(row, row[own])
        if not others.any():
            raise InputError("the folds leave no rows to choose an ensemble on", "final.ensemble", "use more folds")
        fitted = fit_ensemble(y[others], logits[:, others], most)
        together[own] = fitted.probabilities(logits[:, own])
        alone[:, own] = _calibrated(fitted.calibrations, logits[:, own])
    return together, alone


def _calibrated(calibrations: Sequence[Calibration], logits: np.ndarray) -> np.ndarray:
    return np.array([c.probabilities(own) for c, own in zip(calibrations, logits, strict=True)])


def _mean_loss(likelihood: np.ndarray) -> float:
    """Mean log loss in nats, clipped as in `metrics.log_losses`."""
    eps = np.finfo(np.float64).eps
    return float(-np.log(np.clip(likelihood, eps, 1.0 - eps)).mean())
