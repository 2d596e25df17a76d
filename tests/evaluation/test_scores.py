"""An evaluation's figures agree with what they say of: known truth, naive rule, seeds, costs, decisions, openings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scripts.config.experiment import DataConfig, Experiment, SyntheticConfig
from scripts.data.loading import load_development, load_sealed
from scripts.evaluation.scores import Predictions, accuracy_scores, score
from scripts.evaluation.tested_rows import EvaluatedRows
from scripts.reporting.evaluation_page import verdict_sentence
from scripts.storage.result_records import DecisionRule, Selection
from tests.conftest import artifact
from tests.reporting.sample_reports import sample_evaluation

EXPERIMENT = Experiment(data=DataConfig(synthetic=SyntheticConfig(n_tickers=6, n_days=900, rho=0.4)))
PROMISED = Selection(
    reason="the best",
    skill=0.05,
    skill_se=0.01,
    decision=DecisionRule(threshold=0.5, margin=0.0, reason="kept"),
)


@pytest.fixture(scope="module")
def market():
    """Development and sealed rows of a synthetic market, and the exact probability of up on the latter."""
    development = load_development(EXPERIMENT.data, 1, 0)
    sealed = load_sealed(EXPERIMENT.data, 1, development, 0)
    return development, sealed, sealed.truth[sealed.rows]


def scored(market, up, promised=PROMISED, experiment=EXPERIMENT, by_seed=()):
    """Scores of a model that gives these probabilities of up."""
    development, sealed, _ = market
    p = np.column_stack([1 - up, up])
    constant = np.full_like(p, 0.5)
    return score(development, sealed, Predictions(p, by_seed or [p], {"reference": constant}), promised, experiment)


def evaluation_of(figures):
    """Results of an evaluation with these figures."""
    return sample_evaluation(n_dates=30).evaluation.model_copy(update=dict(figures))


def test_who_knows_the_truth_reaches_the_ceiling_and_is_expected_to(market):
    figures = scored(market, market[2]).figures
    assert figures.expected_accuracy == pytest.approx(figures.ceiling)
    assert abs(figures.accuracy - figures.ceiling) < 3 * figures.accuracy_se
    assert figures.verdict == "skill"
    assert figures.auc_ci95[0] > 0.5
    assert figures.log_loss_skill_ci95[0] > 0
    assert figures.tests.diebold_mariano.p < 0.01
    assert figures.tests.mcnemar.p_mid < 0.01
    assert figures.n_effective_labels == pytest.approx(figures.n_rows)


def test_noise_has_no_skill_and_an_expected_accuracy_of_its_own(market):
    up = np.random.default_rng(0).uniform(0.4, 0.6, len(market[2]))
    figures = scored(market, up).figures
    assert figures.verdict != "skill"
    assert figures.expected_accuracy == pytest.approx(np.where(up > 0.5, market[2], 1 - market[2]).mean())
    assert any(w.startswith("regime break") for w in figures.warnings)


def test_a_model_that_nearly_always_answers_one_class_is_named_first(market):
    up = np.where(np.arange(len(market[2])) % 100 == 0, 0.4, 0.6)
    figures = scored(market, up).figures
    assert figures.constant_answer.name == "up"
    assert figures.constant_answer.share == pytest.approx((up > 0.5).mean())
    assert figures.warnings[0].startswith("the model predicts 'up' in 99.0% of the rows")
    assert figures.detectable_skill is None  # of other rules that are nearly constant
    assert not any("is not detectable" in warning for warning in figures.warnings)
    assert verdict_sentence(evaluation_of(figures)).startswith(
        "The model predicts 'up' in 99.0% of the rows. No significant skill"
    )
    assert scored(market, market[2]).figures.constant_answer is None


def test_the_verdict_rests_on_the_probabilities_where_accuracy_does_not_show_a_weak_signal(market):
    weak = 0.5 + 0.02 * (market[2] - market[2].mean())
    noise = np.random.default_rng(1).uniform(-0.022, 0.022, len(weak))
    figures = scored(market, weak + noise).figures
    assert figures.primary_test.name == "forecast encompassing"
    assert figures.primary_test.statistic > 0
    assert figures.primary_test.p_value < 0.05
    assert figures.skill > 0 >= figures.skill_ci95[0]
    assert figures.verdict == "skill"
    assert "significant by the probabilities" in verdict_sentence(evaluation_of(figures))


def test_naive_rule_seeds_and_curves_are_those_of_the_same_rows(market):
    half = np.full(len(market[2]), 0.6)
    by_seed = [np.column_stack([1 - p, p]) for p in (market[2], half)]
    scores = scored(market, market[2], by_seed=by_seed)
    assert scores.figures.by_seed[0] == scores.figures.accuracy
    assert set(scores.curves) == {"model after costs", "best naive rule", "buy and hold", "equal weight"}
    assert all(len(curve) == len(scores.dates) for curve in scores.curves.values())
    low, high = scores.figures.returns.mean_net_ci95
    assert low < scores.figures.returns.mean_net < high
    low, high = scores.figures.returns.mean_excess_ci95
    assert low < scores.figures.returns.mean_excess < high
    assert scores.figures.returns.net == pytest.approx(scores.curves["model after costs"][-1] - 1)


def test_a_margin_chosen_out_of_fold_leaves_rows_unanswered(market):
    decision = DecisionRule(threshold=0.5, margin=0.2, reason="chosen")
    promised = PROMISED.model_copy(update={"decision": decision})
    figures = scored(market, market[2], promised).figures.decision
    assert 0 < figures.coverage < 0.9
    assert figures.accuracy > scored(market, market[2]).figures.accuracy
    coverage = [point.coverage for point in figures.curve]
    assert coverage == sorted(coverage, reverse=True)


def test_a_signal_that_fades_is_told_by_the_decay_report(market):
    development, sealed, truth = market
    date = sealed.date[sealed.rows]
    late = date > np.quantile(date, 0.5)
    fading = np.where(late, np.random.default_rng(0).uniform(0.4, 0.6, len(truth)), truth)
    decay = scored(market, fading).figures.decay
    assert decay.bins[0].skill > decay.bins[-1].skill
    assert decay.slope_per_100_dates < 0
    moved = replace(sealed, dates=sealed.dates - np.timedelta64(5000, "D"))
    assert scored((development, moved, truth), truth).figures.decay is None


@pytest.mark.parametrize("openings", [2, 3, 20])
def test_every_figure_of_a_further_look_is_corrected_and_never_surer_than_that_of_a_first(market, openings):
    development, sealed, truth = market
    up = np.where(np.random.default_rng(3).random(len(truth)) < 0.12, truth, 0.5 + 1e-3 * (truth - 0.5))
    p = np.column_stack([1 - up, up])
    predictions = Predictions(p, [p], {"reference": np.full_like(p, 0.5)})
    first, later = (score(development, sealed, predictions, PROMISED, EXPERIMENT, k).figures for k in (1, openings))
    for name in ("accuracy_ci95", "skill_ci95", "auc_ci95", "log_loss_ci95"):
        assert getattr(later, name)[0] < getattr(first, name)[0], name
        assert getattr(later, name)[1] > getattr(first, name)[1], name
    assert later.skill_p_value == pytest.approx(min(1.0, openings * first.skill_p_value))
    assert later.corrected_for_openings == openings
    (low, high), test = later.skill_ci95, later.primary_test
    assert test.p_value == pytest.approx(min(1.0, openings * first.primary_test.p_value))
    shown = low > 0 or (later.skill > 0 and test.statistic > 0 and test.p_value <= 0.05)
    assert later.verdict == ("worse than naive" if high < 0 else "skill" if shown else "no skill")
    for name in ("accuracy_ci95", "skill_ci95", "skill_p_value", "verdict"):
        assert getattr(later, f"{name}_uncorrected") == getattr(first, name) == getattr(first, f"{name}_uncorrected")
    assert later.detectable_skill > first.detectable_skill
    part, whole = (next(iter(figures.by_group.values())) for figures in (later, first))
    assert part.accuracy_ci95[0] < whole.accuracy_ci95[0]


def test_a_chance_result_of_a_few_looks_is_not_called_skill(market):
    """The interval of a first look lies above zero, that for five looks does not."""
    development, sealed, _ = market
    rng, y = np.random.default_rng(0), sealed.y[sealed.rows]
    naive = EvaluatedRows.of(development, sealed, y, 0).naive_predicted
    noisy = np.where(rng.random(len(y)) < 0.3, rng.integers(0, 2, len(y)), naive)
    order = rng.permutation(len(y))
    for n_right in range(0, len(y), 3):
        predicted = noisy.copy()
        predicted[order[:n_right]] = y[order[:n_right]]
        looks = (EvaluatedRows.of(development, sealed, predicted, 0, k) for k in (1, 5))
        first, fifth = (accuracy_scores(look, np.full((len(y), 2), 0.5)) for look in looks)
        if first.verdict == "skill":
            break
    assert 0.01 < first.skill_p_value < 0.05 and fifth.skill_p_value == 5 * first.skill_p_value
    assert (fifth.verdict, fifth.verdict_uncorrected) == ("no skill", "skill")
    assert fifth.skill_ci95[0] < 0 < fifth.skill_ci95_uncorrected[0]


def test_the_ledger_of_a_run_holds_time_model_and_result(finished_run):
    lines = [json.loads(line) for line in (finished_run.folder / "test_openings.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["opening", "result"]
    results = artifact(finished_run.folder, "evaluation/evaluation_results.json")
    assert lines[1]["verdict"] == results["verdict"]
    assert lines[1]["model_sha256"] == results["opened"]["model_sha256"]
    assert all(line["time"] for line in lines)


def test_a_run_states_its_references_budget_and_what_phase_2_promised(finished_run):
    results = artifact(finished_run.folder, "evaluation/evaluation_results.json")
    selection = artifact(finished_run.folder, "best_config.json")["selection"]
    assert results["promised"] == {name: selection[name] for name in ("skill", "skill_se")}
    assert len(results["by_seed"]) == 3
    for record in results["reference_tuning"].values():
        assert record["n_settings"] == 4
        assert record["n_folds"] == 3
    assert results["decision"]["reason"] == selection["decision"]["reason"]
