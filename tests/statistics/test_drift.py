"""Drift of features and rows on both sides are found where they are, and not where there are none."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from scripts.statistics.drift import FeatureReference, feature_drift, n_rows_in_both


def test_a_feature_that_moved_is_named_first_and_the_others_have_hardly_drifted():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(4000, 3)), rng.normal(size=(1000, 3))
    after[:, 1] += 1.0
    first, *others = feature_drift(before, after, ["a", "b", "c"], np.zeros(3, dtype=bool))
    assert first.feature == "b"
    assert first.psi > 0.25
    assert first.ks == pytest.approx(ks_2samp(before[:, 1], after[:, 1]).statistic)
    assert all(drift.psi < 0.05 for drift in others)


def test_index_of_a_category_equals_the_formula_by_hand():
    before, after = np.repeat([0.0, 1.0], [80, 20])[:, None], np.repeat([0.0, 1.0], [50, 50])[:, None]
    (found,) = feature_drift(before, after, ["sector"], np.array([True]))
    assert found.psi == pytest.approx((0.5 - 0.8) * np.log(0.5 / 0.8) + (0.5 - 0.2) * np.log(0.5 / 0.2), abs=1e-3)


def test_missing_cells_count_as_a_bin_of_their_own():
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(500, 1)), rng.normal(size=(500, 1))
    after[:250] = np.nan
    assert feature_drift(before, after, ["a"], np.array([False]))[0].psi > 1.0
    nothing = np.full((5, 1), np.nan)
    assert feature_drift(nothing, nothing, ["a"], np.array([False]))[0].psi == pytest.approx(0.0)


def test_equal_rows_are_counted_on_the_side_that_came_later():
    before = np.array([[1, 2], [3, np.nan], [0.0, 5]], dtype=np.float32)
    after = np.array([[3, np.nan], [-0.0, 5], [1, 3], [1, 2], [1, 2]], dtype=np.float32)
    assert n_rows_in_both(before, after) == 4


@pytest.mark.parametrize("value", [0.0, -6.9077554, 1e6])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_feature_that_was_constant_drifts_in_either_direction(value, side):
    before = np.full((1_000, 1), value, dtype=np.float32)
    after = before + np.float32(side * np.linspace(0.5, 2, 1_000)[:, None])
    reference = FeatureReference.of(before, [0])
    (found,) = reference.drifted(reference.counts(after), ["volume"], 0.25, 1_000)
    assert found.ks == 1.0 and found.psi > 5
    assert feature_drift(before, after, ["volume"], np.array([False]))[0].psi > 5
    assert reference.drifted(reference.counts(before[:500]), ["volume"], 0.25, 500) == []


def test_a_feature_that_was_mostly_one_value_drifts_to_larger_ones():
    before = np.r_[np.zeros(950), np.linspace(1, 2, 50)].astype(np.float32)[:, None]
    after = np.r_[np.zeros(500), np.linspace(1, 2, 500)].astype(np.float32)[:, None]
    reference = FeatureReference.of(before, [0])
    (found,) = reference.drifted(reference.counts(after), ["volume"], 0.25, 1_000)
    assert found.ks == pytest.approx(0.45)
