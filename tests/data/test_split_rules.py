"""Splits equal skfolio's where conventions agree, and keep training and test apart on any panel, also within days."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skfolio import model_selection as skfolio

from scripts.data.dataset import Dataset
from scripts.data.splits import CombinatorialPurged, PurgedKFold, Spans, WalkForward
from scripts.errors import InputError

# skfolio purges by numbers of rows of a single series; it knows neither dates nor tickers nor what a row's features and
# label span, so that it can purge no ragged panel: hence splitters of our own. On one series without missing dates a
# label of `horizon` bars and an embargo take away `horizon + embargo` rows on either side of a block (`purged_size`).
# Its own `embargo_size` stands after a block only and is added to the purge; ours stands on both sides, so there it can
# only stand for a feature window, which reaches beyond the embargo after a block. Its folds are equal but for a longer
# last one, ours but for longer first ones: numbers of rows are taken that divide evenly.


def series(n, horizon, window=1):
    date = np.arange(n)
    return Spans(date, date - window + 1, date + horizon)


def assert_same_splits(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs) > 0
    for (train, test), (other_train, other_test) in zip(ours, theirs, strict=True):
        assert train.tolist() == other_train.tolist()
        assert test.tolist() == np.concatenate([np.ravel(part) for part in other_test]).tolist()


@settings(max_examples=40)
@given(
    n_blocks=st.integers(3, 6),
    n_tested=st.integers(2, 4),
    size=st.integers(30, 40),
    horizon=st.integers(1, 5),
    embargo=st.integers(0, 5),
    window=st.integers(1, 12),
)
def test_combinatorial_splits_of_a_series_equal_those_of_skfolio(n_blocks, n_tested, size, horizon, embargo, window):
    n_tested = min(n_tested, n_blocks - 1)
    purged, reach = horizon + embargo, max(0, window - 1 - embargo)
    theirs = skfolio.CombinatorialPurgedCV(n_blocks, n_tested, purged_size=purged, embargo_size=reach)
    spans = series(n_blocks * size, horizon, window)
    ours = CombinatorialPurged(n_blocks, n_tested, embargo).split(spans)
    assert_same_splits(ours, theirs.split(np.zeros((n_blocks * size, 1))))


@settings(max_examples=20)
@given(n_blocks=st.integers(3, 6), horizon=st.integers(1, 4), embargo=st.integers(0, 4), window=st.integers(1, 8))
def test_purged_folds_are_what_skfolio_trains_on_beside_the_same_block(n_blocks, horizon, embargo, window):
    # skfolio tests at least two blocks. What may train beside one block is the union over the splits that test it
    # together with another; with two others alone, rows between the two are purged for the other's sake in each.
    size = 2 * (horizon + embargo + window) + 4
    spans, n = series(n_blocks * size, horizon, window), n_blocks * size
    reach = max(0, window - 1 - embargo)
    theirs = skfolio.CombinatorialPurgedCV(n_blocks, 2, purged_size=horizon + embargo, embargo_size=reach)
    pairs = [(train, np.concatenate(tests)) for train, tests in theirs.split(np.zeros((n, 1)))]
    for train, test in PurgedKFold(n_blocks, embargo).split(spans):
        beside = [other for other, tested in pairs if np.isin(test, tested).all()]
        assert len(beside) == n_blocks - 1
        found = np.unique(np.concatenate(beside))
        assert set(found) <= set(train)
        if n_blocks > 3:
            assert train.tolist() == found.tolist()


@pytest.mark.parametrize("rolling", [False, True])
@settings(max_examples=20)
@given(
    n_splits=st.integers(1, 5),
    test_dates=st.integers(1, 6),
    n_train=st.integers(1, 30),
    horizon=st.integers(1, 5),
    embargo=st.integers(0, 5),
)
def test_walk_forward_splits_of_a_series_equal_those_of_skfolio(
    rolling, n_splits, test_dates, n_train, horizon, embargo
):
    # skfolio counts blocks from the beginning, ours from the end: with as many rows as the blocks need they agree.
    n = n_train + horizon + embargo + n_splits * test_dates
    theirs = skfolio.WalkForward(
        test_size=test_dates, train_size=n_train, expand_train=not rolling, purged_size=horizon + embargo
    )
    ours = WalkForward(n_splits, test_dates, embargo, n_train if rolling else None).split(series(n, horizon))
    assert_same_splits(ours, theirs.split(np.zeros((n, 1))))


@st.composite
def panels(draw):
    """Usable rows of up to four tickers on unequal calendars, of one or of several bars a day.

    A ticker starts late, ends early, trades in its own hours and misses whole days and single bars.
    """
    window, horizon, slots = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 3, 7]))
    opening = np.datetime64("2024-01-01T09:30")
    times, tickers, places = [], [], []
    for ticker in range(draw(st.integers(1, 4))):
        days = sorted(draw(st.sets(st.integers(0, 120 // slots), min_size=50 // slots)))
        hours = sorted(draw(st.sets(st.integers(0, slots - 1), min_size=1)))
        own = [opening + np.timedelta64(24 * day + hour, "h") for day in days for hour in hours]
        missing = draw(st.sets(st.integers(0, len(own) - 1), max_size=len(own) // 4))
        own = [time for k, time in enumerate(own) if k not in missing]
        rows = range(window - 1, len(own) - horizon)
        times += own
        tickers += [ticker] * len(rows)
        places += [(own[k], own[k - window + 1], own[k + horizon]) for k in rows]
    assume(places)
    calendar = np.unique(np.array(times))
    date, start, end = (np.searchsorted(calendar, np.array(column)) for column in zip(*places, strict=True))
    return calendar, np.array(tickers), Spans(date, start, end), horizon


def dataset(calendar, ticker, spans, horizon, embargo):
    """A data set of these rows, one in five of which may not be used."""
    n = len(spans.date)
    return Dataset(
        x=np.zeros((n, 1), dtype=np.float32),
        feature_names=("f",),
        categorical=np.zeros(1, dtype=bool),
        vocabularies={},
        y=np.arange(n) % 2,
        classes=("0", "1"),
        date=spans.date,
        dates=calendar,
        ticker=ticker,
        tickers=tuple("ABCD"[: ticker.max() + 1]),
        feature_start=spans.feature_start,
        label_end=spans.label_end,
        forward_return=np.zeros(n),
        class_positions=None,
        naive={},
        rows=np.flatnonzero(np.arange(n) % 5 > 0),
        horizon=horizon,
        embargo=embargo,
        groups=False,
        ordered=True,
        fingerprint="",
        sealed_fingerprint="",
    )


def blocks_of_dates(data, test, kind, n_folds):
    """Test rows by the block they were cut into: only two tested together may lie apart."""
    if kind != "combinatorial":
        return [test]
    cut = np.array_split(np.unique(data.date[data.rows]), n_folds)
    parts = [test[np.isin(data.date[test], dates)] for dates in cut]
    return [part for part in parts if len(part)]


@pytest.mark.parametrize("kind", ["kfold", "walk_forward", "rolling", "combinatorial", "end"])
@settings(max_examples=15)
@given(panel=panels(), n_folds=st.integers(3, 5), embargo=st.integers(0, 6))
def test_nothing_that_a_training_row_reads_meets_what_a_tested_label_reads(kind, panel, n_folds, embargo):
    data = dataset(*panel, embargo)
    try:
        folds = [data.tail_split(0.3, 0)] if kind == "end" else data.folds(kind, n_folds, 0)
    except InputError as error:
        assert error.remedy
        return
    for train, test in folds:
        assert set(train) | set(test) <= set(data.rows)
        assert not set(data.date[train]) & set(data.date[test])
        first, own, last = (x[train][:, None] for x in (data.feature_start, data.date, data.label_end))
        for block in blocks_of_dates(data, test, kind, n_folds):
            assert ((last < data.date[block]) | (first > data.label_end[block])).all()
            earlier, begin, end = own < data.date[block].min(), data.date[block].min(), data.label_end[block].max()
            assert np.where(earlier, last + embargo < begin, own > end + embargo).all()
        if kind in ("walk_forward", "rolling", "end"):
            assert data.date[train].max() < data.date[test].min()
