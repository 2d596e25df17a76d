"""Naive baselines: prediction rules without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BEST_CONSTANT = "best_constant"
MAJORITY = "majority"
UNKNOWN = -1


def naive_predictions(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the predicted class of each naive rule, int of shape (n,), by name.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
        True classes, at least one row.
    majority_class : int
        Most frequent class of the development rows.
    rules : mapping of str to ndarray of int, shape (n,)
        Predicted class by name of the rule; -1 (no prediction) is replaced by the majority class.

    Returns
    -------
    dict
        "best_constant" (the best constant class on these rows, which no constant prediction can beat),
        "majority" (always the majority class of the development rows), then the rules.
    """
    constants = {BEST_CONSTANT: int(np.bincount(y).argmax()), MAJORITY: majority_class}
    predictions = {name: np.full(len(y), constant) for name, constant in constants.items()}
    return predictions | {name: np.where(rule == UNKNOWN, majority_class, rule) for name, rule in rules.items()}


def constant_answers(n: int, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the predictions of all constant rules, each of shape (n,), by name."""
    return {f"always {name}": np.full(n, k) for k, name in enumerate(classes)}


def helps(y: np.ndarray, rule: np.ndarray) -> bool:
    """Return True if a rule beats chance, given the frequencies of labels and predictions.

    Parameters
    ----------
    y, rule : ndarray of int, shape (n,)
        Labels and predictions of the rule; rows without a prediction are ignored.
    """
    known = rule != UNKNOWN
    if not known.any():
        return False
    y, rule = y[known], rule[known]
    n_classes = int(max(y.max(), rule.max())) + 1
    chance = np.bincount(y, minlength=n_classes) @ np.bincount(rule, minlength=n_classes) / len(y) ** 2
    return bool((y == rule).mean() > chance)


def naive_accuracies(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the accuracy in [0, 1] of each naive rule on the same rows, by name; arguments as `naive_predictions`."""
    return {
        name: float(np.mean(predicted == y)) for name, predicted in naive_predictions(y, majority_class, rules).items()
    }


def best_naive(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Return the name of the most accurate naive rule, the first on a tie, and its predictions, int of shape (n,).

    Arguments as `naive_predictions`.
    """
    predictions = naive_predictions(y, majority_class, rules)
    name = max(predictions, key=lambda rule: (predictions[rule] == y).mean())
    return name, predictions[name]
