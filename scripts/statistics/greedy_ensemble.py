"""Greedy ensemble selection from a library of predictions, and its cross-validated gain.

The probabilities of an ensemble are the weighted mean of its candidates' calibrated ones. Everywhere `y` has class
indices, shape (n,), and `logits` the candidates' answers, shape (n_candidates, n, n_classes), up to a constant per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.errors import InputError
from scripts.statistics.temperature_scaling import Calibration, fit_calibration

_TOLERANCE = 1e-12  # of a mean log loss: differences below this are ties, and fewer draws win


@dataclass(frozen=True)
class Ensemble:
    """Calibrations of all candidates, and the draws of the greedy selection in their order."""

    calibrations: tuple[Calibration, ...]
    draws: tuple[int, ...]

    @property
    def weights(self) -> dict[int, float]:
        """Share of the draws of each drawn candidate, the largest first, then by the order of the draws."""
        counts = {k: self.draws.count(k) / len(self.draws) for k in self.draws}
        return dict(sorted(counts.items(), key=lambda pair: -pair[1]))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of the ensemble, float64 of shape (n, n_classes)."""
        parts = [weight * self.calibrations[k].probabilities(logits[k]) for k, weight in self.weights.items()]
        return np.sum(parts, axis=0)


def greedy_draws(likelihoods: np.ndarray, max_draws: int) -> tuple[int, ...]:
    """Return draws with replacement, each minimising the mean log loss (Caruana et al. 2004).

    Among all numbers of draws up to `max_draws`, the one with the lowest loss is returned, the smaller on a tie. Ties
    between candidates go to the first.

    Parameters
    ----------
    likelihoods : ndarray of float, shape (n_candidates, n)
        Probability that each candidate gives to the true class of each row.
    max_draws : int
        At least 1.

    Returns
    -------
    tuple of int
        Indices of candidates; their shares are the weights.
    """
    likelihoods = np.asarray(likelihoods, dtype=np.float64)
    total, draws, losses = np.zeros(likelihoods.shape[1]), list[int](), list[float]()
    for count in range(1, max_draws + 1):
        reached = [_mean_loss((total + candidate) / count) for candidate in likelihoods]
        draws.append(int(np.argmin(reached)))
        losses.append(reached[draws[-1]])
        total += likelihoods[draws[-1]]
    enough = next(k for k, loss in enumerate(losses, 1) if loss <= min(losses) + _TOLERANCE)
    return tuple(draws[:enough])


def fit_ensemble(y: np.ndarray, logits: np.ndarray, max_draws: int) -> Ensemble:
    """Calibrate each candidate, then select among them, on the same rows."""
    calibrations = tuple(fit_calibration(of_member, y) for of_member in logits)
    pairs = zip(calibrations, logits, strict=True)
    likelihoods = [calibration.probabilities(of_member)[np.arange(len(y)), y] for calibration, of_member in pairs]
    return Ensemble(calibrations, greedy_draws(np.array(likelihoods), max_draws))


def on_other_folds(
    y: np.ndarray, logits: np.ndarray, fold: np.ndarray, row: np.ndarray, max_draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities for each fold from ensembles that are fitted and selected on the other folds.

    A selection looks too good on the rows that it was made on, but not on the rows of a left-out fold.

    Parameters
    ----------
    fold, row : ndarray of int, shape (n,)
        Fold that tests a row, and the row itself; a row that several folds test is left out with each of them.
    max_draws : int
        Maximum number of draws.

    Returns
    -------
    tuple of ndarray
        Probabilities of the ensemble, shape (n, n_classes), and of each candidate, shape (n_candidates, n, n_classes).

    Raises
    ------
    InputError
        The folds leave no rows to choose on.
    """
    ensemble, alone = np.empty(logits.shape[1:]), np.empty(logits.shape)
    for k in np.unique(fold):
        tested = fold == k
        others = ~tested & ~np.isin(row, row[tested])
        if not others.any():
            raise InputError("the folds leave no rows to choose an ensemble on", "final.ensemble", "use more folds")
        fitted = fit_ensemble(y[others], logits[:, others], max_draws)
        ensemble[tested] = fitted.probabilities(logits[:, tested])
        alone[:, tested] = _calibrated(fitted.calibrations, logits[:, tested])
    return ensemble, alone


def _calibrated(calibrations: Sequence[Calibration], logits: np.ndarray) -> np.ndarray:
    return np.array([c.probabilities(of_member) for c, of_member in zip(calibrations, logits, strict=True)])


def _mean_loss(likelihood: np.ndarray) -> float:
    """Return the mean log loss in nats, clipped as in `metrics.log_losses`."""
    eps = np.finfo(np.float64).eps
    return float(-np.log(np.clip(likelihood, eps, 1.0 - eps)).mean())
