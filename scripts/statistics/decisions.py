"""Decisions from probabilities: threshold, abstention by a margin, accuracy and return by coverage.

The lead of an answer with two classes is (p1 - p0) - (2 threshold - 1) = 2 (p1 - threshold), with class 1 if positive.
With more classes it is the largest probability minus the second. A row is answered if the absolute lead exceeds the
margin. At a threshold of 0.5 this is the rule of `returns.positions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.errors import InputError
from scripts.statistics.intervals import Interval, accuracy_interval
from scripts.statistics.trading_simulator import ReturnSimulator

ABSTAINS = -1
# Answers (n,) -> net return of each date (n_dates,), a fraction of capital.
NetReturns = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DecisionPolicy:
    """Rule that turns probabilities into answers.

    Attributes
    ----------
    threshold : float or None
        Two classes: class 1 is predicted if its probability exceeds this, in (0, 1). None for more classes, where
        the most probable one is predicted.
    margin : float
        A row is answered if its lead exceeds this; in [0, 2).

    Raises
    ------
    InputError
        For values outside these ranges.
    """

    threshold: float | None = 0.5
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise InputError(f"{self.threshold} is not a threshold", "threshold", "give a number between 0 and 1")
        if not 0.0 <= self.margin < 2.0:
            raise InputError(f"{self.margin} is not a margin", "margin", "give a number from 0 to below 2")

    @classmethod
    def default(cls, n_classes: int, margin: float = 0.0) -> DecisionPolicy:
        """Return the policy of the most probable class, if it leads by more than `margin`."""
        return cls(0.5 if n_classes == 2 else None, margin)

    def decide(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each row without abstention, int64, and its absolute lead, both of shape (n,).

        Parameters
        ----------
        probabilities : ndarray, shape (n, n_classes)
            Rows sum to 1.

        Raises
        ------
        InputError
            If a threshold is given for more than two classes, or none for two.
        """
        n_classes = probabilities.shape[1]
        if (self.threshold is None) == (n_classes == 2):
            raise InputError(
                f"a threshold of {self.threshold} does not fit {n_classes} classes",
                "threshold",
                "give a threshold for two classes only",
            )
        if self.threshold is None:
            second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
            return probabilities.argmax(axis=1), first - second
        lead = probabilities[:, 1] - probabilities[:, 0] - (2.0 * self.threshold - 1.0)
        return (lead > 0).astype(np.int64), np.abs(lead)

    def answers(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the class of each row, -1 for an abstention; int64 of shape (n,). Arguments as `decide`."""
        predicted, lead = self.decide(probabilities)
        return _abstain(predicted, lead, self.margin)


def answer_positions(answers: np.ndarray, class_positions: Sequence[float]) -> np.ndarray:
    """Return the position of each row, float64 of shape (n,): that of the answered class, 0 for an abstention."""
    held = np.asarray(class_positions, dtype=np.float64)[answers]
    return np.where(answers == ABSTAINS, 0.0, held)


def simulated_net(simulator: ReturnSimulator, class_positions: Sequence[float]) -> NetReturns:
    """Return the function from answers to net returns per date, for `coverage_curve` and `choose_policy`."""
    return lambda answers: simulator.run(answer_positions(answers, class_positions)).net


@dataclass(frozen=True)
class CoveragePoint:
    """Coverage, accuracy and return above one margin; None if undefined, as on fewer than two dates.

    Attributes
    ----------
    coverage, coverage_se : float
        Share of the rows that are answered.
    accuracy, accuracy_se, accuracy_ci95 : float or None, list of float or None
        Share of the answered rows that are right, and its 95% interval.
    mean_net, mean_net_se, mean_net_ci95 : float or None, list of float or None
        Net return per date, a fraction of capital.
    """

    margin: float
    coverage: float
    coverage_se: float | None
    accuracy: float | None
    accuracy_se: float | None
    accuracy_ci95: list[float] | None
    mean_net: float | None
    mean_net_se: float | None
    mean_net_ci95: list[float] | None


def margin_grid(lead: np.ndarray, n_margins: int = 20) -> np.ndarray:
    """Return margins that answer about the shares 1, 1 - 1 / n_margins, ... of the rows: 0 and quantiles, ascending.

    Parameters
    ----------
    lead : ndarray, shape (n,)
        Leads from `DecisionPolicy.decide`, at least one.
    n_margins : int
        Fewer are returned if leads are equal.
    """
    levels = np.arange(1, n_margins) / n_margins
    return np.unique(np.append(0.0, np.quantile(lead, levels, method="inverted_cdf")))


def coverage_curve(
    y: np.ndarray,
    probabilities: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    *,
    threshold: float | None = 0.5,
    margins: np.ndarray | None = None,
    net_returns: NetReturns | None = None,
) -> tuple[CoveragePoint, ...]:
    """Return coverage, accuracy and return at each margin.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, n_classes)
    date : ndarray of int, shape (n,), or None
        None: every row is its own date.
    horizon : int
        Dates that a label looks ahead.
    threshold : float or None
        As in `DecisionPolicy`.
    margins : ndarray, optional
        Ascending; by default `margin_grid` of the leads.
    net_returns : callable, optional
    """
    predicted, lead = DecisionPolicy(threshold).decide(probabilities)
    grid = margin_grid(lead) if margins is None else np.asarray(margins, dtype=np.float64)
    net = None if net_returns is None else net_by_margin(net_returns, predicted, lead, grid)
    points = []
    for k, margin in enumerate(grid.tolist()):
        answered = lead > margin
        right, own = predicted[answered] == y[answered], None if date is None else date[answered]
        accuracy = _interval(right, own, horizon)
        mean_net = None if net is None else _interval(net[:, k], np.arange(len(net)), horizon)
        points.append(
            CoveragePoint(
                margin=margin,
                coverage=float(answered.mean()),
                coverage_se=_se(_interval(answered, date, horizon)),
                accuracy=float(right.mean()) if len(right) else None,
                accuracy_se=_se(accuracy),
                accuracy_ci95=None if accuracy is None else accuracy.share_bounds,
                mean_net=None if net is None else float(net[:, k].mean()),
                mean_net_se=_se(mean_net),
                mean_net_ci95=None if mean_net is None else [mean_net.low, mean_net.high],
            )
        )
    return tuple(points)


def _interval(values: np.ndarray, date: np.ndarray | None, horizon: int) -> Interval | None:
    """Return the interval of a mean; None on fewer than two dates."""
    if len(values if date is None else np.unique(date)) < 2:
        return None
    return accuracy_interval(values.astype(np.float64), date, horizon)


def _se(interval: Interval | None) -> float | None:
    return None if interval is None else interval.se


def _abstain(predicted: np.ndarray, lead: np.ndarray, margin: float) -> np.ndarray:
    return np.where(lead > margin, predicted, ABSTAINS)


def net_by_margin(net_returns: NetReturns, predicted: np.ndarray, lead: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Return the net return of each date at each margin, float64 of shape (n_dates, n_margins)."""
    return np.column_stack([net_returns(_abstain(predicted, lead, margin)) for margin in margins.tolist()])
