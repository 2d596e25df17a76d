"""Winner's curse: bias of the best of many trials, and its correction.

Higher scores are better, in any unit; corrected values have the same unit.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

_GRID, _ROUNDS = 60, 300  # of the distribution of true scores
_CLEARLY = 2.0  # lead in log-likelihood


def winner_shrinkage(scores: np.ndarray, error_sd: float) -> float:
    """Return the share in [0, 1] of its lead over the mean that the winner keeps: 1 - s^2 / S^2 (James and Stein 1961).

    Parameters
    ----------
    scores : ndarray, shape (n_trials,)
        Observed scores of at least two trials; S^2 is their variance (ddof 1).
    error_sd : float
        Standard error of the part of a score that differs between trials.
    """
    variance = float(np.var(scores, ddof=1))
    return max(0.0, 1.0 - error_sd**2 / variance) if variance > 0.0 else 0.0


def corrected_winner(scores: np.ndarray, error_sd: float) -> float:
    """Return the expected true score of the best trial, an empirical Bayes estimate; arguments as `winner_shrinkage`.

    Normal true scores shrink the lead of the best over the mean. That overrates the winner if some trials are much
    worse, because their spread counts as skill. If another distribution of true scores (Kiefer and Wolfowitz 1956) fits
    clearly better, it is used instead.
    """
    spread = math.sqrt(max(error_sd**2, float(np.var(scores, ddof=1))))
    if error_sd <= np.ptp(scores) / _GRID:  # below the step of the grid: scores are exact
        return shrunken_winner(scores, error_sd)
    normal = float(np.log(norm.pdf(scores, np.mean(scores), spread)).sum())
    likelihood, posterior_mean = _of_any_distribution(scores, error_sd)
    return posterior_mean if likelihood > normal + _CLEARLY else shrunken_winner(scores, error_sd)


def shrunken_winner(scores: np.ndarray, error_sd: float) -> float:
    """Return the best score after shrinking its lead over the mean of all trials; arguments as `winner_shrinkage`."""
    mean = float(np.mean(scores))
    return mean + winner_shrinkage(scores, error_sd) * (float(np.max(scores)) - mean)


def _of_any_distribution(scores: np.ndarray, error_sd: float) -> tuple[float, float]:
    """Largest log-likelihood over all distributions of true scores, and the posterior mean of the best trial.

    The likelihood is maximised on a grid by expectation maximisation, as Jiang and Zhang (2009) do.
    """
    grid = np.linspace(scores.min(), scores.max(), _GRID)
    density = norm.pdf(scores[:, None], grid, error_sd)
    weights = np.full(_GRID, 1.0 / _GRID)
    for _ in range(_ROUNDS):
        joint = density * weights
        marginal = np.maximum(joint.sum(axis=1), np.finfo(np.float64).tiny)
        weights = (joint / marginal[:, None]).mean(axis=0)
    mean = float(joint[scores.argmax()] @ grid / marginal[scores.argmax()])
    return float(np.log(marginal).sum()), max(float(np.mean(scores)), mean)


def cross_validation_selection_bias(fold_scores: np.ndarray) -> tuple[int, float]:
    """Return the candidate with the best mean over the folds, and the bias of that mean.

    Parameters
    ----------
    fold_scores : ndarray, shape (n_candidates, n_folds)

    Returns
    -------
    tuple of int and float
        Row of the chosen candidate (the first on a tie), and the bias >= 0 to be subtracted from its mean: mean over
        the folds of (best score in the fold - score of the chosen one in it) (Tibshirani and Tibshirani 2009).
    """
    chosen = int(fold_scores.mean(axis=1).argmax())
    return chosen, float(np.mean(fold_scores.max(axis=0) - fold_scores[chosen]))
