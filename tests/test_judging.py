"""An evaluation's figures agree with what they say of: known truth, naive rule, seeds, costs, decisions, openings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scripts.config import DataConfig, Experiment, SyntheticConfig
from scripts.data.loading import load_development, load_sealed
from scripts.judging.scores import Predictions, score
from scripts.judging.sealed_test import _count_openings, _record
from scripts.run_dir import RunDir
from tests.conftest import artifact

EXPERIMENT = Experiment(data=DataConfig(synthetic=SyntheticConfig(n_tickers=6, n_days=900, rho=0.4)))
PROMISED = {"skill": 0.05, "skill_se": 0.01, "decision": {"threshold": 0.5, "margin": 0.0, "reason": "kept"}}


@pytest.fixture(scope="module")
def market():
    """Development and sealed rows of a synthetic market, and the exact probability of up on the latter."""
    development = load_development(EXPERIMENT.data, 1, 0)
    sealed = load_sealed(EXPERIMENT.data, 1, development, 0)
    return development, sealed, sealed.truth[sealed.rows]


def judged(market, up, promised=PROMISED, experiment=EXPERIMENT, by_seed=()):
    """Scores of a model that gives these probabilities of up."""
    development, sealed, _ = market
    p = np.column_stack([1 - up, up])
    constant = np.full_like(p, 0.5)
    return score(development, sealed, Predictions(p, by_seed or [p], {"reference": constant}), promised, experiment)


def test_who_knows_the_truth_reaches_the_ceiling_and_is_expected_to(market):
    fields = judged(market, market[2]).fields
    assert fields["expected_accuracy"] == pytest.approx(fields["ceiling"])
    assert abs(fields["accuracy"] - fields["ceiling"]) < 3 * fields["accuracy_se"]
    assert fields["verdict"] == "skill"
    assert fields["auc_ci95"][0] > 0.5
    assert fields["log_loss_skill_ci95"][0] > 0
    assert fields["tests"]["diebold_mariano"]["p"] < 0.01
    assert fields["tests"]["mcnemar"]["p_mid"] < 0.01
    assert fields["n_effective_labels"] == pytest.approx(fields["n_rows"])


def test_noise_has_no_skill_and_an_expected_accuracy_of_its_own(market):
    up = np.random.default_rng(0).uniform(0.4, 0.6, len(market[2]))
    fields = judged(market, up).fields
    assert fields["verdict"] != "skill"
    assert fields["expected_accuracy"] == pytest.approx(np.where(up > 0.5, market[2], 1 - market[2]).mean())
    assert any(w.startswith("regime break") for w in fields["warnings"])


def test_naive_rule_seeds_and_curves_are_those_of_the_same_rows(market):
    half = np.full(len(market[2]), 0.6)
    by_seed = [np.column_stack([1 - p, p]) for p in (market[2], half)]
    scores = judged(market, market[2], by_seed=by_seed)
    assert scores.fields["by_seed"][0] == scores.fields["accuracy"]
    assert set(scores.curves) == {"model after costs", "best naive rule", "buy and hold"}
    assert all(len(curve) == len(scores.dates) for curve in scores.curves.values())
    low, high = scores.fields["returns"]["mean_net_ci95"]
    assert low < scores.fields["returns"]["mean_net"] < high
    low, high = scores.fields["returns"]["mean_excess_ci95"]
    assert low < scores.fields["returns"]["mean_excess"] < high
    assert scores.fields["returns"]["net"] == pytest.approx(scores.curves["model after costs"][-1] - 1)


def test_a_margin_chosen_out_of_fold_leaves_rows_unanswered(market):
    decision = {"threshold": 0.5, "margin": 0.2, "reason": "chosen"}
    fields = judged(market, market[2], PROMISED | {"decision": decision}).fields["decision"]
    assert 0 < fields["coverage"] < 0.9
    assert fields["accuracy"] > judged(market, market[2]).fields["accuracy"]
    coverage = [point["coverage"] for point in fields["curve"]]
    assert coverage == sorted(coverage, reverse=True)


def test_a_signal_that_fades_is_told_by_the_decay_report(market):
    development, sealed, truth = market
    date = sealed.date[sealed.rows]
    late = date > np.quantile(date, 0.5)
    fading = np.where(late, np.random.default_rng(0).uniform(0.4, 0.6, len(truth)), truth)
    decay = judged(market, fading).fields["decay"]
    assert decay["bins"][0]["skill"] > decay["bins"][-1]["skill"]
    assert decay["slope_per_100_dates"] < 0
    moved = replace(sealed, dates=sealed.dates - np.timedelta64(5000, "D"))
    assert judged((development, moved, truth), truth).fields["decay"] is None


def test_openings_are_counted_once_each_with_their_result(tmp_path):
    run_dir, first, second = RunDir(tmp_path), {"model_sha256": "a", "data": "sealed"}, {"model_sha256": "b"}
    assert _count_openings(run_dir, first, True) == 1
    assert _count_openings(run_dir, first, True) == 1  # an interrupted evaluation goes on
    _record(run_dir, {"event": "result"} | first | {"skill": 0.1})
    assert _count_openings(run_dir, first, True) == 2  # a second look
    assert _count_openings(run_dir, second, True) == 3
    assert _count_openings(run_dir, second, False) == 3
    assert _count_openings(RunDir(tmp_path / "other"), first, False) == 0


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
