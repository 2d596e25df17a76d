"""Decisions under a cost matrix agree with costs worked by hand, and a matrix that does not fit the data is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig
from scripts.data.loading import load_development
from scripts.errors import InputError
from scripts.statistics.decision_costs import best_constant_decision, cheapest_decisions, decision_costs
from scripts.statistics.intervals import difference_interval

# A missed positive costs five times a false alarm, so that the cheapest decision is positive from p = 1/6 on.
COSTS = np.array([[0.0, 1.0], [5.0, 0.0]])
POSITIVE = np.array([0.1, 0.2, 0.4, 0.45, 0.7, 0.16])
PROBABILITIES = np.column_stack([1 - POSITIVE, POSITIVE])
Y = np.array([0, 0, 1, 0, 1, 1])


def breast_cancer(cost_matrix: list[list[float]]) -> DataConfig:
    return DataConfig(
        source="table",
        path="sklearn:breast_cancer",
        label="column",
        label_column="target",
        cost_matrix=cost_matrix,
    )


def random_problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and costs of up to five classes."""
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 6))
    probabilities = rng.dirichlet(np.ones(n_classes), size=40)
    return rng.integers(n_classes, size=40), probabilities, rng.normal(size=(n_classes, n_classes))


def test_costs_of_six_decisions_agree_with_those_worked_by_hand() -> None:
    found = decision_costs(Y, PROBABILITIES, COSTS)
    assert cheapest_decisions(PROBABILITIES, COSTS).tolist() == [0, 1, 1, 1, 1, 0]
    assert found.most_probable.tolist() == [0, 0, 5, 0, 0, 5]
    assert found.cheapest.tolist() == [0, 1, 0, 1, 0, 5]
    assert found.best_constant.tolist() == [1, 1, 0, 1, 0, 0]
    assert found.constant_class == 1
    assert found.means() == pytest.approx({"most_probable": 10 / 6, "cheapest": 7 / 6, "best_constant": 3 / 6})


def test_rows_are_true_classes_and_columns_are_decisions_with_three_classes() -> None:
    costs = np.array([[0.0, 2.0, 9.0], [1.0, 0.0, 3.0], [4.0, 1.0, 0.0]])
    probabilities = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
    # Expected costs of the first row: 1.4, 1.3, 5.1; of the second: 3.3, 1.0, 1.2.
    assert cheapest_decisions(probabilities, costs).tolist() == [1, 1]
    assert decision_costs(np.array([0, 2]), probabilities, costs).cheapest.tolist() == [2.0, 1.0]
    assert best_constant_decision(np.array([0, 2]), costs) == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_no_decision_is_expected_to_cost_less_than_the_cheapest(seed: int) -> None:
    y, probabilities, costs = random_problem(seed)
    decided = cheapest_decisions(probabilities, costs)
    for row, p in enumerate(probabilities):
        expected = [sum(p[k] * costs[k, j] for k in range(len(costs))) for j in range(len(costs))]
        assert expected[decided[row]] == pytest.approx(min(expected), abs=1e-12)
    constant = decision_costs(y, probabilities, costs).best_constant.mean()
    assert constant == pytest.approx(min(costs[y, j].mean() for j in range(len(costs))))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_with_equal_costs_of_every_mistake_the_cheapest_decision_is_the_most_probable_class(seed: int) -> None:
    y, probabilities, costs = random_problem(seed)
    found = decision_costs(y, probabilities, 1.0 - np.eye(len(costs)))
    np.testing.assert_array_equal(found.cheapest, found.most_probable)
    assert 1.0 - found.means()["most_probable"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == y))


def test_costs_of_rows_go_into_a_paired_interval() -> None:
    rng = np.random.default_rng(3)
    positive = rng.beta(1, 2, size=2000)
    y = (rng.random(2000) < positive).astype(int)
    found = decision_costs(y, np.column_stack([1 - positive, positive]), COSTS)
    saved = difference_interval(found.most_probable, found.cheapest, None, 1)
    assert saved.low > 0
    assert saved.estimate == pytest.approx(found.means()["most_probable"] - found.means()["cheapest"])


def test_a_cost_matrix_for_other_classes_is_refused_when_the_data_are_loaded() -> None:
    with pytest.raises(InputError, match=r"data.cost_matrix: has 3 rows for 2 classes.*in this order: "):
        load_development(breast_cancer([[0.0, 1.0, 1.0]] * 3), 1, 0)
    assert load_development(breast_cancer([[0.0, 1.0], [5.0, 0.0]]), 1, 0).n_classes == 2
