"""Tests that compare models where nothing differs, nothing varies, or a single model is left."""

import numpy as np

from scripts.statistics.model_tests import (
    corrected_resampled_ttest,
    diebold_mariano,
    mcnemar,
    model_confidence_set,
)


def test_equal_columns_and_constants_apart_do_not_break_the_model_confidence_set() -> None:
    losses = np.random.default_rng(0).normal(size=(200, 5))
    losses[:, 4] = losses[:, 0]
    losses[:, 2] += 1
    losses[:, 3] = losses[:, 0] + 0.5
    found = model_confidence_set(losses, 0.1, 1, np.random.default_rng(0))
    assert {0, 4} <= set(found.included)
    assert {2, 3}.isdisjoint(found.included)
    assert found.p_values[0] == found.p_values[4]


def test_model_confidence_set_keeps_a_single_model_and_repeats_itself() -> None:
    losses = np.random.default_rng(1).normal(size=(100, 4))
    assert model_confidence_set(losses[:, :1], 0.1, 1, np.random.default_rng(0)).included == (0,)
    one, other = (model_confidence_set(losses, 0.1, 1, np.random.default_rng(3)).p_values for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_mcnemar_without_discordant_rows_finds_no_difference() -> None:
    assert mcnemar(0, 0).p_exact == mcnemar(0, 0).p_mid == 1.0


def test_differences_that_never_vary_have_no_statistic() -> None:
    assert diebold_mariano(np.full(20, 0.1), 2).statistic is None
    assert corrected_resampled_ttest(np.full(5, 0.1), 0.25).t is None
