"""Statistics agree with the reference cases; intervals cover, whole dates are drawn, selection is paid for."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import t as student

from scripts.errors import InputError
from scripts.statistics.backtest_overfitting import probability_of_backtest_overfitting
from scripts.statistics.bootstrap import (
    date_bootstrap,
    optimal_block_lengths,
    ratio_block_length,
)
from scripts.statistics.intervals import (
    accuracy_interval,
    difference_interval,
    mean_intervals,
    minimum_detectable_skill,
)
from scripts.statistics.metrics import auc_by_row, placements
from scripts.statistics.model_tests import (
    corrected_resampled_ttest,
    corrected_standard_error,
    diebold_mariano,
    mcnemar,
    model_confidence_set,
)
from scripts.statistics.sharpe import (
    SharpeMoments,
    deflated_sharpe_ratio,
    effective_trials,
    expected_max_sharpe,
    mean_correlation,
    probabilistic_sharpe_ratio,
    sharpe_moments,
)
from scripts.statistics.winners_curse import (
    corrected_winner,
    cross_validation_selection_bias,
    shrunken_winner,
    winner_shrinkage,
)
from tests.reference_cases import reference_cases

CASES = reference_cases("sharpe", "pbo", "bootstrap", "resampled", "best_of_n", "comparisons")
RESAMPLES = 8000
# Four standard errors of a standard error from so many resamples.
BOOTSTRAP_ERROR = 4 / math.sqrt(2 * RESAMPLES)


# --- sharpe ---------------------------------------------------------------------------------------------------------


def psr_from_moments(inputs: dict[str, Any]) -> list[float | None]:
    return [
        probabilistic_sharpe_ratio(SharpeMoments(sharpe, n, g3, g4), benchmark)
        for sharpe, benchmark, n, g3, g4 in inputs["rows_sr_benchmark_n_skew_kurtosis"]
    ]


def dsr_published(inputs: dict[str, Any]) -> dict[str, Any]:
    year, variance = inputs["periods_per_year"], inputs["variance_of_annual_sharpe"] / inputs["periods_per_year"]
    sharpe, n = inputs["sharpe_annual"] / math.sqrt(year), inputs["n_observations"]
    moments = SharpeMoments(sharpe, n, inputs["skew"], inputs["kurtosis"])
    return {
        "sharpe_per_period": sharpe,
        "expected_max_sharpe": expected_max_sharpe(inputs["n_trials"], variance),
        "dsr": deflated_sharpe_ratio(moments, inputs["n_trials"], variance),
        "dsr_if_46_trials": deflated_sharpe_ratio(moments, 46, variance),
        "dsr_if_88_trials_normal_returns": deflated_sharpe_ratio(SharpeMoments(sharpe, n), 88, variance),
    }


def max_sharpe(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "approximation": [expected_max_sharpe(n, inputs["variance"]) for n in inputs["n_trials"]],
    }


def psr_from_returns(inputs: dict[str, Any]) -> dict[str, Any]:
    moments = sharpe_moments(np.array(inputs["returns"]))
    return {
        "sharpe_per_period": moments.sharpe,
        "skew": moments.skew,
        "kurtosis": moments.kurtosis,
        "psr_0": probabilistic_sharpe_ratio(moments),
        "psr_0.1": probabilistic_sharpe_ratio(moments, 0.1),
    }


def dsr_from_trials(inputs: dict[str, Any]) -> dict[str, Any]:
    returns = np.array(inputs["returns_by_row"])
    trials = [sharpe_moments(column) for column in returns.T]
    ratios = np.array([moments.sharpe for moments in trials])
    best, variance, n = int(ratios.argmax()), ratios.var(ddof=1), len(trials)
    correlation = mean_correlation(returns)
    effective = effective_trials(n, correlation)
    return {
        "sharpe_ratios": ratios.tolist(),
        "best": best,
        "variance_of_sharpe": variance,
        "expected_max_sharpe": expected_max_sharpe(n, variance),
        "dsr": deflated_sharpe_ratio(trials[best], n, variance),
        "mean_correlation": correlation,
        "effective_trials": effective,
        "dsr_effective_trials": deflated_sharpe_ratio(trials[best], effective, variance),
    }


# --- overfitting ----------------------------------------------------------------------------------------------------


def overfitting(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"pbo": probability_of_backtest_overfitting(np.array(inputs["performance_by_row"]), inputs["n_blocks"])}


# --- bootstrap ------------------------------------------------------------------------------------------------------


def bootstrap_se(sums: Any, block: float, counts: Any = None) -> float:
    sums = np.array(sums, dtype=float)
    counts = np.ones(len(sums)) if counts is None else np.array(counts)
    rng = np.random.default_rng(11)
    return float(date_bootstrap(sums, counts, RESAMPLES, block, rng=rng).std())


def se_of_mean(inputs: dict[str, Any]) -> dict[str, Any]:
    return {str(b): bootstrap_se(inputs["x"], b) for b in (1, 4, 5, 7)}


def se_enumerated(inputs: dict[str, Any]) -> dict[str, Any]:
    return {f"circular_{b}": bootstrap_se(inputs["x"], b) for b in (2, 4)}


def difference_by_date(inputs: dict[str, Any]) -> dict[str, Any]:
    date, a, b = (np.array(inputs[k]) for k in ("date", "correct_model", "correct_naive"))
    sums, counts = np.bincount(date, a - b), np.bincount(date)
    return {
        "difference": difference_interval(a, b, date, 1).estimate,
        "se_circular_2": bootstrap_se(sums, 2, counts),
        "se_circular_1": bootstrap_se(sums, 1, counts),
        # A bootstrap of rows has the variance with divisor n.
        "se_rows_wrong": difference_interval(a, b, None, 1).se * math.sqrt(1 - 1 / len(a)),
    }


def dates_against_rows(inputs: dict[str, Any]) -> dict[str, Any]:
    hits, block = np.array(inputs["correct_by_date"]), inputs["block"]
    sums, counts = hits.sum(axis=1), np.full(len(hits), hits.shape[1])
    rows = accuracy_interval(hits.ravel(), None, 1)
    return {
        "accuracy": rows.estimate,
        "se_dates_circular_5": bootstrap_se(sums, block, counts),
        "se_dates_independent": bootstrap_se(sums, 1, counts),
        "se_rows_wrong": rows.se,
    }


def block_lengths(inputs: dict[str, Any]) -> dict[str, Any]:
    found = {name: optimal_block_lengths(np.array(x, dtype=float)) for name, x in inputs.items()}
    return {
        name: {"stationary": b.stationary, "circular": b.circular, "bandwidth_m": b.bandwidth}
        for name, b in found.items()
    }


# --- comparisons ----------------------------------------------------------------------------------------------------


def resampled_ttest(inputs: dict[str, Any]) -> dict[str, Any]:
    differences = np.array(inputs["differences"])
    found = corrected_resampled_ttest(differences, inputs["n_test"] / inputs["n_train"])
    plain = corrected_resampled_ttest(differences, 0.0)
    return vars(found) | {"se_uncorrected": plain.se, "p_uncorrected": plain.p_two_sided}


def repeated_kfold(inputs: dict[str, Any]) -> dict[str, Any]:
    scores = np.array(inputs["accuracy_by_repeat"]).ravel()
    found = corrected_resampled_ttest(scores, 1 / (inputs["k"] - 1))
    plain = corrected_standard_error(found.sd, len(scores), 0.0)
    return vars(found) | {"se_uncorrected": plain, "ci95": [found.low, found.high]}


def purged_folds(inputs: dict[str, Any]) -> dict[str, Any]:
    n_train, n_test = np.array(inputs["n_train_n_test"]).T
    ratio = n_test / n_train
    return vars(corrected_resampled_ttest(np.array(inputs["differences"]), ratio)) | {"ratio": ratio.mean()}


def delong(y: np.ndarray, *scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs and their covariance from the placements of the rows (DeLong, DeLong and Clarke-Pearson 1988)."""
    positive = y == 1
    place = np.vstack([placements(positive, score) for score in scores])
    covariance = sum(np.cov(place[:, side]) / side.sum() for side in (positive, ~positive))
    return place[:, positive].mean(axis=1), covariance


def auc_delong(inputs: dict[str, Any]) -> dict[str, Any]:
    auc, covariance = delong(*(np.array(inputs[k]) for k in ("y", "score_a", "score_b")))
    return {"auc": auc.tolist(), "covariance": covariance.tolist()}


def mcnemar_tables(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: vars(mcnemar(t["only_model_right"], t["only_naive_right"])) for name, t in inputs.items()}


def diebold_mariano_harvey(inputs: dict[str, Any]) -> dict[str, Any]:
    d = np.array(inputs["loss_of_naive_minus_loss_of_model_by_date"])
    alternating = np.array(inputs["alternating"])
    return {
        "h1": vars(diebold_mariano(d, 1)),
        "h3": vars(diebold_mariano(d, 3)),
        "h3_bartlett": vars(diebold_mariano(d, 3, "bartlett")),
        "alternating_h2": vars(diebold_mariano(alternating, 2, "rectangular")),
        "alternating_h2_bartlett": vars(diebold_mariano(alternating, 2)),
    }


# --- best of n ------------------------------------------------------------------------------------------------------


def shrinkage(inputs: dict[str, Any]) -> dict[str, Any]:
    scores, error = np.array(inputs["observed_accuracy"]), inputs["error_sd_of_observed"]
    return {
        "shrinkage": winner_shrinkage(scores, error),
        "corrected_winner": shrunken_winner(scores, error),
    }


def selection_bias(inputs: dict[str, Any]) -> dict[str, Any]:
    names, scores = list(inputs["fold_accuracy"]), np.array(list(inputs["fold_accuracy"].values()))
    chosen, bias = cross_validation_selection_bias(scores)
    return {"chosen": names[chosen], "bias": bias, "corrected_accuracy": scores[chosen].mean() - bias}


CHECKS = {
    "psr_from_moments": psr_from_moments,
    "dsr_published_example": dsr_published,
    "expected_max_sharpe": max_sharpe,
    "psr_from_returns": psr_from_returns,
    "dsr_from_trials": dsr_from_trials,
    "pbo_tiny_mean": overfitting,
    "bootstrap_se_of_mean": se_of_mean,
    "bootstrap_se_enumerated": se_enumerated,
    "bootstrap_difference_by_date": difference_by_date,
    "bootstrap_panel_dates_against_rows": dates_against_rows,
    "politis_white_block_length": block_lengths,
    "corrected_resampled_ttest": resampled_ttest,
    "repeated_kfold_variance": repeated_kfold,
    "three_purged_folds": purged_folds,
    "auc_delong": auc_delong,
    "mcnemar": mcnemar_tables,
    "diebold_mariano_harvey": diebold_mariano_harvey,
    "winner_shrinkage": shrinkage,
    "cross_validation_selection_bias": selection_bias,
}
RANDOM = {
    "bootstrap_se_of_mean",
    "bootstrap_se_enumerated",
    "bootstrap_difference_by_date",
    "bootstrap_panel_dates_against_rows",
}


def assert_agrees(found: Any, expected: Any, tolerance: float, relative: float = 0.0) -> None:
    """Every number that is expected was found, to the tolerance; None only where None is expected."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert_agrees(found[name], value, tolerance, relative)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_agrees(one, other, tolerance, relative)
    elif expected is None or isinstance(expected, str):
        assert found == expected
    else:
        assert found == pytest.approx(expected, abs=tolerance, rel=relative)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_reference_case(case: dict[str, Any]) -> None:
    found = CHECKS[case["name"]](case["inputs"])
    assert_agrees(found, case["expected"], case["tolerance"], BOOTSTRAP_ERROR if case["name"] in RANDOM else 0.0)


# --- what the reference cases leave open ----------------------------------------------------------------------------


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
