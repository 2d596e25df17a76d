"""Choice of threshold and margin on out-of-fold rows, with a test against chance gains."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scripts.statistics.bootstrap import MIN_BLOCKS
from scripts.statistics.decisions import DecisionPolicy, NetReturns, margin_grid, net_by_margin
from scripts.statistics.intervals import sums_by_date
from scripts.statistics.long_run_variance import joint_errors

_MIN_CHANGED = 0.01  # minimum share of the rows that another threshold decides differently
_N_THRESHOLDS = 40
_QUANTILE = 0.95  # of the best gain among candidates if none is better


@dataclass(frozen=True)
class Candidate:
    """Best alternative value of a setting, compared with the given one.

    Attributes
    ----------
    gain, gain_se : float
        Paired difference, out of fold: accuracy for a threshold, net return per date for a margin.
    required : float
        Required gain in standard errors.
    """

    value: float
    gain: float
    gain_se: float
    required: float

    @property
    def accepted(self) -> bool:
        """True if the gain is significant."""
        return self.gain > self.required * self.gain_se


@dataclass(frozen=True)
class ChosenPolicy:
    """Decision policy with its reason; a candidate is None if there was nothing to compare."""

    policy: DecisionPolicy
    reason: str
    threshold: Candidate | None
    margin: Candidate | None


def choose_policy(
    y: np.ndarray,
    probabilities: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    rng: np.random.Generator,
    *,
    margin: float = 0.0,
    min_coverage: float = 0.1,
    net_returns: NetReturns | None = None,
    n_draws: int = 1000,
) -> ChosenPolicy:
    """Choose the threshold by accuracy, then the margin by net return, on out-of-fold rows.

    The best of many candidates looks good by chance. So a candidate replaces the given value only if its gain, paired
    by date, exceeds one standard error and the 95th percentile of the best gain of all candidates if none were better
    (studentised reality check; White 2000, Romano and Wolf 2005), in standard errors. On fewer than ten blocks of dates
    the given values are kept.

    Parameters
    ----------
    y, probabilities, date, horizon, net_returns
        As in `coverage_curve`, out of fold.
    rng : numpy.random.Generator
        Generator of the draws.
    margin : float
        Configured margin; kept without returns.
    min_coverage : float
        Minimum share of rows that another margin must answer.
    """
    n_classes = probabilities.shape[1]
    policy, threshold, other = DecisionPolicy.default(n_classes, margin), None, None
    if n_classes == 2:
        threshold = _best_threshold(y, probabilities, date, horizon, rng, n_draws)
        if threshold is not None and threshold.accepted:
            policy = replace(policy, threshold=threshold.value)
    if net_returns is not None:
        other = _best_margin(policy, probabilities, net_returns, horizon, min_coverage, rng, n_draws)
        if other is not None and other.accepted:
            policy = replace(policy, margin=other.value)
    why_threshold = (
        _reason("threshold", 0.5, threshold, "accuracy", "decides enough rows differently")
        if n_classes == 2
        else f"of {n_classes} classes the most probable one is predicted"
    )
    why_margin = (
        f"margin kept at {margin:g}: the value of abstaining is unknown without returns"
        if net_returns is None
        else _reason("margin", margin, other, "net return per date", f"answers {min_coverage:.0%} of the rows")
    )
    return ChosenPolicy(policy, f"{why_threshold}; {why_margin}", threshold, other)


def _best_threshold(
    y: np.ndarray,
    probabilities: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    rng: np.random.Generator,
    n_draws: int,
) -> Candidate | None:
    """Return the threshold with the best accuracy if every row is answered, among quantiles of the probability."""
    usual = DecisionPolicy().decide(probabilities)[0] == y
    levels = np.arange(1, _N_THRESHOLDS) / _N_THRESHOLDS
    values = np.unique(np.quantile(probabilities[:, 1].astype(np.float64), levels))
    values = values[(values > 0.0) & (values < 1.0)]
    right = np.array([DecisionPolicy(value).decide(probabilities)[0] == y for value in values.tolist()])
    # With two classes, a different answer turns a miss into a hit or a hit into a miss.
    compared = (right.reshape(-1, len(y)) != usual).mean(axis=1) >= _MIN_CHANGED
    if not compared.any():
        return None
    gains = right[compared].astype(np.int8) - usual.astype(np.int8)
    return _best_candidate(values[compared], *sums_by_date(gains.T, date), horizon, rng, n_draws)


def _best_margin(
    policy: DecisionPolicy,
    probabilities: np.ndarray,
    net_returns: NetReturns,
    horizon: int,
    min_coverage: float,
    rng: np.random.Generator,
    n_draws: int,
) -> Candidate | None:
    """Return the margin with the best mean net return among those that answer enough rows."""
    predicted, lead = policy.decide(probabilities)
    grid = margin_grid(lead)
    grid = grid[((lead[:, None] > grid).mean(axis=0) >= min_coverage) & (grid != policy.margin)]
    if not len(grid):
        return None
    net = net_by_margin(net_returns, predicted, lead, np.append(grid, policy.margin))
    return _best_candidate(grid, net[:, :-1] - net[:, -1:], np.ones(len(net)), horizon, rng, n_draws)


def _best_candidate(
    values: np.ndarray, gains: np.ndarray, counts: np.ndarray, horizon: int, rng: np.random.Generator, n_draws: int
) -> Candidate | None:
    """Return the value of the largest gain, from sums of gains per date (n_dates, n_values) and rows per date."""
    estimates = gains.sum(axis=0) / counts.sum()
    best = int(estimates.argmax())
    if len(counts) < MIN_BLOCKS:
        return None
    deviations = (gains - estimates * counts[:, None]) * (len(counts) / counts.sum())
    errors = joint_errors(deviations, horizon, n_draws, rng)
    if errors.degrees_of_freedom + 1 < MIN_BLOCKS or errors.se[best] == 0.0:
        return None
    luck = errors.draws[:, errors.se > 0.0].max(axis=1)
    required = max(1.0, float(np.quantile(luck, _QUANTILE)))
    return Candidate(float(values[best]), float(estimates[best]), float(errors.se[best]), required)


def _reason(name: str, given: float, other: Candidate | None, measure: str, needed: str) -> str:
    """Return the reason as text: the choice, its gain and the required gain."""
    if other is None:
        return f"{name} kept at {given:g}: no alternative {needed} over at least {MIN_BLOCKS} blocks of dates"
    if other.gain <= 0.0:
        return f"{name} kept at {given:g}: no alternative is better out of fold"
    gain = f"{other.gain:+.3g} {measure} out of fold (standard error {other.gain_se:.2g}; {other.required:.1f} needed)"
    if other.accepted:
        return f"{name} {other.value:.3g} instead of {given:g}: {gain}"
    return f"{name} kept at {given:g}: the best alternative, {other.value:.3g}, gains {gain}: not significant"
