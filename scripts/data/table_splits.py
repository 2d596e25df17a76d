"""Stratified splits of a table without time: every class on both sides, rows of one group on the same side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

from scripts.data.splits import Split
from scripts.errors import InputError

GROUP_FOLDS = 20  # whole groups are dealt into at most so many parts, of which a test set takes its share


def table_split_end(
    y: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int, names: Sequence[str] = ()
) -> Split:
    """Stratified random training and test rows of a table without time; groups stay whole.

    Parameters
    ----------
    y : ndarray of int64, shape (n,)
        Class of each row.
    groups : ndarray of int64, shape (n,), or None
        Rows of one group all go to the same side; the test share is then met only approximately.
    fraction : float
        Share of the rows to test, above 0 and below 1.
    seed : int
        Not negative.
    names : sequence of str
        Of the classes, for messages; their numbers if there are none.

    Raises
    ------
    InputError
        If a class or the number of groups is too small for two sides.
    """
    counts = _class_counts(y, 2, "two sides", names)
    if groups is None:
        n_test = int(np.ceil(fraction * len(y)))
        if min(n_test, len(y) - n_test) < len(counts):
            raise InputError(
                f"{n_test} of {len(y)} test rows are too few for {len(counts)} classes on both sides",
                "split of a table",
                "change the fraction or give more rows",
            )
        splitter = StratifiedShuffleSplit(1, test_size=n_test, random_state=_random_state(seed))
        train, test = next(splitter.split(np.zeros(len(y)), y))
        return np.sort(train), np.sort(test)
    n_parts = min(GROUP_FOLDS, len(_group_counts(groups, 2)), int(counts.min()))
    n_test_parts = int(np.clip(round(fraction * n_parts), 1, n_parts - 1))
    parts = StratifiedGroupKFold(n_parts, shuffle=True, random_state=_random_state(seed)).split(y, y, groups)
    test = np.sort(np.concatenate([part for _, part in parts][:n_test_parts]))
    return _with_all_classes(y, np.setdiff1d(np.arange(len(y)), test), test, "split of a table")


def table_folds(
    y: np.ndarray, groups: np.ndarray | None, n_splits: int, seed: int, names: Sequence[str] = ()
) -> Iterator[Split]:
    """Yield stratified (training, test) rows of a table without time; each row is tested once, groups stay whole.

    Parameters
    ----------
    y : ndarray of int64, shape (n,)
        Class of each row.
    groups : ndarray of int64, shape (n,), or None
        Rows of one group are tested together.
    n_splits : int
        Number of folds, at least 2.
    seed : int
        Not negative.
    names : sequence of str
        Of the classes, for messages; their numbers if there are none.

    Raises
    ------
    InputError
        If a class has fewer rows than folds, or there are fewer groups than folds.
    """
    _class_counts(y, n_splits, f"{n_splits} folds", names)
    if groups is not None:
        _group_counts(groups, n_splits)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(n_splits, shuffle=True, random_state=_random_state(seed)).split(np.zeros(len(y)), y, groups)
    for k, (train, test) in enumerate(folds):
        yield _with_all_classes(y, train, test, f"fold {k + 1}")


def _class_counts(y: np.ndarray, needed: int, purpose: str, names: Sequence[str]) -> np.ndarray:
    classes, counts = np.unique(y, return_counts=True)
    if len(counts) == 0 or counts.min() < needed:
        rarest = np.argsort(counts, kind="stable")[:10]
        shown = [(names[classes[k]] if len(names) else classes[k], counts[k]) for k in rarest]
        listed = ", ".join(f"class {name}: {n}" for name, n in shown) or "no rows"
        listed += ", ..." if len(counts) > len(rarest) else ""
        raise InputError(
            f"each class needs {needed} rows for {purpose} ({listed})",
            "split of a table",
            "give more rows of the rare class, merge it with another, or set fewer folds",
        )
    return np.asarray(counts)


def _group_counts(groups: np.ndarray, needed: int) -> np.ndarray:
    counts = np.unique(groups, return_counts=True)[1]
    if len(counts) < needed:
        raise InputError(
            f"{len(counts)} group{'s' if len(counts) != 1 else ''} cannot be kept whole in {needed} parts",
            "split of a table",
            "give more groups, set fewer folds or leave data.group_column out",
        )
    return np.asarray(counts)


def _with_all_classes(y: np.ndarray, train: np.ndarray, test: np.ndarray, where: str) -> Split:
    lacking: Sequence[int] = np.setdiff1d(y, y[train]).tolist()
    if lacking:
        raise InputError(
            f"{len(train)} training rows have none of class {lacking[0]}: all its groups are tested together",
            where,
            "provide more groups with this class, or remove data.group_column",
        )
    return train, test


def _random_state(seed: int) -> np.random.RandomState:
    """Return a legacy generator for scikit-learn, from a seed of any size."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
