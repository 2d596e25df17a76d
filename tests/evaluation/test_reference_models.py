"""Reference models choose among their settings by the folds alone, say how, and repeat themselves."""

from collections.abc import Iterator

import numpy as np
import pytest

from scripts.evaluation.reference_models import Fold, ReferenceModel, reference_models
from scripts.statistics.metrics import log_loss

Problem = tuple[np.ndarray, np.ndarray]


def problem(n: int, noise: float = 0.5, seed: int = 5, n_features: int = 4) -> Problem:
    """Two classes told by the first feature."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, n_features))
    return x, (x[:, 0] + noise * rng.normal(size=n) > 0).astype(int)


def folds_of(x: np.ndarray, y: np.ndarray, n_folds: int = 3) -> Iterator[Fold]:
    parts = np.array_split(np.arange(len(y)), n_folds)
    for test in parts:
        train = np.setdiff1d(np.arange(len(y)), test)
        yield Fold(x[train], y[train], x[test], y[test])


def tuned(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, **more: int) -> dict[str, ReferenceModel]:
    return reference_models(folds_of(x, y), x, y, x_test, 7, more.pop("n_classes", 2), **more)


def test_reference_models_learn_a_signal_and_repeat_themselves() -> None:
    x, y = problem(600)
    first, second = (tuned(x[:300], y[:300], x[300:]) for _ in range(2))
    assert set(first) == {"logistic_regression", "gradient_boosting"}
    for name, model in first.items():
        np.testing.assert_allclose(model.probabilities.sum(axis=1), 1.0)
        np.testing.assert_array_equal(model.probabilities, second[name].probabilities)
        assert model.record == second[name].record
        assert np.mean(model.probabilities.argmax(axis=1) == y[300:]) > 0.75


def test_the_record_says_what_was_tried_and_how_the_chosen_setting_did_on_each_fold() -> None:
    x, y = problem(300)
    found = tuned(x, y, x[:5])
    for model in found.values():
        record = model.record
        assert (record.n_settings, record.n_folds, record.fold_rows) == (4, 3, [200, 200, 200])
        assert not record.rows_left_out
        assert len(record.fold_log_losses) == 3
        assert all(0 < loss < np.log(2) for loss in record.fold_log_losses)
    assert set(found["logistic_regression"].record.setting) == {"C"}
    assert set(found["gradient_boosting"].record.setting) == {"learning_rate", "max_iter", "max_leaf_nodes"}


def test_noise_is_fitted_with_a_stronger_penalty_than_a_clear_signal() -> None:
    x, clear = problem(400, noise=0.05)
    noise = np.random.default_rng(8).integers(2, size=400)
    chosen = {name: tuned(x, y, x[:5]) for name, y in (("clear", clear), ("noise", noise))}
    penalties = {name: models["logistic_regression"].record.setting["C"] for name, models in chosen.items()}
    assert penalties["noise"] < penalties["clear"]
    leaves = {name: models["gradient_boosting"].record.setting["max_leaf_nodes"] for name, models in chosen.items()}
    assert leaves["noise"] == 3


def test_the_chosen_setting_has_the_least_mean_log_loss_and_is_fitted_on_all_rows() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = problem(300, noise=2.0)
    model = tuned(x, y, x)["logistic_regression"]
    means = {}
    for penalty in (0.001, 0.01, 0.1, 1.0):
        each = [LogisticRegression(C=penalty, max_iter=1000).fit(f.x_train, f.y_train) for f in folds_of(x, y)]
        losses = [
            log_loss(f.y_test, fitted.predict_proba(f.x_test)) for f, fitted in zip(folds_of(x, y), each, strict=True)
        ]
        means[penalty] = np.mean([loss for loss in losses if loss is not None])
    best = min(means, key=lambda penalty: means[penalty])
    assert model.record.setting == {"C": best}
    assert np.mean(model.record.fold_log_losses) == pytest.approx(means[best])
    again = LogisticRegression(C=best, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(model.probabilities, again.predict_proba(x), atol=1e-9)


def test_folds_beyond_the_budget_are_thinned_and_the_record_says_so() -> None:
    x, y = problem(300)
    for model in tuned(x, y, x[:5], max_cells=4 * 50).values():
        assert model.record.fold_rows == [50, 50, 50]
        assert model.record.rows_left_out


def test_a_class_without_training_rows_gets_no_probability() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(200, 2)), 2 * rng.integers(2, size=200)
    for model in tuned(x, y, x[:10], n_classes=4).values():
        assert model.probabilities.shape == (10, 4)
        assert (model.probabilities[:, [1, 3]] == 0).all()
        np.testing.assert_allclose(model.probabilities.sum(axis=1), 1.0)


def test_a_fold_whose_training_rows_are_all_of_one_class_is_no_obstacle() -> None:
    x, y = problem(200)
    alone = Fold(x[:50], np.ones(50, dtype=int), x[50:60], np.ones(10, dtype=int))
    for model in reference_models([alone], x, y, x[:5], 7, 2).values():
        assert model.record.fold_log_losses == pytest.approx((0.0,), abs=1e-9)
        assert np.isfinite(model.probabilities).all()


def test_with_very_many_classes_only_one_setting_of_the_trees_is_tried() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(63, 2)), np.arange(63) % 21
    found = reference_models([Fold(x, y, x, y)], x, y, x[:3], 7, 21)
    assert {name: model.record.n_settings for name, model in found.items()} == {
        "logistic_regression": 4,
        "gradient_boosting": 1,
    }
