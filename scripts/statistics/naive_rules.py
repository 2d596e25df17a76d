"""What a model is measured against: rules that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BEST_CONSTANT = "best_constant"
MAJORITY = "majority"
UNKNOWN = -1


def naive_predictions(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Class that each naive rule says, int of shape (n,), by name.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
        True classes, at least one row.
    majority_class : int
        Most frequent class of the development rows.
    rules : mapping of str to ndarray of int, shape (n,)
        Predicted class by name of the rule; -1 where the rule knows none, in whose place the majority class is taken.

    Returns
    -------
    dict
        "best_constant" (the constant class that is best on these very rows, which no constant prediction can beat),
        "majority" (always the majority class of the development rows), then the rules.
    """
    constants = {BEST_CONSTANT: int(np.bincount(y).argmax()), MAJORITY: majority_class}
    said = {name: np.full(len(y), constant) for name, constant in constants.items()}
    return said | {name: np.where(rule == UNKNOWN, majority_class, rule) for name, rule in rules.items()}


def constant_answers(n: int, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Answers of the rules that always say one class, each of shape (n,), by the name of the class."""
    return {f"always {name}": np.full(n, k) for k, name in enumerate(classes)}


def helps(y: np.ndarray, rule: np.ndarray) -> bool:
    """Whether a rule is right more often than by chance, given how often each class occurs and is said.

    Parameters
    ----------
    y, rule : ndarray of int, shape (n,)
        Labels and the rule's answers; rows where it knows none are left out.
    """
    known = rule != UNKNOWN
    if not known.any():
        return False
    y, rule = y[known], rule[known]
    n_classes = int(max(y.max(), rule.max())) + 1
    chance = np.bincount(y, minlength=n_classes) @ np.bincount(rule, minlength=n_classes) / len(y) ** 2
    return bool((y == rule).mean() > chance)


def naive_accuracies(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Accuracy in [0, 1] of each naive rule on the same rows, by name; arguments as `naive_predictions`."""
    return {name: float(np.mean(said == y)) for name, said in naive_predictions(y, majority_class, rules).items()}


def best_naive(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Name of the most accurate naive rule, the first on a tie, and what it says, int of shape (n,).

    Arguments as `naive_predictions`.
    """
    said = naive_predictions(y, majority_class, rules)
    name = max(said, key=lambda rule: (said[rule] == y).mean())
    return name, said[name]
