"""The probability of backtest overfitting: no skill, a dominant trial, ties and unequal blocks."""

from itertools import combinations

import numpy as np
import pytest

from scripts.statistics.backtest_overfitting import probability_of_backtest_overfitting
from scripts.statistics.sharpe import (
    sharpe_moments,
)


def test_pbo_is_one_half_without_skill_and_nil_for_a_dominant_trial() -> None:
    rng = np.random.default_rng(20)
    noise = np.mean(
        [probability_of_backtest_overfitting(rng.normal(size=(80, 10)), 8) for _ in range(60)],
    )
    assert noise == pytest.approx(0.5, abs=0.1)
    dominant = rng.normal(size=(80, 10)) + np.eye(10)[0] * 5
    assert probability_of_backtest_overfitting(dominant, 8) == 0.0


@pytest.mark.parametrize("n_blocks", [4, 6])
def test_pbo_with_unequal_blocks_equals_a_plain_loop(n_blocks: int) -> None:
    performance = np.random.default_rng(21).normal(size=(27, 5))
    blocks = np.array_split(np.arange(27), n_blocks)
    below = []
    for inside in combinations(range(n_blocks), n_blocks // 2):
        rows = np.isin(np.arange(27), np.concatenate([blocks[b] for b in inside]))
        scores = [part.mean(axis=0) for part in (performance[rows], performance[~rows])]
        rank = 1 + np.sum(scores[1] < scores[1][scores[0].argmax()])
        below.append({1: 1.0, 2: 1.0, 3: 0.5, 4: 0.0, 5: 0.0}[int(rank)])
    assert probability_of_backtest_overfitting(performance, n_blocks) == pytest.approx(np.mean(below))


def test_ties_count_as_halves_in_pbo() -> None:
    assert probability_of_backtest_overfitting(np.ones((16, 2)), 4) == 0.5
    # Inside the first block two trials tie, one of which is the worst outside; inside the second a good one wins.
    assert probability_of_backtest_overfitting(np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 1.0]]), 2) == 0.25
    # Counts are exact: an order of columns changes nothing.
    counts = np.random.default_rng(3).integers(0, 4, size=(64, 12)).astype(float)
    found = [probability_of_backtest_overfitting(part, 8) for part in (counts, counts[:, ::-1])]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_a_trial_that_never_varies_has_no_sharpe_ratio() -> None:
    assert sharpe_moments(np.full(40, 0.3)) is None


@pytest.mark.parametrize(("shape", "n_blocks"), [((10, 3), 3), ((10, 1), 2), ((3, 3), 4), ((10,), 2)])
def test_pbo_refuses_what_it_cannot_cut(shape: tuple[int, ...], n_blocks: int) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        probability_of_backtest_overfitting(np.zeros(shape), n_blocks)
