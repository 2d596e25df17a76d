"""The best of many is corrected to between the mean and the best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.statistics.sharpe import (
    effective_trials,
    expected_max_sharpe,
    mean_correlation,
)
from scripts.statistics.winners_curse import (
    corrected_winner,
)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), error=st.floats(0, 0.1))
def test_corrected_winner_lies_between_the_mean_and_the_best(seed: int, n: int, error: float) -> None:
    scores = np.random.default_rng(seed).normal(0.52, 0.02, size=n)
    assert scores.mean() - 1e-12 <= corrected_winner(scores, error) <= scores.max() + 1e-12
    assert corrected_winner(scores, 0.0) == pytest.approx(scores.max())


def test_expected_maximum_grows_with_the_number_of_trials_and_starts_at_nil() -> None:
    values = [expected_max_sharpe(n, 1.0) for n in (0.5, 1, 1.05, 1.5, 2, 5.4, 60)]
    assert values[:2] == [0.0, 0.0]
    assert values == sorted(values)


def test_correlation_of_trials_leaves_out_what_never_varies() -> None:
    x = np.random.default_rng(2).normal(size=50)
    assert mean_correlation(np.column_stack([x, 2 * x, np.zeros(50)])) == pytest.approx(1.0)
    assert mean_correlation(np.column_stack([x, np.zeros(50)])) is None
    assert effective_trials(10, 1.0) == 1.0
