"""Test rows of a model, with the hits of the model and of the best naive rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scripts.data.dataset import Dataset
from scripts.random_keys import numpy_generator
from scripts.statistics.intervals import Interval, mean_intervals
from scripts.statistics.naive_rules import best_naive, constant_answers, helps, naive_accuracies, naive_predictions
from scripts.statistics.skill import EncompassingTest, Skill, encompassing_test, skill_over


@dataclass(frozen=True)
class EvaluatedRows:
    """Usable rows of a data set with answers; every array of shape (n,).

    Attributes
    ----------
    y, predicted : ndarray of int64
        True and predicted class.
    naive : dict of str to float
        Accuracy of each naive rule.
    naive_name : str
        The most accurate of them.
    naive_predicted : ndarray of int64
        Predicted classes.
    rules : dict of str to ndarray of int64
        Answers of every constant class and of each of the label's own rules.
    helpful : tuple of str
        Names of the label's rules that are right more often than by chance on the development rows.
    majority : int
        Most frequent class of the development rows.
    openings : int
        Looks at these rows so far: each is a chance, so that every interval has confidence 1 - 0.05 / openings.
    """

    dataset: Dataset
    y: np.ndarray
    predicted: np.ndarray
    naive: dict[str, float]
    naive_name: str
    naive_predicted: np.ndarray
    rules: dict[str, np.ndarray]
    helpful: tuple[str, ...]
    majority: int
    seed: int
    openings: int = 1

    @classmethod
    def of(
        cls, development: Dataset, dataset: Dataset, predicted: np.ndarray, seed: int, openings: int = 1
    ) -> EvaluatedRows:
        """Usable rows of `dataset`; the majority class is that of the development rows."""
        rows = dataset.rows
        y = dataset.y[rows]
        majority = int(np.bincount(development.y[development.rows]).argmax())
        rules = {name: rule[rows] for name, rule in dataset.naive.items()}
        name, rule_answers = best_naive(y, majority, rules)
        fixed = naive_predictions(y, majority, rules)
        answers = constant_answers(len(y), dataset.classes) | {rule: fixed[rule] for rule in rules}
        known = {rule: own[development.rows] for rule, own in development.naive.items()}
        helpful = tuple(rule for rule, own in known.items() if helps(development.y[development.rows], own))
        accuracies = naive_accuracies(y, majority, rules)
        return cls(dataset, y, predicted, accuracies, name, rule_answers, answers, helpful, majority, seed, openings)

    def naive_on(self, rows: np.ndarray) -> np.ndarray:
        """Return the predictions of the best naive rule on any rows of the data set, shape as `rows`."""
        rule = self.dataset.naive.get(self.naive_name)
        if rule is None:  # a constant
            return np.full(len(rows), self.naive_predicted[0])
        return np.where(rule[rows] < 0, self.majority, rule[rows])

    @cached_property
    def hits(self) -> np.ndarray:
        """1 where the model is right, else 0."""
        return (self.predicted == self.y).astype(np.float64)

    @cached_property
    def naive_hits(self) -> np.ndarray:
        """1 where the best naive rule is right, else 0."""
        return (self.naive_predicted == self.y).astype(np.float64)

    @cached_property
    def skill(self) -> Skill:
        """Accuracy less that of every fixed rule."""
        right = {name: (answers == self.y).astype(np.float64) for name, answers in self.rules.items()}
        return skill_over(self.hits, right, self.date, self.dataset.horizon)

    def encompassing(self, probabilities: np.ndarray) -> EncompassingTest:
        """Test whether probabilities, shape (n, n_classes), add information to the naive rules that beat chance."""
        answers = [self.rules[name] for name in self.helpful]
        return encompassing_test(self.y, probabilities, answers, self.date, self.dataset.horizon)

    @cached_property
    def date(self) -> np.ndarray | None:
        """Position of each row's date; None without time."""
        return self.dataset.date[self.dataset.rows] if self.dataset.has_time else None

    @cached_property
    def year(self) -> np.ndarray | None:
        """Year of each row as text; None without time."""
        if self.dataset.dates is None:
            return None
        return self.dataset.dates[self.dataset.date[self.dataset.rows]].astype("datetime64[Y]").astype(str)

    def generator(self, *purpose: str) -> np.random.Generator:
        """Generator for the resamples of one figure."""
        return numpy_generator(self.seed, "evaluation", *purpose)

    @property
    def confidence(self) -> float:
        """Confidence of each interval, so that all looks together err in at most 5% of cases (Bonferroni)."""
        return 1.0 - 0.05 / self.openings

    def p_value(self, one_look: float | None) -> float | None:
        """P-value corrected for all looks (Bonferroni); None where it is undefined."""
        return None if one_look is None else min(1.0, self.openings * one_look)

    def intervals(self, values: Mapping[str, np.ndarray]) -> dict[str, Interval]:
        """Return means over the test rows, corrected for dependence between dates and for all openings."""
        found = mean_intervals(values, self.date, self.dataset.horizon)
        return {name: interval.at(self.confidence) for name, interval in found.items()}

    def interval(self, values: np.ndarray) -> Interval:
        """Return the mean over the test rows, as `intervals`."""
        return self.intervals({"mean": values})["mean"]
