"""Metrics, calibration, temperature and baselines agree with the reference cases and with what they promise."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from scripts.statistics.metrics import (
    auc,
    auc_by_row,
    average_precision,
    balanced_accuracy,
    brier,
    calibration_error,
    confusion,
    ece,
    log_loss,
    mcc,
    reliability,
    reliability_bins,
)
from scripts.statistics.naive_rules import best_naive, naive_accuracies, naive_predictions
from scripts.statistics.temperature_scaling import fit_calibration, fit_temperature
from tests.reference_cases import assert_agrees, reference_cases

CASES = reference_cases("metrics", "temperature")


def both(p_up: Any) -> np.ndarray:
    up = np.asarray(p_up, dtype=float)
    return np.column_stack([1 - up, up])


def every_metric(y: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    predicted = p.argmax(axis=1)
    return {
        "balanced_accuracy": balanced_accuracy(y, predicted),
        "mcc": mcc(y, predicted),
        "auc": auc(y, p),
        "auc_macro": auc(y, p),
        "log_loss": log_loss(y, p),
        "brier": brier(y, p),
        "brier_all_classes": brier(y, p),
        "brier_positive_class": brier(y, p) / 2,
    }


def table(confidence: Any, correct: Any, n_bins: int, equal_mass: bool) -> tuple[list[list[float]], float | None]:
    bins = reliability_bins(np.array(confidence), np.array(correct), n_bins, equal_mass)
    return [[b.index, b.count, b.confidence, b.accuracy] for b in bins], calibration_error(bins)


def binary(inputs: dict[str, Any]) -> dict[str, Any]:
    return every_metric(np.array(inputs["y"]), both(inputs["p_up"]))


def three_classes(inputs: dict[str, Any]) -> dict[str, Any]:
    return every_metric(np.array(inputs["y"]), np.array(inputs["p"]))


def degenerate(inputs: dict[str, Any]) -> dict[str, Any]:
    y, p = np.array(inputs["y"]), both(inputs["p_up"])
    return {
        "auc_single_class": auc(y, p),
        "mcc_single_class": mcc(y, p.argmax(axis=1)),
        "auc_constant_score": auc(np.array(inputs["y_other"]), both(inputs["p_constant"])),
    }


def skill_against_prior(inputs: dict[str, Any]) -> dict[str, Any]:
    y = np.array(inputs["y"])
    prior = np.tile(inputs["training_shares"], (len(y), 1))
    return {
        "log_loss_of_prior": log_loss(y, prior),
        "brier_of_prior": brier(y, prior),
    }


def calibration(inputs: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, equal_mass in {"equal_width": False, "equal_mass": True}.items():
        rows, error = table(inputs["confidence"], inputs["correct"], inputs["n_bins"], equal_mass)
        found[name] = {"bins_index_count_confidence_accuracy": rows, "ece": error}
    return found


def calibration_edges(inputs: dict[str, Any]) -> dict[str, Any]:
    width, width_error = table(inputs["edge_confidence"], inputs["edge_correct"], 4, False)
    mass, mass_error = table(inputs["tied_probability"], inputs["tied_outcome"], 15, True)
    return {"width_4": width, "ece_width_4": width_error, "mass_15": mass, "ece_mass_15": mass_error}


def temperature(inputs: dict[str, Any]) -> dict[str, Any]:
    logits, y = np.array(inputs["logits"]), np.array(inputs["y"])
    fitted = fit_temperature(logits, y)
    scaled = softmax(logits / fitted, axis=1)
    return {
        "temperature": fitted,
        "log_loss_before": log_loss(y, softmax(logits, axis=1)),
        "log_loss_after": log_loss(y, scaled),
    }


def temperature_bounds(inputs: dict[str, Any]) -> dict[str, Any]:
    right, wrong, y = (np.array(inputs[name]) for name in ("logits_all_right", "logits_all_wrong", "y"))
    return {
        "all_right_T": fit_temperature(right, y),
        "all_wrong_T": fit_temperature(wrong, y),
        "log_loss_all_wrong_at_1": log_loss(y, softmax(wrong, axis=1)),
        "log_loss_all_wrong_at_20": log_loss(y, softmax(wrong / fit_temperature(wrong, y), axis=1)),
    }


CHECKS = {
    "metrics_binary_with_ties": binary,
    "metrics_three_classes": three_classes,
    "metrics_missing_class_and_zero_probability": three_classes,
    "metrics_degenerate": degenerate,
    "skill_against_prior": skill_against_prior,
    "calibration_15_bins": calibration,
    "calibration_edges_and_ties": calibration_edges,
    "temperature_scaling": temperature,
    "temperature_without_optimum": temperature_bounds,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_reference_case(case: dict[str, Any]) -> None:
    assert_agrees(CHECKS[case["name"]](case["inputs"]), case["expected"], case["tolerance"])


def random_rows(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(n_classes, size=n), rng.dirichlet(np.ones(n_classes), size=n).round(2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60))
def test_auc_with_ties_equals_scikit_learn_and_is_the_mean_of_its_rows(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y, score = rng.integers(2, size=n), rng.integers(5, size=n) / 4
    p = np.column_stack([1 - score, score])
    if len(np.unique(y)) < 2:
        assert auc(y, p) is None
        assert auc_by_row(y, p) is None
        assert average_precision(y, p) is None
    else:
        assert auc(y, p) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
        rarer = int(np.bincount(y).argmin())
        assert average_precision(y, p) == pytest.approx(average_precision_score(y == rarer, p[:, rarer]))


def test_rows_of_the_auc_tell_how_a_row_that_counts_twice_moves_it() -> None:
    rng = np.random.default_rng(4)
    y, score = rng.integers(2, size=500), rng.normal(size=500)
    p = np.column_stack([1 - score, score])
    rows, weights = auc_by_row(y, p), rng.multinomial(500, np.full(500, 1 / 500))
    exact = roc_auc_score(y, score, sample_weight=weights)
    assert rows @ weights / 500 == pytest.approx(exact, abs=0.004)
    assert abs(exact - auc(y, p)) > 0.005  # the resample itself moved it


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 80), n_classes=st.integers(2, 4))
def test_metrics_lie_in_their_ranges_and_agree_with_each_other(seed: int, n: int, n_classes: int) -> None:
    y, p = random_rows(seed, n, n_classes)
    predicted = p.argmax(axis=1)
    matrix = confusion(y, predicted, n_classes)
    assert matrix.sum() == n
    assert np.mean(predicted == y) == pytest.approx(np.trace(matrix) / n)
    assert (matrix.sum(axis=1) == np.bincount(y, minlength=n_classes)).all()
    assert 0 <= brier(y, p) <= 2
    assert -1 <= mcc(y, predicted) <= 1
    assert sum(b.count for b in reliability(y, p)) == n
    assert 0 <= ece(y, p) <= 1


def test_log_loss_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    y, p = rng.integers(3, size=50), rng.dirichlet(np.ones(3), size=50)
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, p, labels=[0, 1, 2]), abs=1e-12)


def test_confusion_counts_true_classes_by_row() -> None:
    assert confusion(np.array([0, 0, 2]), np.array([1, 0, 2]), 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_metrics_without_rows_are_undefined() -> None:
    y, p = np.empty(0, dtype=int), np.empty((0, 2))
    assert [metric(y, p) for metric in (log_loss, brier, auc, ece)] == [None] * 4
    assert [metric(y, y) for metric in (balanced_accuracy, mcc)] == [None] * 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.2, 5))
def test_no_other_temperature_has_a_lower_log_loss(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    y, logits = rng.integers(3, size=40), rng.normal(size=(40, 3)) * rng.uniform(0.1, 10)
    fitted = fit_temperature(logits, y)
    other = float(np.clip(fitted * factor, 0.05, 20))
    assert 0.05 <= fitted <= 20
    assert log_loss(y, softmax(logits / fitted, axis=1)) <= log_loss(y, softmax(logits / other, axis=1)) + 1e-9


def test_temperature_survives_logits_that_overflow_a_softmax() -> None:
    logits, y = np.array([[3e4, 0.0], [0.0, 3e4], [0.0, 3e4]]), np.array([0, 1, 0])
    assert fit_temperature(logits.astype(np.float32), y) == 20.0


def test_temperature_is_one_where_none_changes_anything() -> None:
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == 1.0


@pytest.mark.parametrize("logits", [np.empty((0, 2)), np.array([[math.nan, 0.0]]), np.array([[math.inf, 0.0]])])
def test_temperature_refuses_what_has_none(logits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(logits, np.zeros(len(logits), dtype=int))


def test_naive_rules_fall_back_to_the_majority_class_where_they_know_nothing() -> None:
    y = np.array([1, 1, 1, 0])
    rules = {"persistence": np.array([-1, 1, 0, 0])}
    assert naive_predictions(y, 0, rules)["persistence"].tolist() == [0, 1, 0, 0]
    assert naive_accuracies(y, 0, rules) == {"best_constant": 0.75, "majority": 0.25, "persistence": 0.5}


def test_best_naive_rule_is_the_most_accurate_and_the_first_on_a_tie() -> None:
    y = np.array([1, 1, 1, 0])
    name, said = best_naive(y, 1, {"persistence": y})
    assert (name, said.tolist()) == ("persistence", y.tolist())
    assert best_naive(y, 1, {"persistence": np.array([1, 1, 1, 1])})[0] == "best_constant"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 50), said=st.integers(0, 2))
def test_no_constant_beats_the_best_constant(seed: int, n: int, said: int) -> None:
    y = np.random.default_rng(seed).integers(3, size=n)
    naive = naive_accuracies(y, said, {})
    assert naive["best_constant"] >= naive["majority"] == np.mean(y == said)


def test_calibration_recovers_temperature_and_bias():
    generator = np.random.default_rng(3)
    true = generator.standard_normal((200_000, 3)) * 1.5
    bias = np.array([0.4, -0.1, -0.3])
    y = (true + bias + generator.gumbel(size=true.shape)).argmax(axis=1)
    found = fit_calibration(true * 2.5, y)
    assert found.temperature == pytest.approx(2.5, rel=0.02)
    assert found.bias == pytest.approx(bias, abs=0.02)
    assert log_loss(y, found.probabilities(true * 2.5)) < log_loss(y, softmax(true, axis=1))


def test_calibration_of_a_model_that_knows_nothing_gives_the_shares_of_the_classes():
    generator = np.random.default_rng(4)
    y = (generator.random(5000) < 0.7).astype(int)
    probabilities = fit_calibration(generator.standard_normal((5000, 2)), y).probabilities(
        generator.standard_normal((100, 2))
    )
    assert probabilities[:, 1] == pytest.approx(np.full(100, y.mean()), abs=0.1)
    assert (probabilities.argmax(axis=1) == 1).all()
