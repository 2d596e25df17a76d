"""Skill over naive rules: intervals that allow for choosing the best rule, the primary test, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scripts.statistics.intervals import Interval, mean_intervals

Verdict = Literal["skill", "no skill", "worse than naive"]

MIN_DATES = 10  # minimum for a verdict; the distribution on fewer is unknown
ENCOMPASSING = "forecast encompassing"
_ROUNDING = 1e-9  # of the largest probability: residuals below it are rounding errors


@dataclass(frozen=True)
class Skill:
    """Accuracy of a model minus that of each fixed rule, on the same rows.

    Attributes
    ----------
    by_rule : mapping of str to Interval
        At least one rule.
    """

    by_rule: Mapping[str, Interval]

    @property
    def rival(self) -> Interval:
        """Difference to the most accurate rule, the first on a tie."""
        return min(self.by_rule.values(), key=lambda interval: interval.estimate)

    def bounds(self, confidence: float = 0.95) -> list[float]:
        """Return the interval of the skill over the truly best rule, which the rows may not show.

        The lower bound is the smallest of all rules. The upper bound is the smallest of all rules at a simultaneous
        confidence (Bonferroni).
        """
        each = 1.0 - (1.0 - confidence) / len(self.by_rule)
        low = min(interval.at(confidence).low for interval in self.by_rule.values())
        return [low, min(interval.at(each).high for interval in self.by_rule.values())]

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of no skill over the truly best rule; None if model and best rule agree on all rows."""
        if self.rival.p_value is None:
            return None
        if self.rival.estimate > 0.0:
            return max(interval.p_value or 0.0 for interval in self.by_rule.values())
        below = [i.p_value for i in self.by_rule.values() if i.estimate <= 0.0 and i.p_value is not None]
        return min(1.0, len(self.by_rule) * min(below))


def skill_over(hits: np.ndarray, rule_hits: Mapping[str, np.ndarray], date: np.ndarray | None, horizon: int) -> Skill:
    """Compare a model with fixed rules.

    Parameters
    ----------
    hits : ndarray, shape (n,)
        1 for a correct prediction of the model, else 0.
    rule_hits : mapping of str to ndarray, shape (n,)
        The same for each rule: every constant class, and the label's own rules.
    date, horizon
        As in `statistics.accuracy_interval`.
    """
    ahead = {name: np.asarray(hits, dtype=np.float64) - of_rule for name, of_rule in rule_hits.items()}
    return Skill(mean_intervals(ahead, date, horizon))


@dataclass(frozen=True)
class EncompassingTest:
    """Student test that probabilities carry information on the labels beyond the naive predictions.

    Attributes
    ----------
    statistic : float or None
        Positive if they do; None if the probabilities are a function of the naive predictions.
    p_value : float or None
        Two-sided.
    """

    statistic: float | None
    degrees_of_freedom: float
    p_value: float | None


def encompassing_test(
    y: np.ndarray,
    probabilities: np.ndarray,
    naive_answers: Sequence[np.ndarray],
    date: np.ndarray | None,
    horizon: int,
) -> EncompassingTest:
    """Test whether naive forecasts encompass the model's (Harvey, Leybourne and Newbold 1998).

    Labels and probabilities are regressed on a constant and on the naive predictions over the same rows. The statistic
    tests the mean product of the residuals, summed over the classes: the numerator of the coefficient of the
    probabilities in a regression with the naive predictions (Frisch and Waugh 1933). A constant probability of any
    value and any function of one naive prediction have a product of 0.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
    probabilities : ndarray of float, shape (n, n_classes)
    naive_answers : sequence of ndarray of int, shape (n,)
        Predicted class of each naive rule that is not constant.
    date, horizon
        As in `statistics.accuracy_interval`.
    """
    n_classes = probabilities.shape[1]
    classes = np.arange(n_classes)
    known = np.column_stack([np.ones(len(y)), *(answers[:, None] == classes[1:] for answers in naive_answers)])
    labels, forecasts = (y[:, None] == classes).astype(np.float64), probabilities.astype(np.float64)
    surprise, news = (values - known @ np.linalg.lstsq(known, values, rcond=None)[0] for values in (labels, forecasts))
    scale = np.abs(forecasts).max() * _ROUNDING
    product = np.sum(surprise * np.where(np.abs(news) > scale, news, 0.0), axis=1)
    found = mean_intervals({"product": product}, date, horizon)["product"]
    statistic = found.estimate / found.se if found.se > 0.0 else None
    return EncompassingTest(statistic, found.degrees_of_freedom, found.p_value)


def verdict(skill: Skill, primary: EncompassingTest, level: float = 0.05) -> Verdict:
    """Return the verdict on a model from its accuracy and its probabilities.

    - "worse than naive": the interval of the skill is below 0.
    - "skill": the interval is above 0, or the accuracy is above that of the best naive rule and the probabilities
      pass the encompassing test. Each of the two has an error of at most half of `level`, so both together of at most
      `level`.
    - "no skill": otherwise, and always on fewer than `MIN_DATES` dates.

    Parameters
    ----------
    level : float
        0.05, divided by the number of openings.
    """
    low, high = skill.bounds(1.0 - level)
    if skill.rival.n_dates < MIN_DATES:
        return "no skill"
    if high < 0.0:
        return "worse than naive"
    passed = primary.statistic is not None and primary.statistic > 0.0 and (primary.p_value or 0.0) <= level
    return "skill" if low > 0.0 or (passed and skill.rival.estimate > 0.0) else "no skill"
