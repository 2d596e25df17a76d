"""Comparison of a model with naive rules, reference models and the best possible model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scripts.data.dataset import Dataset
from scripts.evaluation.tested_rows import EvaluatedRows
from scripts.statistics.model_tests import diebold_mariano, mcnemar
from scripts.storage.score_records import ClassicalTests, DieboldMarianoTest, Lead, McNemarTest


def classical_tests(tested: EvaluatedRows) -> ClassicalTests:
    """Return classical tests against the best naive rule, besides the interval that decides."""
    rows = mcnemar(
        int(((tested.hits == 1) & (tested.naive_hits == 0)).sum()),
        int(((tested.hits == 0) & (tested.naive_hits == 1)).sum()),
    )
    by_rows = McNemarTest(p_mid=tested.p_value(rows.p_mid), p_exact=tested.p_value(rows.p_exact))
    dated = None
    if tested.date is not None:
        _, index, counts = np.unique(tested.date, return_inverse=True, return_counts=True)
        by_date = np.bincount(index, tested.hits - tested.naive_hits) / counts
        if len(by_date) > tested.dataset.horizon:
            found = diebold_mariano(by_date, tested.dataset.horizon)
            p = tested.p_value(found.p_two_sided)
            dated = DieboldMarianoTest(statistic=found.statistic, p=p, kernel=found.kernel)
    return ClassicalTests(mcnemar=by_rows, diebold_mariano=dated)


def leads_over(tested: EvaluatedRows, references: Mapping[str, np.ndarray]) -> dict[str, Lead]:
    """Return paired differences in accuracy to each reference model."""
    right = {name: (p.argmax(axis=1) == tested.y).astype(np.float64) for name, p in references.items()}
    found = {name: tested.interval(tested.hits - hits) for name, hits in right.items()}
    return {
        name: Lead(difference=lead.estimate, se=lead.se, ci95=[lead.low, lead.high]) for name, lead in found.items()
    }


def ceiling(dataset: Dataset) -> float | None:
    """Return the best possible accuracy, if the probabilities of the market are known."""
    if (p := _probability_of_up(dataset)) is None:
        return None
    return float(np.maximum(p, 1 - p).mean())


def expected_accuracy(tested: EvaluatedRows) -> float | None:
    """Return the expected accuracy of these predictions, if the probabilities of the market are known."""
    if (p := _probability_of_up(tested.dataset)) is None:
        return None
    return float(np.where(tested.predicted == 1, p, 1 - p).mean())


def _probability_of_up(dataset: Dataset) -> np.ndarray | None:
    if dataset.truth is None or dataset.classes != ("down", "up") or dataset.horizon != 1:
        return None
    return np.asarray(dataset.truth[dataset.rows])
