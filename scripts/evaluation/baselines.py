"""What a model is measured against: rules that need no model, and two standard models on the same rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

BEST_CONSTANT = "best_constant"
MAJORITY = "majority"
UNKNOWN = -1


def naive_predictions(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Class that each naive rule says, int of shape (n,), by name.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
        True classes, at least one row.
    majority_class : int
        Most frequent class of the development rows.
    rules : mapping of str to ndarray of int, shape (n,)
        Predicted class by name of the rule; -1 where the rule knows none, in whose place the majority class is taken.

    Returns
    -------
    dict
        "best_constant" (the constant class that is best on these very rows, which no constant prediction can beat),
        "majority" (always the majority class of the development rows), then the rules.
    """
    constants = {BEST_CONSTANT: int(np.bincount(y).argmax()), MAJORITY: majority_class}
    said = {name: np.full(len(y), constant) for name, constant in constants.items()}
    return said | {name: np.where(rule == UNKNOWN, majority_class, rule) for name, rule in rules.items()}


def naive_accuracies(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Accuracy in [0, 1] of each naive rule on the same rows, by name; arguments as `naive_predictions`."""
    return {name: float(np.mean(said == y)) for name, said in naive_predictions(y, majority_class, rules).items()}


def best_naive(y: np.ndarray, majority_class: int, rules: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Name of the most accurate naive rule, the first on a tie, and its hits, bool of shape (n,).

    Arguments as `naive_predictions`; the hits go into a paired comparison with the model's.
    """
    hits = {name: said == y for name, said in naive_predictions(y, majority_class, rules).items()}
    name = max(hits, key=lambda rule: hits[rule].mean())
    return name, hits[name]


def reference_models(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, seed: int, n_classes: int | None = None
) -> dict[str, np.ndarray]:
    """Class probabilities of logistic regression and gradient-boosted trees, each on one thread.

    Parameters
    ----------
    x_train, x_test : ndarray of float, shape (n, n_features)
        Finite and scaled to about unit variance; `x_train` may hold no row of the test period.
    y_train : ndarray of int, shape (n_train,)
        At least two classes.
    seed : int
        In [0, 2^32).
    n_classes : int, optional
        Columns of the result; by default the largest class of `y_train` and one more.

    Returns
    -------
    dict
        "logistic_regression" and "gradient_boosting" to float64 of shape (n_test, n_classes); a class without a
        training row has probability 0.
    """
    columns = int(y_train.max()) + 1 if n_classes is None else n_classes
    models = {
        "logistic_regression": LogisticRegression(C=0.1, max_iter=1000),
        # Small steps, few leaves and large leaves: returns are nearly noise. No early stopping: its validation rows
        # would be drawn at random from among their neighbours in time.
        "gradient_boosting": HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=100,
            max_leaf_nodes=15,
            min_samples_leaf=max(5, min(200, len(y_train) // 50)),
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        ),
    }
    probabilities = {}
    with threadpool_limits(limits=1):
        for name, model in models.items():
            model.fit(x_train, y_train)
            probabilities[name] = np.zeros((len(x_test), columns))
            probabilities[name][:, model.classes_] = model.predict_proba(x_test)
    return probabilities
