"""Decisions from probabilities: a threshold, abstention by a margin, and what coverage costs and brings.

The lead of an answer: for two classes (p1 - p0) - (2 threshold - 1), that is 2 (p1 - threshold), class 1 if positive;
for more classes the largest probability minus the second. A row is answered where the lead's size is above the margin.
At a threshold of 0.5 this is the rule of `returns.positions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.errors import InputError
from scripts.evaluation.bootstrap import date_bootstrap
from scripts.evaluation.simulator import ReturnSimulator

ABSTAINS = -1
# Answers (n,) -> net return of each date (n_dates,), a fraction of capital.
NetReturns = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DecisionPolicy:
    """How probabilities become answers.

    Attributes
    ----------
    threshold : float or None
        Two classes: class 1 is answered where its probability exceeds this, in (0, 1). None for more classes, where
        the most probable one is answered.
    margin : float
        Least lead, exclusive, of a row that is answered; in [0, 2).

    Raises
    ------
    InputError
        For values outside these ranges.
    """

    threshold: float | None = 0.5
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0.0 < self.threshold < 1.0:
            raise InputError(f"{self.threshold} is no threshold", "threshold", "give a number between 0 and 1")
        if not 0.0 <= self.margin < 2.0:
            raise InputError(f"{self.margin} is no margin", "margin", "give a number from 0 to below 2")

    @classmethod
    def default(cls, n_classes: int, margin: float = 0.0) -> DecisionPolicy:
        """The most probable class, wherever it leads by more than `margin`."""
        return cls(0.5 if n_classes == 2 else None, margin)

    def decide(self, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class of each row if it had to be answered, int64, and the size of its lead, >= 0; both of shape (n,).

        Parameters
        ----------
        probabilities : ndarray, shape (n, n_classes)
            Rows sum to 1.

        Raises
        ------
        InputError
            If a threshold meets more than two classes, or none meets two.
        """
        n_classes = probabilities.shape[1]
        if (self.threshold is None) == (n_classes == 2):
            raise InputError(
                f"a threshold of {self.threshold} does not fit {n_classes} classes",
                "threshold",
                "give a threshold for two classes alone",
            )
        if self.threshold is None:
            second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
            return probabilities.argmax(axis=1), first - second
        lead = probabilities[:, 1] - probabilities[:, 0] - (2.0 * self.threshold - 1.0)
        return (lead > 0).astype(np.int64), np.abs(lead)

    def answers(self, probabilities: np.ndarray) -> np.ndarray:
        """Class of each row, -1 where the policy abstains; int64 of shape (n,). Arguments as `decide`."""
        predicted, lead = self.decide(probabilities)
        return _abstain(predicted, lead, self.margin)


def answer_positions(answers: np.ndarray, class_positions: Sequence[float]) -> np.ndarray:
    """Position of each row, float64 of shape (n,): that of the answered class, 0 where the policy abstains."""
    held = np.asarray(class_positions, dtype=np.float64)[answers]
    return np.where(answers == ABSTAINS, 0.0, held)


def simulated_net(simulator: ReturnSimulator, class_positions: Sequence[float]) -> NetReturns:
    """Net return per date of holding what the answers say, for `coverage_curve` and `choose_policy`."""
    return lambda answers: simulator.run(answer_positions(answers, class_positions)).net


@dataclass(frozen=True)
class CoveragePoint:
    """What is answered above one margin, and how well; None where undefined. Standard errors by blocks of dates.

    Attributes
    ----------
    margin : float
    coverage, coverage_se : float
        Share of the rows that are answered.
    accuracy, accuracy_se : float or None
        Share of the answered rows that are right.
    mean_net, mean_net_se : float or None
        Net return per date, a fraction of capital.
    """

    margin: float
    coverage: float
    coverage_se: float
    accuracy: float | None
    accuracy_se: float | None
    mean_net: float | None
    mean_net_se: float | None


def margin_grid(lead: np.ndarray, n_margins: int = 20) -> np.ndarray:
    """Margins that leave about the shares 1, 1 - 1 / n_margins, ... of the rows answered: 0 and quantiles, ascending.

    Parameters
    ----------
    lead : ndarray, shape (n,)
        As from `DecisionPolicy.decide`, at least one.
    n_margins : int
        Fewer are returned where leads are equal.
    """
    levels = np.arange(1, n_margins) / n_margins
    return np.unique(np.append(0.0, np.quantile(lead, levels, method="inverted_cdf")))


def coverage_curve(
    y: np.ndarray,
    probabilities: np.ndarray,
    date: np.ndarray | None,
    horizon: int,
    rng: np.random.Generator,
    *,
    threshold: float | None = 0.5,
    margins: np.ndarray | None = None,
    net_returns: NetReturns | None = None,
    n_resamples: int = 1000,
) -> tuple[CoveragePoint, ...]:
    """Coverage, accuracy and return at each margin.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
    probabilities : ndarray, shape (n, n_classes)
    date : ndarray of int, shape (n,), or None
        None: every row is its own date.
    horizon : int
        Dates that a label looks ahead: the least block length.
    rng : numpy.random.Generator
    threshold : float or None
        As in `DecisionPolicy`.
    margins : ndarray, optional
        Ascending; by default `margin_grid` of the leads.
    net_returns : callable, optional
    n_resamples : int
    """
    predicted, lead = DecisionPolicy(threshold).decide(probabilities)
    grid = margin_grid(lead) if margins is None else np.asarray(margins, dtype=np.float64)
    answered = lead[:, None] > grid
    hits, counts = sums_by_date(answered & (predicted == y)[:, None], date)
    given, _ = sums_by_date(answered, date)
    # Numerators and denominators of one resample are those of the same dates.
    resampled = date_bootstrap(np.hstack([hits, given]), counts, n_resamples, min_block=horizon, rng=rng)
    right, coverage = np.hsplit(resampled, 2)
    accuracy = np.divide(right, coverage, out=np.full_like(right, np.nan), where=coverage > 0)
    net = None if net_returns is None else net_by_margin(net_returns, predicted, lead, grid)
    drawn = None if net is None else date_bootstrap(net, np.ones(len(net)), n_resamples, min_block=horizon, rng=rng)
    return tuple(
        CoveragePoint(
            margin=float(margin),
            coverage=float(given[:, k].sum() / counts.sum()),
            coverage_se=float(coverage[:, k].std()),
            accuracy=float(hits[:, k].sum() / given[:, k].sum()) if given[:, k].any() else None,
            accuracy_se=_spread(accuracy[:, k]),
            mean_net=None if net is None else float(net[:, k].mean()),
            mean_net_se=None if drawn is None else float(drawn[:, k].std()),
        )
        for k, margin in enumerate(grid)
    )


def _abstain(predicted: np.ndarray, lead: np.ndarray, margin: float) -> np.ndarray:
    return np.where(lead > margin, predicted, ABSTAINS)


def net_by_margin(net_returns: NetReturns, predicted: np.ndarray, lead: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Net return of each date at each margin, float64 of shape (n_dates, n_margins)."""
    return np.column_stack([net_returns(_abstain(predicted, lead, margin)) for margin in margins.tolist()])


def sums_by_date(values: np.ndarray, date: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums per date of row values (n, q), float64 of shape (n_dates, q), and rows per date; ascending by date."""
    if date is None:
        return values.astype(np.float64), np.ones(len(values), dtype=np.int64)
    _, place, counts = np.unique(date, return_inverse=True, return_counts=True)
    return np.column_stack([np.bincount(place, column, len(counts)) for column in values.T]), counts


def _spread(resampled: np.ndarray) -> float | None:
    """Standard deviation of the resamples that are defined; None if most are not."""
    defined = resampled[~np.isnan(resampled)]
    return float(defined.std()) if 2 * len(defined) > len(resampled) else None
