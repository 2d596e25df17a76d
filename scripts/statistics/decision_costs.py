"""Costs of decisions under a cost matrix: most probable class, cheapest class, best constant.

A cost matrix (n_classes, n_classes) has the finite cost of each decision in any unit, with negative gains: true
class by row, predicted class by column. Everywhere `y` is an integer array (n,) of class indices and `probabilities` a
float array (n, n_classes) whose rows sum to one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DecisionCosts:
    """Cost of each row by three decision rules, each float64 of shape (n,); a mean over rows is the cost per decision.

    Attributes
    ----------
    most_probable : ndarray
        Cost of the class with the largest probability.
    cheapest : ndarray
        Cost of the class with the lowest expected cost under the probabilities.
    best_constant : ndarray
        Cost of always deciding for `constant_class`.
    constant_class : int
        Constant decision that is cheapest on these rows, so that no constant decision can beat it.
    """

    most_probable: np.ndarray
    cheapest: np.ndarray
    best_constant: np.ndarray
    constant_class: int

    def means(self) -> dict[str, float]:
        """Return the mean cost per row by decision rule; needs at least one row."""
        ways = {"most_probable": self.most_probable, "cheapest": self.cheapest, "best_constant": self.best_constant}
        return {name: float(costs.mean()) for name, costs in ways.items()}


def decision_costs(y: np.ndarray, probabilities: np.ndarray, costs: np.ndarray) -> DecisionCosts:
    """Return the cost of each row by the three decision rules; `costs` is the cost matrix."""
    constant = best_constant_decision(y, costs)
    return DecisionCosts(
        most_probable=costs[y, probabilities.argmax(axis=1)],
        cheapest=costs[y, cheapest_decisions(probabilities, costs)],
        best_constant=costs[y, constant],
        constant_class=constant,
    )


def cheapest_decisions(probabilities: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the class with the lowest expected cost for each row, the first on a tie, int64 of shape (n,).

    The expected cost of deciding for class j is sum_k p_k costs[k, j] (Elkan 2001, The foundations of cost-sensitive
    learning, eq. 1). It needs calibrated probabilities.
    """
    return (probabilities.astype(np.float64) @ costs).argmin(axis=1)


def best_constant_decision(y: np.ndarray, costs: np.ndarray) -> int:
    """Return the class whose constant decision is cheapest on these rows, the first on a tie."""
    return int((np.bincount(y, minlength=len(costs)) @ costs).argmin())
