"""Acquisition: the new point or the paused trial with the highest expected improvement under the model."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from scripts.tuning.curve_model import CurveModel
from scripts.tuning.encoding import UnitCube

_N_FAR, _N_NEAR, _N_REFINED, _N_KEPT = 600, 300, 120, 6
# Perturbations of each refinement: smallest and largest standard deviation.
_REFINEMENTS = ((0.05, 0.8), (0.03, 0.5), (0.02, 0.3), (0.01, 0.1))
_MIN_DISTANCE = 0.05  # to a known configuration in the coordinate that differs most; closer points add no information


def log_expected_improvement(lead: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Logarithm of E[max(0, N(lead, sd))] (Jones, Schonlau and Welch 1998; in logs as Ament et al. 2023)."""
    # In logarithms, because far from the leaders the improvement underflows to 0, and all points would be equal.
    z = lead / sd
    near = np.maximum(z, -5.0)
    density = np.exp(-0.5 * near * near) / math.sqrt(2.0 * math.pi)
    value = np.log(np.maximum(density + near * ndtr(near), 1e-300))
    # Far below: phi(z) / z^2 is the leading term.
    far = -0.5 * z * z - 0.5 * math.log(2.0 * math.pi) - 2.0 * np.log(np.maximum(-z, 1.0))
    return np.log(sd) + np.where(z > -5.0, value, far)


@dataclass(frozen=True)
class Posterior:
    """The curve model, the trials it knows, ascending, and the scores that it expects of them at the last rung."""

    model: CurveModel
    known: np.ndarray
    expected: np.ndarray

    @property
    def best_first(self) -> np.ndarray:
        """Trials by their expected score."""
        return self.known[np.argsort(-self.expected, kind="stable")]

    def most_promising(self, trials: Collection[int]) -> int | None:
        """Return the trial with the highest expected improvement over the leader of all.

        None if the model knows none of them. The leader itself would be shipped anyway: it waits for the others as long
        as these promise anything.
        """
        asked = np.isin(self.known, list(trials))
        if not asked.any():
            return None
        inputs = self.model.data.inputs
        lead, sd = self.model.gain(inputs[asked], inputs[int(np.argmax(self.expected))])
        return int(self.known[asked][np.argmax(log_expected_improvement(lead, sd))])


def propose_points(
    model: CurveModel,
    cube: UnitCube,
    leaders: np.ndarray,
    known: np.ndarray,
    margin: float,
    near_only: bool,
    n: int,
    generator: np.random.Generator,
) -> list[tuple[np.ndarray, float]]:
    """The `n` most promising points, the best first, each with its expected improvement.

    Parameters
    ----------
    leaders : ndarray of shape (n, n_dimensions)
        Points with the best expected scores, the best first: the incumbent.
    known : ndarray of shape (m, n_dimensions)
        Points of all configurations tried.
    margin : float
        Improvement that does not count, in the model's units: with the noise between splits, the search leaves a peak
        on which only less than that can be gained.
    near_only : bool
        Search around the leaders only.
    """
    incumbent = cube.features(leaders[:1])[0]

    def improvement(points: np.ndarray) -> np.ndarray:
        lead, sd = model.gain(cube.features(points), incumbent)
        value = log_expected_improvement(lead - margin, sd)
        distance = cdist(points, known, "chebyshev").min(axis=1)
        return np.where(distance < _MIN_DISTANCE, -np.inf, value)

    points = _perturbed(leaders, _N_NEAR, 0.03, 1.0, generator)
    if not near_only:
        points = np.concatenate([_scattered(_N_FAR, len(cube), generator), points])
    points = cube.snapped(points)
    values = improvement(points)
    for low, high in _REFINEMENTS:
        best = np.argsort(-values, kind="stable")[:_N_KEPT]
        further = cube.snapped(_perturbed(points[best], _N_REFINED, low, high, generator))
        points = np.concatenate([points[best], further])
        values = np.concatenate([values[best], improvement(further)])
    return _spread(points, values, n)


def _spread(points: np.ndarray, values: np.ndarray, n: int) -> list[tuple[np.ndarray, float]]:
    """Return the `n` best points that are not closer to each other than to known points; the best ones if too few."""
    order, values = np.argsort(-values, kind="stable"), values.copy()
    chosen: list[tuple[np.ndarray, float]] = []
    for _ in range(n):
        best = int(np.argmax(values))
        if values[best] == -np.inf:
            best = int(order[len(chosen) % len(order)])
        chosen.append((points[best], float(np.exp(values[best]))))
        values[cdist(points, points[best : best + 1], "chebyshev")[:, 0] < _MIN_DISTANCE] = -np.inf
    return chosen


def _scattered(n: int, n_dimensions: int, generator: np.random.Generator) -> np.ndarray:
    """Draw uniform points, some with coordinates on an edge, where the best is often found in many dimensions."""
    points = generator.uniform(size=(n, n_dimensions))
    on_edge = generator.uniform(size=points.shape) < generator.uniform(0.0, 0.9, size=(n, 1))
    return np.where(on_edge, np.round(points), points)


def _perturbed(base: np.ndarray, n: int, low: float, high: float, generator: np.random.Generator) -> np.ndarray:
    """Draw points around `base`, each moved in some of its coordinates by its own step size."""
    chosen = base[generator.integers(len(base), size=n)]
    size = np.exp(generator.uniform(math.log(low), math.log(high), size=(n, 1)))
    moved = generator.uniform(size=chosen.shape) < generator.uniform(0.15, 1.0, size=(n, 1))
    return np.asarray(chosen + generator.normal(size=chosen.shape) * size * moved)
