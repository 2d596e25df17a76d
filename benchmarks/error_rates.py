"""Error rates of intervals, verdicts, alarms and selections on simulated arrays with known truth."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show
from scripts.evaluation.selection_bias import stability
from scripts.extended_training.race import Finished, Race
from scripts.statistics.calibration_check import calibration_p_value
from scripts.statistics.decision_tuning import choose_policy
from scripts.statistics.decisions import coverage_curve
from scripts.statistics.drift import DRIFT_LEVEL, feature_drift
from scripts.statistics.intervals import accuracy_interval
from scripts.statistics.metrics import ece
from scripts.statistics.model_tests import model_confidence_set
from scripts.statistics.skill import encompassing_test, skill_over, verdict
from scripts.statistics.skill_decay import decay_report

Rng = np.random.Generator
_CANDIDATES, _FOLDS = 4, 3  # of a choice


def ar1(n: int, phi: float, rng: Rng, columns: int = 1) -> np.ndarray:
    """Stationary AR(1) processes of variance 1, shape (n, columns)."""
    noise = rng.standard_normal((n + 200, columns)) * math.sqrt(1 - phi**2)
    noise[0] = rng.standard_normal(columns)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=0)[200:])


def coverage(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Test one series of persistent hits whose true accuracy is one half."""
    interval = accuracy_interval((ar1(n, phi, rng)[:, 0] > 0).astype(float), np.arange(n), 1)
    low, high = interval.share_bounds
    return {"covered": low <= 0.5 <= high, "warned": interval.degrees_of_freedom + 1 < 10}


def null_verdict(n: int, tickers: int, phi: float, horizon: int, rng: Rng) -> dict[str, bool]:
    """Test a model that knows nothing against constants and persistence, which know nothing either."""
    moves = rng.standard_normal((n + horizon, 1)) + rng.standard_normal((n + horizon, tickers))
    price = np.cumsum(np.vstack([np.zeros((1, tickers)), moves]), axis=0)
    y = (price[horizon : n + horizon] > price[:n]).astype(int)
    persistence = np.vstack([np.zeros((horizon, tickers), dtype=int), y[: n - horizon]]).ravel()
    signal = (ar1(n, phi, rng) + ar1(n, phi, rng, tickers)) / math.sqrt(2)
    up, y, date = norm.cdf(0.15 * signal).ravel(), y.ravel(), np.repeat(np.arange(n), tickers)
    rules = {"up": y == 1, "down": y == 0, "persistence": persistence == y}
    skill = skill_over((up > 0.5) == y, rules, date, horizon)
    found = verdict(skill, encompassing_test(y, np.column_stack([1 - up, up]), [persistence], date, horizon))
    return {"skill": found == "skill", "worse than naive": found == "worse than naive"}


def calibrated(n: int, rng: Rng) -> dict[str, bool]:
    """Test probabilities from which the labels were drawn."""
    up = np.clip(0.5 + 0.06 * rng.standard_normal(n), 0.01, 0.99)
    y, p = (rng.random(n) < up).astype(int), np.column_stack([1 - up, up])
    error = ece(y, p) or 0.0
    return {"not calibrated": error > 0.05 and calibration_p_value(y, p, np.arange(n), 1) < 0.05}


def stationary(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Look for drift in ten stationary features."""
    x, date, cut = ar1(n, phi, rng, 10), np.arange(n), n * 4 // 5
    dates = date[:cut], date[cut:]
    found = feature_drift(x[:cut], x[cut:], [str(k) for k in range(10)], np.zeros(10, dtype=bool), dates)
    return {"drift": any(drift.psi > 0.25 and drift.p_value < DRIFT_LEVEL for drift in found)}


def no_decay(n: int, tickers: int, phi: float, horizon: int, rng: Rng) -> dict[str, bool]:
    """Look for decay in persistent skill that does not decay."""
    right, date = np.clip(0.55 + 0.1 * ar1(n, phi, rng)[:, 0], 0, 1), np.repeat(np.arange(n), tickers)
    hits, naive = rng.random(len(date)) < right[date], rng.random(len(date)) < 0.5
    return {"train again": decay_report(hits, naive, date + 1, date, horizon).retrain_after is not None}


def raced(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Race equally good configurations over three folds of n dates; the first one is watched."""
    hits = ar1(n, phi, rng, _CANDIDATES) > 0
    dates = np.array_split(np.arange(n), _FOLDS)
    race, done = Race(range(_CANDIDATES), dates, True, 1, 0.05, 1, seed=0), {}
    while round_ := race.next_round(done):
        done |= {network: Finished(hits[dates[network.fold], network.trial], 10) for network in round_}
    return {"best stopped": any(0 in look.behind for look in race.looks)}


def policy(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Choose threshold and margin for a model that knows nothing, where trading costs nothing."""
    up, y, returns = norm.cdf(0.15 * ar1(n, phi, rng)[:, 0]), ar1(n, phi, rng)[:, 0] > 0, ar1(n, phi, rng)[:, 0]
    net = lambda answers: 0.01 * returns * np.where(answers < 0, 0, 2 * answers - 1)  # noqa: E731
    found = choose_policy(y.astype(int), np.column_stack([1 - up, up]), np.arange(n), 1, rng, net_returns=net)
    return {
        "threshold changed": bool(found.threshold and found.threshold.accepted),
        "margin changed": bool(found.margin and found.margin.accepted),
    }


def curve(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Accuracy of the surer half of the answers, whose true value is one half."""
    up, y = norm.cdf(0.15 * ar1(n, phi, rng)[:, 0]), (ar1(n, phi, rng)[:, 0] > 0).astype(int)
    p = np.column_stack([1 - up, up])
    point = coverage_curve(y, p, np.arange(n), 1, margins=np.array([np.median(np.abs(2 * up - 1))]))[0]
    low, high = point.accuracy_ci95 or (0.0, 1.0)
    return {"covered": low <= 0.5 <= high}


def confidence_set(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Exclude the first of equally good models from the 90% model confidence set."""
    found = model_confidence_set(ar1(n, phi, rng, _CANDIDATES), 0.1, 1, rng)
    return {"best excluded": 0 not in found.included, "any excluded": len(found.included) < _CANDIDATES}


def stable(n: int, phi: float, rng: Rng) -> dict[str, bool]:
    """Call the best of two equally good configurations stable in at least 95% of resamples."""
    hits = (ar1(n, phi, rng, 2) > 0).astype(float)
    hits = hits[:, np.argsort(-hits.mean(axis=0), kind="stable")]
    return {"stability of 95%": stability(hits, np.arange(n), 1, rng) >= 0.95}


CHOICES = {
    "race": raced,
    "policy": policy,
    "coverage curve": curve,
    "confidence set": confidence_set,
    "stability": stable,
}


def cases() -> Iterator[tuple[str, Callable[[Rng], dict[str, bool]]]]:
    """Name and draw of each design."""
    for n in (100, 200, 300):
        for phi in (0.0, 0.5, 0.8, 0.9, 0.95):
            yield f"{n} dates, phi {phi:g}", lambda rng, n=n, phi=phi: coverage(n, phi, rng)
    for n, tickers, phi, horizon in ((100, 1, 0.9, 1), (300, 1, 0.95, 20), (250, 12, 0.9, 5), (250, 12, 0.97, 20)):
        name = f"verdict: {tickers} x {n}, horizon {horizon}"
        yield name, lambda rng, a=(n, tickers, phi, horizon): null_verdict(*a, rng)
    for n in (100, 300, 1000):
        yield f"calibrated, {n} rows", lambda rng, n=n: calibrated(n, rng)
    for phi in (0.0, 0.9, 0.98):
        yield f"stationary, 1,250 dates, phi {phi:g}", lambda rng, phi=phi: stationary(1250, phi, rng)
    for n, tickers, phi, horizon in ((250, 12, 0.0, 1), (250, 12, 0.9, 1), (500, 12, 0.95, 20)):
        name = f"no decay: {tickers} x {n}, phi {phi:g}, horizon {horizon}"
        yield name, lambda rng, a=(n, tickers, phi, horizon): no_decay(*a, rng)
    for name, choice in CHOICES.items():
        for n in (100, 300):
            for phi in (0.0, 0.5, 0.9):
                yield f"{name}: {n} dates, phi {phi:g}", lambda rng, f=choice, n=n, phi=phi: f(n, phi, rng)


def main() -> None:
    """Draw every design and print how often each event happens."""
    given = arguments(__doc__, draws=400)
    results = []
    for name, draw in cases():
        rng = np.random.default_rng(1)
        drawn = [draw(rng) for _ in range(given.draws)]
        for metric in drawn[0]:
            share = float(np.mean([one[metric] for one in drawn]))
            error = math.sqrt(share * (1 - share) / given.draws)
            results.append(Result(name, metric, share, error, given.draws))
    show(f"Shares of {given.draws} draws", results, given.json)


if __name__ == "__main__":
    main()
