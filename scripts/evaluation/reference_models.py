"""Two tuned reference models: logistic regression and boosted trees.

Each setting of logistic regression and of gradient-boosted trees is scored by its mean log loss over the folds of the
network's configurations; the best one is fitted again on all development rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from scripts.config.experiment import Experiment
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.random_keys import key
from scripts.statistics.metrics import log_losses
from scripts.storage.evaluation_record import Tuning

Setting = Mapping[str, float]

LOGISTIC_REGRESSION = "logistic_regression"
GRADIENT_BOOSTING = "gradient_boosting"
MAX_CELLS = 2_000_000  # rows x features x trees per iteration of a fit while choosing: a few seconds at most
_MAX_FOLDS = 5
_MAX_ROWS = 10**6  # to learn from, of a table that does not fit in memory
_MAX_TUNED_CLASSES = 20  # each iteration grows one tree per class

# From the simplest to the richest: the first is taken on a tie.
_PENALTIES: tuple[Setting, ...] = tuple({"C": c} for c in (0.001, 0.01, 0.1, 1.0))
# Few leaves and small steps: returns are nearly noise. The many small trees are for data with a strong signal.
_BOOSTINGS: tuple[Setting, ...] = (
    {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 3},
    {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 15},
    {"learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 7},
    {"learning_rate": 0.1, "max_iter": 300, "max_leaf_nodes": 3},
)


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to score, preprocessed by a transform fitted on the former.

    Attributes
    ----------
    x_train, x_test : ndarray of float, shape (n, n_features)
        Finite and scaled to about unit variance.
    y_train, y_test : ndarray of int, shape (n,)
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class ReferenceModel:
    """Class probabilities of a reference model, float64 of shape (n_test, n_classes), and how it was tuned."""

    probabilities: np.ndarray
    record: Tuning


def reference_models(
    folds: Iterable[Fold],
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    seed: int,
    n_classes: int,
    max_cells: int = MAX_CELLS,
) -> dict[str, ReferenceModel]:
    """Tune and fit logistic regression and gradient-boosted trees, on one thread.

    With more than 20 classes only one setting of the trees is tried, since they would take minutes.

    Parameters
    ----------
    folds : iterable of Fold
        At least one; read once, so that they may be made as they are needed.
    x_train, x_test : ndarray of float, shape (n, n_features)
        Finite and scaled to about unit variance; `x_train` must not contain rows of the test period.
    y_train : ndarray of int, shape (n_train,)
    seed : int
        In [0, 2^32).
    n_classes : int
        Columns of the probabilities.
    max_cells : int
        Largest rows x features x trees per iteration of a fit on a fold; a fold with more is thinned.

    Returns
    -------
    dict
        "logistic_regression" and "gradient_boosting" to the fitted model's result; a class without a training row has
        probability 0.
    """
    boostings = _BOOSTINGS if n_classes <= _MAX_TUNED_CLASSES else _BOOSTINGS[1:2]
    settings = {LOGISTIC_REGRESSION: _PENALTIES, GRADIENT_BOOSTING: boostings}
    losses: dict[str, list[list[float]]] = {name: [] for name in settings}
    full, used = [], []
    with threadpool_limits(limits=1):
        for fold in folds:
            thin = _thinned(fold, max_cells, n_classes)
            for name, tried in settings.items():
                losses[name].append([_fold_loss(name, setting, thin, seed, n_classes) for setting in tried])
            full.append(len(fold.y_train))
            used.append(len(thin.y_train))
        records = {name: _record(settings[name], np.array(losses[name]), used, full) for name in settings}
        return {
            name: ReferenceModel(_predict(name, record.setting, x_train, y_train, x_test, seed, n_classes), record)
            for name, record in records.items()
        }


def tuned_references(development: Dataset, dataset: Dataset, experiment: Experiment) -> dict[str, ReferenceModel]:
    """Logistic regression and boosted trees, tuned on the folds of phase 2 and fitted on the development rows."""
    preprocessor = Preprocessor.fit(development.x, development.categorical, development.rows)
    rows = in_memory(development, development.rows)
    return reference_models(
        _folds(development, experiment),
        preprocessor.transform(development.x[rows]),
        development.y[rows],
        preprocessor.transform(dataset.x[dataset.rows]),
        key(experiment.seed, "references") % 2**32,
        development.n_classes,
    )


def in_memory(development: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the rows, or evenly spaced ones of a table that does not fit in memory."""
    n = len(rows) if development.mapped is None else min(len(rows), _MAX_ROWS)
    return rows[np.arange(n) * len(rows) // n]


def _folds(development: Dataset, experiment: Experiment) -> Iterator[Fold]:
    """Return the folds of phase 2, or evenly chosen ones of many, each preprocessed by its training rows."""
    config = experiment.extended
    splits = development.folds(config.cv, config.cross_validation_folds, experiment.seed)
    for train, test in splits[:: math.ceil(len(splits) / _MAX_FOLDS)]:
        preprocessor = Preprocessor.fit(development.x, development.categorical, train)
        train, test = (in_memory(development, rows) for rows in (train, test))
        inputs = preprocessor.transform(development.x[train]), preprocessor.transform(development.x[test])
        yield Fold(inputs[0], development.y[train], inputs[1], development.y[test])


def untuned_models(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, seed: int, n_classes: int
) -> dict[str, np.ndarray]:
    """Class probabilities of both models with their middle setting, on one thread; arguments as `reference_models`."""
    settings = {LOGISTIC_REGRESSION: _PENALTIES[2], GRADIENT_BOOSTING: _BOOSTINGS[1]}
    with threadpool_limits(limits=1):
        return {
            name: _predict(name, setting, x_train, y_train, x_test, seed, n_classes)
            for name, setting in settings.items()
        }


def _record(tried: tuple[Setting, ...], losses: np.ndarray, used: list[int], full: list[int]) -> Tuning:
    """The setting with the least mean loss; `losses` has shape (n_folds, n_settings)."""
    best = int(losses.mean(axis=0).argmin())
    return Tuning(
        setting=dict(tried[best]),
        n_settings=len(tried),
        n_folds=len(losses),
        fold_log_losses=losses[:, best].tolist(),
        fold_rows=used,
        rows_left_out=used != full,
    )


def _thinned(fold: Fold, max_cells: int, n_classes: int) -> Fold:
    """The fold with evenly spaced training rows where there are too many: spread over all of the time."""
    n_trees = 1 if n_classes == 2 else n_classes
    n, max_rows = len(fold.y_train), max(1, max_cells // (fold.x_train.shape[1] * n_trees))
    if n <= max_rows:
        return fold
    rows = np.arange(max_rows) * n // max_rows
    return Fold(fold.x_train[rows], fold.y_train[rows], fold.x_test, fold.y_test)


def _fold_loss(name: str, setting: Setting, fold: Fold, seed: int, n_classes: int) -> float:
    probabilities = _predict(name, setting, fold.x_train, fold.y_train, fold.x_test, seed, n_classes)
    return float(log_losses(fold.y_test, probabilities).mean())


def _predict(
    name: str,
    setting: Setting,
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    seed: int,
    n_classes: int,
) -> np.ndarray:
    """Class probabilities of a model fitted with this setting."""
    probabilities = np.zeros((len(x_test), n_classes))
    if (y_train == y_train[0]).all():
        probabilities[:, y_train[0]] = 1.0  # a fold can have a single class, which neither model supports
        return probabilities
    model = _model(name, setting, len(y_train), seed).fit(x_train, y_train)
    probabilities[:, model.classes_] = model.predict_proba(x_test)
    return probabilities


def _model(name: str, setting: Setting, n_rows: int, seed: int) -> LogisticRegression | HistGradientBoostingClassifier:
    if name == LOGISTIC_REGRESSION:
        return LogisticRegression(max_iter=1000, **setting)
    # Large leaves, again for the noise. No early stopping: its validation rows would be drawn at random from among
    # their neighbours in time.
    return HistGradientBoostingClassifier(
        min_samples_leaf=max(5, min(200, n_rows // 50)),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
        **setting,
    )
