"""Intervals cover their truth, keep dates whole, and take blocks as long as the dependence."""

import math

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import t as student

from scripts.errors import InputError
from scripts.statistics.bootstrap import (
    optimal_block_lengths,
    ratio_block_length,
)
from scripts.statistics.intervals import (
    accuracy_interval,
    difference_interval,
    mean_intervals,
    minimum_detectable_skill,
)
from scripts.statistics.metrics import auc_by_row
from tests.statistics.test_statistics import BOOTSTRAP_ERROR, delong


def ragged_panel(seed: int, n_dates: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Dates of the rows in random order, and a 0 or 1 for each."""
    rng = np.random.default_rng(seed)
    date = np.repeat(np.arange(n_dates) * 3, rng.integers(1, 6, size=n_dates))
    rng.shuffle(date)
    return date, rng.integers(2, size=len(date))


def autoregression(seed: int, phi: float, n: int) -> np.ndarray:
    noise, x = np.random.default_rng(seed).normal(size=n), np.zeros(n)
    for i in range(1, n):
        x[i] = phi * x[i - 1] + noise[i]
    return x


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.6, 0.9])
def test_block_lengths_equal_the_library_on_a_long_series(phi: float) -> None:
    x = autoregression(7, phi, 800)
    found, library = optimal_block_lengths(x), optimal_block_length(x)
    assert found.stationary == pytest.approx(library["stationary"].iloc[0], rel=1e-6)
    assert found.circular == pytest.approx(library["circular"].iloc[0], rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), phi=st.sampled_from([-0.5, 0.0, 0.9]), n=st.integers(3, 120))
def test_block_length_is_bounded_and_has_no_unit(seed: int, phi: float, n: int) -> None:
    x = autoregression(seed, phi, n)
    found = optimal_block_lengths(x)
    assert 0 <= found.stationary <= found.circular <= math.ceil(min(3 * math.sqrt(n), n / 3))
    assert optimal_block_lengths(8 * x).circular == pytest.approx(found.circular)


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 2.0], [0.3] * 50])
def test_block_length_of_a_series_that_says_nothing_is_one(x: list[float]) -> None:
    assert optimal_block_lengths(np.array(x)).circular == 1.0


def test_block_length_is_never_below_the_label_horizon_and_leaves_two_blocks() -> None:
    hits = np.random.default_rng(1).integers(2, size=100).astype(float)
    ones = np.ones(100)
    assert ratio_block_length(hits, ones) < 12 <= ratio_block_length(hits, ones, 12)
    assert ratio_block_length(hits, ones, 1000) == 50


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_interval_holds_its_estimate_and_ignores_the_order_of_rows(seed: int) -> None:
    date, hits = ragged_panel(seed)
    order = np.random.default_rng(seed + 1).permutation(len(date))
    first = accuracy_interval(hits, date, 2)
    second = accuracy_interval(hits[order], date[order], 2)
    assert vars(first) == pytest.approx(vars(second), rel=1e-9)
    assert first.estimate == pytest.approx(hits.mean())
    assert first.low <= first.estimate <= first.high
    assert first.n_dates == 40
    assert first.block_length >= 2


def test_rows_of_one_date_count_as_one_where_they_are_copies() -> None:
    hits = np.random.default_rng(5).integers(2, size=300)
    alone = accuracy_interval(hits, np.arange(300), 1)
    copied = accuracy_interval(np.repeat(hits, 20), np.repeat(np.arange(300), 20), 1)
    assert copied.se == pytest.approx(alone.se, rel=BOOTSTRAP_ERROR)
    assert copied.n_effective == pytest.approx(alone.n_effective, rel=0.1)


def test_paired_difference_of_equal_predictions_is_nil() -> None:
    date, hits = ragged_panel(8)
    same = difference_interval(hits, hits, date, 1)
    assert (same.estimate, same.se, same.low, same.high) == (0.0, 0.0, 0.0, 0.0)


def test_quantities_of_the_same_rows_keep_their_own_dependence() -> None:
    date, hits = ragged_panel(9, 60)
    slow = np.sin(date / 6)
    both = mean_intervals({"a": hits, "b": 1 - hits, "slow": slow}, date, 1)
    alone = accuracy_interval(hits, date, 1)
    assert both["a"].estimate + both["b"].estimate == pytest.approx(1.0)
    assert both["a"].se == pytest.approx(both["b"].se)
    assert both["a"] == alone
    assert both["slow"].block_length > both["a"].block_length == alone.block_length


def test_auc_interval_of_independent_rows_agrees_with_delong() -> None:
    rng = np.random.default_rng(10)
    y = rng.integers(2, size=400)
    score = y + rng.normal(size=400)
    interval = accuracy_interval(auc_by_row(y, np.column_stack([-score, score])), None, 1)
    auc, covariance = delong(y, score, score)
    assert interval.estimate == pytest.approx(auc[0])
    assert interval.se == pytest.approx(math.sqrt(covariance[0, 0]), rel=0.1)


def test_intervals_cover_the_truth_on_a_panel_with_overlapping_labels() -> None:
    rng = np.random.default_rng(12)
    covered, naive, n, horizon = 0, 0, 150, 5
    for _ in range(120):
        noise = np.convolve(rng.normal(size=n + horizon), np.ones(horizon) / math.sqrt(horizon), "valid")[:n]
        hits = (noise[:, None] + rng.normal(size=(n, 6)) > 0).ravel()
        date = np.repeat(np.arange(n), 6)
        found = accuracy_interval(hits, date, horizon)
        covered += found.low <= 0.5 <= found.high
        rows = accuracy_interval(hits, None, 1)
        naive += rows.low <= 0.5 <= rows.high
    assert covered >= 0.85 * 120
    assert naive < 0.7 * 120


@pytest.mark.parametrize("date", [np.zeros(5, dtype=int), None])
def test_a_single_date_has_no_uncertainty_to_state(date: np.ndarray | None) -> None:
    hits = np.ones(1 if date is None else 5)
    with pytest.raises(InputError, match="at least two dates"):
        accuracy_interval(hits, date, 1)


@pytest.mark.parametrize("freedom", [2, 9, 200])
def test_minimum_detectable_skill_is_found_with_its_power_by_the_law_of_the_interval(freedom: int) -> None:
    rng, se = np.random.default_rng(3), 0.01
    estimates = rng.normal(minimum_detectable_skill(se, freedom), se, size=20_000)
    errors = se * np.sqrt(rng.chisquare(freedom, 20_000) / freedom)
    found = np.mean(estimates > student.ppf(0.975, freedom) * errors)
    assert found == pytest.approx(0.8, abs=0.012)


def persistent_hits(phi: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """1 where a stationary AR(1) process is above its mean: hits of a model that is right in half of the cases."""
    noise = rng.normal(size=n + 200) * math.sqrt(1 - phi**2)
    noise[0] = rng.normal()
    return (lfilter([1.0], [1.0, -phi], noise)[200:] > 0).astype(float)


@pytest.mark.parametrize(("n", "phi"), [(100, 0.0), (100, 0.8), (100, 0.9), (300, 0.9)])
def test_intervals_of_persistent_hits_cover_at_their_nominal_rate(n: int, phi: float) -> None:
    rng = np.random.default_rng(7)
    bounds = [accuracy_interval(persistent_hits(phi, n, rng), np.arange(n), 1).share_bounds for _ in range(400)]
    covered = np.mean([low <= 0.5 <= high for low, high in bounds])
    assert 0.90 <= covered <= 0.98  # the nominal .95 less 2.5 points, and two standard errors


def test_the_interval_of_independent_dates_is_hardly_wider_than_that_of_independent_rows() -> None:
    rng = np.random.default_rng(8)
    widths = []
    for _ in range(100):
        hits = rng.integers(2, size=300)
        aware, rows = accuracy_interval(hits, np.arange(300), 1), accuracy_interval(hits, None, 1)
        widths.append((aware.high - aware.low) / (rows.high - rows.low))
    assert np.mean(widths) < 1.12


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_a_higher_confidence_never_narrows_an_interval(horizon: int) -> None:
    date, hits = ragged_panel(4, 60)
    plain = accuracy_interval(hits, date, horizon)
    assert plain.at(0.95) == plain
    for looks in (2, 3, 20):
        corrected = plain.at(1 - 0.05 / looks)
        assert corrected.low < plain.low < plain.high < corrected.high
        assert corrected.share_bounds[0] < plain.share_bounds[0] < plain.share_bounds[1] < corrected.share_bounds[1]


@pytest.mark.parametrize("date", [None, np.arange(40)])
def test_a_perfect_or_failed_score_has_an_interval_with_a_width(date: np.ndarray | None) -> None:
    quantile = student.ppf(0.975, 39) if date is None else student.ppf(0.975, 9)
    perfect = accuracy_interval(np.ones(40), date, 1)
    assert perfect.share_bounds == pytest.approx([40 / (40 + quantile**2), 1.0])  # Wilson's bound of 40 of 40
    failed = accuracy_interval(np.zeros(40), date, 1)
    assert failed.share_bounds == pytest.approx([0.0, quantile**2 / (40 + quantile**2)])


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_skill_that_is_equal_on_every_date_has_a_standard_error(value: float) -> None:
    for n_dates in (2, 3, 5, 30):
        date = np.repeat(np.arange(n_dates), 4)
        skill = accuracy_interval(np.full(len(date), value), date, 1)
        assert skill.se > 0
        assert skill.p_value is not None
        assert skill.low < value < skill.high
        assert (skill.low < 0 < skill.high) == (n_dates < 3)
    # Two tickers with opposite labels: the skill of a date is one half, whatever happens.
    skill = accuracy_interval(np.tile([value, 0.0], 2), np.repeat(np.arange(2), 2), 1)
    assert skill.p_value is not None
    assert skill.low < 0 < skill.high
