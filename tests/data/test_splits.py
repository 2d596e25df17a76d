"""Splits agree with the reference vectors and never leak, whatever the panel."""

from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.loading import load_development
from scripts.data.splits import (
    CombinatorialPurged,
    PurgedKFold,
    Spans,
    WalkForward,
    split_end,
)
from scripts.data.table_splits import table_folds, table_split_end
from scripts.errors import InputError
from tests.reference_cases import reference_cases

CASES = reference_cases("splits")


def vector(name: str) -> dict[str, Any]:
    return next(c for c in CASES if c["section"] == "splits" and c["name"] == name)


def panel(bars: dict[str, list[int]], window: int, horizon: int) -> tuple[np.ndarray, Spans]:
    """Tickers and spans of the usable rows: `window` own bars up to the row, `horizon` own bars after it."""
    rows = [
        (ticker, dates[k], dates[k - window + 1], dates[k + horizon])
        for ticker, dates in bars.items()
        for k in range(window - 1, len(dates) - horizon)
    ]
    tickers, *columns = zip(*rows, strict=True)
    return np.array(tickers), Spans(*(np.array(c, dtype=np.int64) for c in columns))


def reference_panel(case: dict[str, Any]) -> tuple[np.ndarray, Spans]:
    inputs = case["inputs"]
    return panel(inputs["bars"], inputs["feature_window"], inputs["label_horizon"])


def dates_by_ticker(tickers: np.ndarray, spans: Spans, rows: np.ndarray) -> dict[str, list[int]]:
    return {t: spans.date[rows][tickers[rows] == t].tolist() for t in np.unique(tickers[rows])}


@st.composite
def ragged_panels(draw: st.DrawFn) -> Spans:
    """Up to four tickers that start late, end early and miss dates."""
    window, horizon = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    bars = {}
    for k in range(draw(st.integers(1, 4))):
        first, length = draw(st.integers(0, 20)), draw(st.integers(window + horizon, 60))
        missing = draw(st.sets(st.integers(first, first + length), max_size=length // 4))
        bars[str(k)] = [d for d in range(first, first + length) if d not in missing]
    assume(any(len(dates) >= window + horizon for dates in bars.values()))
    return panel(bars, window, horizon)[1]


def assert_no_leak(spans: Spans, train: np.ndarray, test: np.ndarray, embargo: int) -> None:
    """Compare every training row with every test row of one block, by the definition of an overlap."""
    t, e, a = (x[train][:, None] for x in (spans.date, spans.label_end, spans.feature_start))
    first, last_read = spans.date[test].min(), spans.label_end[test].max()
    assert not np.intersect1d(spans.date[train], spans.date[test]).size
    labels_apart = (e < spans.date[test]) | (t > spans.label_end[test])
    assert labels_apart.all()
    before = t < first
    assert np.where(before, first - e > embargo, (t - last_read > embargo) & (a > last_read)).all()
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()


def test_purged_folds_equal_the_reference() -> None:
    case = vector("purged_kfold_design")
    tickers, spans = reference_panel(case)
    usable = vector("panel_rows")["expected"]["usable_dates"]
    assert dates_by_ticker(tickers, spans, np.arange(len(tickers))) == usable
    folds = list(PurgedKFold(case["inputs"]["k"], case["inputs"]["embargo_before"]).split(spans))
    assert len(folds) == len(case["expected"])
    for (train, test), expected in zip(folds, case["expected"], strict=True):
        assert np.unique(spans.date[test]).tolist() == expected["test_dates"]
        assert spans.label_end[test].max() == expected["last_label_date"]
        assert dates_by_ticker(tickers, spans, train) == expected["train"]
        assert (len(train), len(test)) == (expected["n_train"], expected["n_test"])


@pytest.mark.parametrize(("train_dates", "key"), [(None, "train_expanding"), (5, "train_rolling_5_dates")])
def test_walk_forward_equals_the_reference(train_dates: int | None, key: str) -> None:
    case = vector("walk_forward")
    tickers, spans = reference_panel(case)
    inputs = case["inputs"]
    splitter = WalkForward(inputs["n_blocks"], inputs["test_dates_per_block"], inputs["embargo"], train_dates)
    for (train, test), expected in zip(splitter.split(spans), case["expected"], strict=True):
        assert np.unique(spans.date[test]).tolist() == expected["test_dates"]
        assert dates_by_ticker(tickers, spans, train) == expected[key]


def test_combinatorial_splits_equal_the_reference_plus_the_embargo_before_a_block() -> None:
    case = vector("combinatorial_purged_cv")
    example = case["inputs"]["example"]
    date, horizon, size = np.arange(example["n"]), example["horizon"], example["n"] // example["groups"]
    spans = Spans(date, date, date + horizon)
    splits = CombinatorialPurged(example["groups"], example["test_groups"], example["embargo"]).split(spans)
    for (train, test), expected in zip(splits, case["expected"]["example_train"], strict=True):
        starts = [g * size for g in expected["test_groups"]]
        assert test.tolist() == [d for s in starts for d in range(s, s + size)]
        # The reference keeps its embargo of one date after a block only.
        assert train.tolist() == [d for d in expected["train"] if d + horizon + 1 not in starts]


def test_combinatorial_splits_are_as_many_as_the_reference_counts() -> None:
    case = vector("combinatorial_purged_cv")
    date = np.arange(200)
    for (n, k), (n_splits, n_paths) in zip(
        case["inputs"]["groups_and_test_groups"], case["expected"]["splits_and_paths"], strict=True
    ):
        tests = [test for _, test in CombinatorialPurged(n, k, 0).split(Spans(date, date, date))]
        assert len(tests) == n_splits == comb(n, k)
        assert np.bincount(np.concatenate(tests)).tolist() == [n_paths] * 200


@settings(max_examples=60, deadline=None)
@given(spans=ragged_panels(), n_splits=st.integers(2, 5), embargo=st.integers(0, 6))
def test_purged_folds_never_leak_and_test_each_row_once(spans: Spans, n_splits: int, embargo: int) -> None:
    try:
        folds = list(PurgedKFold(n_splits, embargo).split(spans))
    except InputError as error:
        assert "dates" in str(error) and error.remedy
        return
    for train, test in folds:
        assert_no_leak(spans, train, test, embargo)
        kept_by_rule = [
            r
            for r in np.setdiff1d(np.arange(len(spans.date)), test)
            if spans.label_end[r] + embargo < spans.date[test].min()
            or min(spans.date[r] - embargo, spans.feature_start[r]) > spans.label_end[test].max()
        ]
        assert train.tolist() == kept_by_rule
    assert np.sort(np.concatenate([test for _, test in folds])).tolist() == list(range(len(spans.date)))


@settings(max_examples=40, deadline=None)
@given(spans=ragged_panels(), n_blocks=st.integers(3, 5), embargo=st.integers(0, 4))
def test_combinatorial_splits_never_leak_around_any_block(spans: Spans, n_blocks: int, embargo: int) -> None:
    dates = np.unique(spans.date)
    assume(len(dates) >= n_blocks)
    blocks = np.array_split(dates, n_blocks)
    splitter = CombinatorialPurged(n_blocks, 2, embargo)
    try:
        splits = list(splitter.split(spans))
    except InputError as error:
        assert "no training rows" in str(error)
        return
    assert len(splits) == comb(n_blocks, 2)
    for train, test in splits:
        tested = [b for b in blocks if np.isin(b, spans.date[test]).any()]
        assert len(tested) == 2
        for block in tested:
            assert_no_leak(spans, train, test[np.isin(spans.date[test], block)], embargo)


@settings(max_examples=60, deadline=None)
@given(spans=ragged_panels(), fraction=st.floats(0.05, 0.85), embargo=st.integers(0, 6))
def test_the_end_is_cut_between_dates_as_near_the_fraction_as_they_allow(
    spans: Spans, fraction: float, embargo: int
) -> None:
    try:
        train, test = split_end(spans, fraction, embargo)
    except InputError as error:
        assert error.remedy
        return
    assert_no_leak(spans, train, test, embargo)
    first = spans.date[test].min()
    assert test.tolist() == np.flatnonzero(spans.date >= first).tolist()
    assert train.tolist() == np.flatnonzero(spans.label_end + embargo < first).tolist()
    shares = [(spans.date >= d).mean() for d in np.unique(spans.date)[1:]]
    assert abs(len(test) / len(spans.date) - fraction) == pytest.approx(min(abs(s - fraction) for s in shares))


@settings(max_examples=40, deadline=None)
@given(spans=ragged_panels(), test_dates=st.integers(1, 5), embargo=st.integers(0, 4))
def test_walk_forward_trains_on_the_past_alone(spans: Spans, test_dates: int, embargo: int) -> None:
    try:
        splits = list(WalkForward(3, test_dates, embargo).split(spans))
    except InputError as error:
        assert error.remedy
        return
    for train, test in splits:
        assert_no_leak(spans, train, test, embargo)
        assert spans.date[train].max() < spans.date[test].min()
        assert len(np.unique(spans.date[test])) == test_dates
    assert np.unique(spans.date)[-3 * test_dates :].tolist() == sorted(
        {d for _, test in splits for d in spans.date[test].tolist()}
    )


def test_more_folds_than_dates_are_refused_with_the_counts() -> None:
    date = np.repeat(np.arange(4), 3)
    with pytest.raises(InputError, match=r"4 dates .* 5 are needed; .*fewer folds"):
        list(PurgedKFold(5, 0).split(Spans(date, date, date)))


def test_a_split_without_training_rows_names_the_fold_and_the_remedy() -> None:
    date = np.arange(20)
    spans = Spans(date, np.maximum(date - 15, 0), date + 5)
    with pytest.raises(
        InputError, match=r"fold 1: .*10 test rows \(20 rows in all\): .* 15 dates, .* 5, the embargo 3; .*history"
    ):
        list(PurgedKFold(2, 3).split(spans))
    with pytest.raises(InputError, match="split at the end"):
        split_end(spans, 0.7, 3)


@pytest.mark.parametrize("n_test", [0, 4])
def test_testing_none_or_all_of_the_blocks_is_refused(n_test: int) -> None:
    with pytest.raises(InputError, match="blocks"):
        CombinatorialPurged(4, n_test, 0)


def table(n_groups: int | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1, 2], [200, 100, 50]))
    return y, None if n_groups is None else rng.integers(n_groups, size=len(y))


@pytest.mark.parametrize("n_groups", [None, 40])
@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_table_splits_are_stratified_keep_groups_whole_and_repeat(n_groups: int | None, seed: int) -> None:
    y, groups = table(n_groups)
    folds = list(table_folds(y, groups, 5, seed))
    assert np.sort(np.concatenate([test for _, test in folds])).tolist() == list(range(350))
    split = table_split_end(y, groups, 0.2, seed)
    for train, test in [*folds, split]:
        assert np.sort(np.concatenate([train, test])).tolist() == list(range(350))
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
        np.testing.assert_allclose(np.bincount(y[test]) / [200, 100, 50], 0.2, atol=0.01 if groups is None else 0.12)
        assert groups is None or not np.intersect1d(groups[train], groups[test]).size
    again = table_split_end(y, groups, 0.2, seed)
    assert all(np.array_equal(a, b) for a, b in zip(split, again, strict=True))
    assert not np.array_equal(split[1], table_split_end(y, groups, 0.2, 1)[1])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.85])
def test_a_table_split_meets_its_fraction(fraction: float) -> None:
    for n_groups, tolerance in ((None, 0.003), (60, 0.1)):
        y, groups = table(n_groups)
        test = table_split_end(y, groups, fraction, 3)[1]
        assert abs(len(test) / len(y) - fraction) <= tolerance


def test_a_class_with_fewer_rows_than_folds_is_refused_with_the_counts() -> None:
    y = np.array([0] * 20 + [1] * 3)
    with pytest.raises(InputError, match=r"4 rows for 4 folds \(class 1: 3, class 0: 20\); .*fewer folds"):
        list(table_folds(y, None, 4, 0))
    with pytest.raises(InputError, match=r"\(class rare: 3, class common: 20\)"):
        list(table_folds(y, None, 4, 0, ("common", "rare")))
    with pytest.raises(InputError, match="class 1: 1"):
        table_split_end(y[:21], None, 0.2, 0)


def test_too_few_rows_or_groups_for_both_sides_are_refused() -> None:
    y = np.array([0, 1] * 10)
    with pytest.raises(InputError, match="1 of 20 test rows"):
        table_split_end(y, None, 0.05, 0)
    with pytest.raises(InputError, match="1 group "):
        table_split_end(y, np.zeros(20), 0.2, 0)
    with pytest.raises(InputError, match=r"3 groups .* 4 parts"):
        list(table_folds(y, np.arange(20) % 3, 4, 0))


def test_a_class_that_lives_in_one_group_is_refused() -> None:
    y = np.repeat([0, 1, 0, 0], 5)
    groups = np.repeat([0, 1, 2, 3], 5)
    with pytest.raises(InputError, match="none of class 1"):
        list(table_folds(y, groups, 2, 0))


@pytest.mark.parametrize(
    ("kind", "n_splits"), [("kfold", 3), ("walk_forward", 3), ("rolling", 3), ("combinatorial", 6)]
)
def test_every_kind_of_folds_keeps_dates_labels_and_features_apart(kind, n_splits):
    config = DataConfig(synthetic=SyntheticConfig(n_tickers=3, n_days=700))
    dataset = load_development(config, 5, 0)
    folds = dataset.folds(kind, 4 if kind == "combinatorial" else n_splits, 0)
    assert len(folds) == n_splits
    for train, test in folds:
        assert not set(dataset.date[train]) & set(dataset.date[test])
        before = train[dataset.date[train] < dataset.date[test].min()]
        assert (dataset.label_end[before] + config.embargo < dataset.date[test].min()).all()
        if kind in ("walk_forward", "rolling"):
            assert len(before) == len(train)
