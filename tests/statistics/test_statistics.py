"""Sharpe ratios, overfitting, bootstrap, comparisons and the winner's curse agree with the reference cases."""

import math
from typing import Any

import numpy as np
import pytest

from scripts.statistics.backtest_overfitting import probability_of_backtest_overfitting
from scripts.statistics.bootstrap import (
    date_bootstrap,
    optimal_block_lengths,
)
from scripts.statistics.intervals import (
    accuracy_interval,
    difference_interval,
)
from scripts.statistics.metrics import placements
from scripts.statistics.model_tests import (
    corrected_resampled_ttest,
    corrected_standard_error,
    diebold_mariano,
    mcnemar,
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
    cross_validation_selection_bias,
    shrunken_winner,
    winner_shrinkage,
)
from tests.reference_cases import reference_cases

CASES = reference_cases("sharpe", "pbo", "bootstrap", "resampled", "best_of_n", "comparisons")
RESAMPLES = 8000
# Four standard errors of a standard error from so many resamples.
BOOTSTRAP_ERROR = 4 / math.sqrt(2 * RESAMPLES)


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


def overfitting(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"pbo": probability_of_backtest_overfitting(np.array(inputs["performance_by_row"]), inputs["n_blocks"])}


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
