"""Regret of selection rules for the configurations of phase 2, on simulated markets with known probabilities."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show

N_FOLDS, N_CANDIDATES, N_FEATURES, N_FRESH = 3, 5, 12, 10_000
OVERCONFIDENT = 2.0  # spread of the logits is multiplied by up to this much
MARKETS = {
    "weak signal, 1,500 rows": (0.1, 1_500, 1.0),
    "weak signal, 6,000 rows": (0.1, 6_000, 1.0),
    "strong signal, 1,500 rows": (0.3, 1_500, 1.0),
    "strong signal, 6,000 rows": (0.3, 6_000, 1.0),
    "weak signal, 6,000 rows, overconfident": (0.1, 6_000, OVERCONFIDENT),
}
SPREAD = ("std_accuracy", "n_parameters")
SIZE = ("n_parameters",)
Rule = tuple[Sequence[str], str, float]  # order among ties, score, standard errors that make a tie
RULES: dict[str, Rule] = {
    "best accuracy": ((), "accuracy", 0.0),
    "best log loss": ((), "loss", 0.0),
    "accuracy, ties of 0.25 s.e. by size": (SIZE, "accuracy", 0.25),
    "log loss, ties of 0.25 s.e. by size": (SIZE, "loss", 0.25),
    "log loss, ties of 1 s.e. by size": (SIZE, "loss", 1.0),
    "accuracy, ties of 1 s.e. by size": (SIZE, "accuracy", 1.0),
    "accuracy, ties of 1 s.e. by spread": (SPREAD, "accuracy", 1.0),
}


@dataclass(frozen=True)
class Candidate:
    """A logistic regression: which features it reads, its ridge penalty, and how overconfident it is."""

    features: np.ndarray
    penalty: float
    temperature: float

    def fit(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Coefficients by four Newton steps."""
        own, weights = x[:, self.features], np.zeros(len(self.features))
        for _ in range(4):
            p = 1 / (1 + np.exp(-own @ weights))
            slope = own.T @ (y - p) - self.penalty * weights
            curvature = (own * (p * (1 - p))[:, None]).T @ own + self.penalty * np.eye(len(weights))
            weights = weights + np.linalg.solve(curvature, slope)
        return weights

    def logits(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Logits of the second class."""
        logits: np.ndarray = self.temperature * (x[:, self.features] @ weights)
        return logits


def candidates(rng: np.random.Generator, overconfident: float) -> list[Candidate]:
    """Configurations as close to each other as those that reach phase 2."""
    made = []
    for _ in range(N_CANDIDATES):
        size = int(rng.integers(5, N_FEATURES + 1))
        features = rng.choice(N_FEATURES, size, replace=False)
        made.append(Candidate(features, 10 ** rng.uniform(0, 2.5), rng.uniform(1.0, overconfident)))
    return made


def regrets(rng: np.random.Generator, signal: float, n_rows: int, overconfident: float) -> dict[str, float]:
    """Expected accuracy that each rule loses against the best candidate, in percentage points, on one market."""
    beta = signal * rng.standard_normal(N_FEATURES) * (rng.random(N_FEATURES) < 0.6)
    x, fresh = rng.standard_normal((n_rows, N_FEATURES)), rng.standard_normal((N_FRESH, N_FEATURES))
    # Each fold has a period of its own, in which the signal is stronger or weaker.
    fold = np.arange(n_rows) * N_FOLDS // n_rows
    strength = rng.uniform(0.6, 1.4, N_FOLDS)[fold]
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-strength * (x @ beta)))).astype(np.float64)
    up = 1 / (1 + np.exp(-fresh @ beta))
    pool, found = candidates(rng, overconfident), []
    for candidate in pool:
        logits = np.empty(n_rows)
        for k in range(N_FOLDS):
            logits[fold == k] = candidate.logits(x[fold == k], candidate.fit(x[fold != k], y[fold != k]))
        said = candidate.logits(fresh, candidate.fit(x, y)) > 0
        found.append(
            ((logits > 0) == y, np.logaddexp(0, -(2 * y - 1) * logits), float(np.where(said, up, 1 - up).mean()))
        )
    truth = np.array([t for _, _, t in found])
    chosen = {name: choose(pool, [f[:2] for f in found], fold, rule) for name, rule in RULES.items()}
    lost = {name: 100 * float(truth.max() - truth[k]) for name, k in chosen.items()}
    return lost | {"any of them": 100 * float(truth.max() - truth.mean())}


def choose(
    pool: Sequence[Candidate], rows: Sequence[tuple[np.ndarray, np.ndarray]], fold: np.ndarray, rule: Rule
) -> int:
    """Candidate that a rule takes, by hits and log losses of the same rows."""
    order, score, width = rule
    values = [-(loss if score == "loss" else -hits.astype(np.float64)) for hits, loss in rows]
    best = int(np.argmax([v.mean() for v in values]))
    behind = [values[best] - v for v in values]
    ties = [k for k, d in enumerate(behind) if k == best or d.mean() <= width * d.std(ddof=1) / len(d) ** 0.5]
    if not order:
        return best
    means = [np.bincount(fold, hits) / np.bincount(fold) for hits, _ in rows]
    keys: Mapping[str, Any] = {
        "std_accuracy": [m.std(ddof=1) for m in means],
        "n_parameters": [len(c.features) for c in pool],
    }
    return min(ties, key=lambda k: (*(keys[name][k] for name in order), -values[k].mean()))


def main() -> None:
    """Simulate and print."""
    given = arguments(__doc__, markets=300)
    results: list[Result] = []
    for number, (name, (signal, n_rows, overconfident)) in enumerate(MARKETS.items()):
        rng = np.random.default_rng([0, number])
        lost = [regrets(rng, signal, n_rows, overconfident) for _ in range(given.markets)]
        for rule in lost[0]:
            own = np.array([one[rule] for one in lost])
            results.append(Result(rule, name, float(own.mean()), float(own.std(ddof=1) / len(own) ** 0.5), len(own)))
    show("Mean regret in percentage points of expected accuracy", results, given.json)


if __name__ == "__main__":
    main()
