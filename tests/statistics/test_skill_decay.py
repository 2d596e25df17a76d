"""Decay of skill: the fitted line and its interval, the advice only where decay is shown, and short samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.errors import InputError
from scripts.random_keys import numpy_generator
from scripts.statistics.skill_decay import decay_report

FIRST_AGE = 6  # an embargo lies between training and the first tested date


def rows(seed, start, slope, n_dates=300, n_tickers=10, shared=0.0):
    """Hits of a model whose skill is start + slope * dates / 100, of a coin, ages and dates; shared: sd of a date."""
    generator = numpy_generator(seed, "decaying skill")
    date = np.repeat(np.arange(n_dates), n_tickers)
    luck = np.repeat(shared * generator.standard_normal(n_dates), n_tickers)
    hits = generator.random(len(date)) < 0.5 + start + slope * date / 100 + luck
    naive = generator.random(len(date)) < 0.5
    return hits, naive, date + FIRST_AGE, date


def report(*data, horizon=1, **options):
    return decay_report(*data, horizon, **options)


def test_the_slope_is_the_least_squares_line_through_the_rows():
    generator = numpy_generator(0, "ragged")
    date = np.sort(generator.integers(0, 80, 900))  # dates with more rows count more
    hits, naive = generator.random(900) < 0.7 - 0.003 * date, generator.random(900) < 0.5
    found = report(hits, naive, 2 * date + 3, date)
    difference = hits.astype(float) - naive
    slope, level = np.polyfit(2 * date + 3 - (2 * date.min() + 3), difference, 1)
    assert found.slope.estimate == pytest.approx(100 * slope)
    assert found.skill_at_start == pytest.approx(level)


def test_the_standard_error_is_that_of_least_squares_where_rows_are_independent():
    hits, naive, age, date = rows(0, 0.1, 0.0, n_dates=600)
    difference, x = hits.astype(float) - naive, (age - age.mean()) / 100
    residual = difference - np.polyval(np.polyfit(x, difference, 1), x)
    assert report(hits, naive, age, date).slope.se == pytest.approx(
        residual.std() / (x.std() * len(x) ** 0.5), rel=0.15
    )


@pytest.mark.parametrize(("start", "slope", "shared"), [(0.1, -0.03, 0.0), (0.05, 0.0, 0.0), (0.05, 0.0, 0.1)])
def test_the_interval_of_the_slope_covers_the_truth(start, slope, shared):
    found = [report(*rows(seed, start, slope, shared=shared), n_bins=1).slope for seed in range(100)]
    covered = sum(interval.low <= slope <= interval.high for interval in found)
    assert 89 <= covered <= 99


def test_constant_skill_is_hardly_ever_called_decay():
    found = [report(*rows(seed, 0.05, 0.0, n_dates=200, shared=0.1), n_bins=1) for seed in range(100)]
    assert sum(one.retrain_after is not None for one in found) <= 7  # 2.5 are expected
    assert sum(one.advice == "no significant decay over 200 dates" for one in found) >= 93


def test_strong_decay_is_found_and_half_of_the_skill_is_gone_when_said():
    for seed in range(5):
        found = report(*rows(seed, 0.2, -0.05, n_dates=400))
        # 0.2 at the start, half of it lost 200 dates later.
        assert found.slope.high < 0
        assert found.retrain_after == pytest.approx(FIRST_AGE + 200, abs=50)
        left = found.skill_at_start + found.slope.estimate * (found.retrain_after - FIRST_AGE) / 100
        assert left == pytest.approx(found.skill_at_start / 2, abs=0.001)
        assert f"retrain after {found.retrain_after} dates" in found.advice
        skills = [part.skill.estimate for part in found.bins]
        assert skills[0] > skills[2] > skills[4]


def test_advice_beyond_the_dates_seen_says_so():
    found = report(*rows(0, 0.4, -0.05, n_dates=300, n_tickers=40))
    assert found.retrain_after > 305
    assert "beyond the 305 seen" in found.advice


def test_falling_skill_that_was_never_there_gives_no_rhythm():
    found = report(*rows(0, -0.02, -0.12, n_dates=300))
    assert found.slope.high < 0
    assert found.retrain_after is None
    assert "initial skill is not positive" in found.advice


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(4, 70), st.integers(1, 8))
def test_bins_hold_equal_numbers_of_dates_and_every_row_once(seed, n_dates, n_bins):
    hits, naive, age, date = rows(seed, 0.1, 0.0, n_dates=n_dates, n_tickers=3)
    keep = np.r_[0, np.flatnonzero(numpy_generator(seed, "keep").random(len(date)) < 0.7), len(date) - 1]
    hits, naive, age, date = (values[np.unique(keep)] for values in (hits, naive, age, date))
    found = report(hits, naive, age, date, n_bins=n_bins)
    sizes = [part.skill.n_dates for part in found.bins]
    assert sum(sizes) == found.n_dates == len(np.unique(date))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2 or found.n_dates < 2
    assert sum(part.n_rows for part in found.bins) == len(hits)
    assert all(a.last_age < b.first_age for a, b in zip(found.bins, found.bins[1:], strict=False))
    total = sum(part.skill.estimate * part.n_rows for part in found.bins)
    assert total == pytest.approx(hits.sum() - naive.sum())


def test_models_trained_in_turn_are_judged_by_age_and_not_by_date():
    # Three models, each tested over 100 dates: skill falls with age though not over the whole period.
    hits, naive, age, date = rows(0, 0.3, -0.3, n_dates=100, n_tickers=60)
    model = np.arange(len(date)) % 3
    found = report(hits, naive, age, date + 100 * model)
    assert found.n_dates == 300
    assert found.slope.estimate == pytest.approx(-0.3, abs=0.06)
    assert found.retrain_after == pytest.approx(FIRST_AGE + 50, abs=12)
    assert (found.bins[0].first_age, found.bins[-1].last_age) == (FIRST_AGE, FIRST_AGE + 99)


@pytest.mark.parametrize("n_dates", [1, 2, 3, 5])
def test_short_samples_show_no_decay_even_on_a_perfect_line(n_dates):
    date = np.repeat(np.arange(n_dates), 10)
    hits = np.tile(np.arange(10), n_dates) < 9 - date  # one hit less on every date
    found = report(hits, np.zeros(len(date)), date + 1, date)
    assert found.retrain_after is None
    assert found.advice == f"no significant decay over {n_dates} dates"
    assert len(found.bins) == n_dates // 2
    assert (found.slope is None) == (n_dates < 3)


def test_rows_of_one_date_with_several_ages_are_refused():
    with pytest.raises(InputError, match="several ages"):
        report(np.ones(4), np.zeros(4), np.array([1, 2, 3, 3]), np.array([0, 0, 1, 1]))
