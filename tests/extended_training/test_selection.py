"""The choice among configurations: candidates by paired error, the order that decides, the reason it gives."""

import shutil

import numpy as np
import pytest

from scripts.config.experiment import DataConfig, Experiment, SyntheticConfig
from scripts.config.search_space import Hyperparameters
from scripts.config.selection_order import DEFAULT_ORDER, PREFERENCES
from scripts.data.loading import load_development
from scripts.extended_training.out_of_fold import n_duplicates, pooled_accuracies
from scripts.extended_training.selection import pareto_set, rank
from scripts.final_training.training import replaced_values
from scripts.storage.artifacts import read_record
from scripts.storage.extended_record import Configuration, Extended
from tests.conftest import EXTENDED, artifact, run


def candidate(number, accuracy, behind=0.0, behind_se=0.01, **values):
    """Record of a configuration as phase 2 makes it."""
    record = {"std_accuracy": 0.02, "avg_simulated_return": 0.1, "n_parameters": 100, "operations_per_row": 200}
    record |= {"trial_number": number, "avg_accuracy": accuracy, "behind": behind, "behind_se": behind_se}
    record |= {"config": {"family": "mlp"}, "avg_val_loss": 0.69, "inference_us_per_row": None}
    return Configuration.model_construct(**record | values)


def test_the_best_mean_wins_where_nothing_lies_within_its_error():
    ranked, reason = rank([candidate(1, 0.52, 0.04), candidate(2, 0.56), candidate(3, 0.53, 0.03, std_accuracy=0.0)])
    assert [c.trial_number for c in ranked] == [2, 3, 1]
    assert [c.tied for c in ranked] == [True, False, False]
    assert "no other configuration" in reason


@pytest.mark.parametrize(
    ("better", "words"),
    [
        ({"std_accuracy": 0.01}, "lowest spread"),
        ({"avg_simulated_return": 0.2}, "highest net return"),
        ({"n_parameters": 50}, "fewest parameters"),
        ({"operations_per_row": 100}, "fewest operations"),
    ],
)
def test_among_equals_the_first_criterion_that_differs_decides(better, words):
    records = [candidate(1, 0.560), candidate(2, 0.558, 0.002, **better)]
    ranked, reason = rank(records, PREFERENCES["spread"])
    assert ranked[0].trial_number == 2
    assert words in reason
    assert "of trial 1" in reason


def test_the_order_can_be_set_and_an_unknown_value_is_the_worst():
    small, steady = candidate(1, 0.56, n_parameters=10), candidate(2, 0.56, 0.0, std_accuracy=0.001)
    assert rank([small, steady], ["std_accuracy"])[0][0].trial_number == 2
    assert rank([small, steady], ["n_parameters"])[0][0].trial_number == 1
    unknown = candidate(1, 0.56, avg_simulated_return=None)
    assert rank([unknown, candidate(2, 0.56)], ["avg_simulated_return"])[0][0].trial_number == 2


def test_complete_equals_are_ordered_by_trial_in_any_order_of_input():
    records = [candidate(k, 0.55) for k in (3, 1, 2)]
    for order in (records, records[::-1]):
        assert [c.trial_number for c in rank(order, DEFAULT_ORDER)[0]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("preference", "wins"), [("accuracy", 1), ("return", 2), ("size", 3), ("latency", 4), ("spread", 5), ("rule", 1)]
)
def test_a_word_names_what_decides(preference, wins):
    common = {"behind": 0.001, "inference_us_per_row": 2.0}
    records = [
        candidate(1, 0.560, inference_us_per_row=2.0),
        candidate(2, 0.559, **common, avg_simulated_return=0.5),
        candidate(3, 0.559, **common, n_parameters=5),
        candidate(4, 0.559, **(common | {"inference_us_per_row": 1.0})),
        candidate(5, 0.559, **common, std_accuracy=0.001),
    ]
    assert rank(records, PREFERENCES[preference])[0][0].trial_number == wins


def test_the_best_mean_is_chosen_by_default_however_steady_or_small_its_ties_are():
    steady = candidate(2, 0.559, 0.001, std_accuracy=0.0, n_parameters=5, avg_simulated_return=0.9)
    ranked, reason = rank([steady, candidate(1, 0.560)])
    assert [c.trial_number for c in ranked] == [1, 2] and all(c.tied for c in ranked)
    assert "2 configurations tie" in reason and "the smallest of them is trial 2 (--select size)" in reason


def test_equal_means_go_to_the_smaller_model():
    ranked, reason = rank([candidate(1, 0.56), candidate(2, 0.56, n_parameters=50)])
    assert ranked[0].trial_number == 2 and "fewest parameters" in reason


@pytest.mark.parametrize("order", [PREFERENCES[name] for name in ("rule", "accuracy", "size", "return", "latency")])
@pytest.mark.parametrize(
    "better",
    [{"std_accuracy": 0.01}, {"avg_simulated_return": 0.2}, {"avg_val_loss": 0.6}, {"operations_per_row": 100}],
    ids=str,
)
def test_a_configuration_that_another_dominates_is_never_chosen(order, better):
    records = [candidate(1, 0.56, inference_us_per_row=1.0), candidate(2, 0.56, inference_us_per_row=1.0, **better)]
    ranked, reason = rank(records, order)
    assert ranked[0].trial_number == 2
    assert "and of these it has the" in reason


def test_results_of_an_earlier_version_without_some_criteria_are_still_ranked():
    records = [candidate(1, 0.56), candidate(2, 0.55, 0.005)]
    unknown = {"operations_per_row": None, "avg_val_loss": None}
    records = [record.model_copy(update=unknown) for record in records]
    assert [c.trial_number for c in rank(records)[0]] == [1, 2]


def test_the_pareto_set_leaves_out_what_is_beaten_everywhere():
    small = candidate(1, 0.52, n_parameters=10, inference_us_per_row=1.0)
    accurate = candidate(2, 0.56, n_parameters=100, inference_us_per_row=2.0)
    beaten = candidate(3, 0.55, n_parameters=200, inference_us_per_row=2.0)
    unknown = candidate(4, 0.56, n_parameters=100, inference_us_per_row=None)
    equal = candidate(5, 0.56, n_parameters=100, inference_us_per_row=2.0)
    assert pareto_set([small, accurate, beaten, unknown, equal]) == [1, 2, 5]


def test_error_of_being_behind_is_paired_and_skill_is_held_against_the_best_naive_rule():
    dataset = load_development(DataConfig(synthetic=SyntheticConfig(n_tickers=6, n_days=700)), 1, 0)
    rows, rng = dataset.rows, np.random.default_rng(0)
    best = rng.random(len(rows)) < 0.6
    nearly = best ^ (rng.random(len(rows)) < 0.01)  # errs on the same rows
    apart = rng.random(len(rows)) < 0.595  # as good, but on other rows
    name, found = pooled_accuracies(dataset, rows, {1: best, 2: nearly, 3: apart}, 1)
    assert name in {"best_constant", "majority", "persistence"}
    assert found[1].behind == found[1].behind_se == 0.0
    assert found[2].behind_se < found[3].behind_se / 3
    share = np.bincount(dataset.y[rows]).max() / len(rows)
    assert found[1].skill == pytest.approx(best.mean() - share)
    assert found[1].skill_ci95[0] < found[1].skill < found[1].skill_ci95[1]


def test_rows_that_a_fold_tests_and_trains_on_as_copies_are_counted():
    dataset = load_development(DataConfig(synthetic=SyntheticConfig(n_tickers=3, n_days=300)), 1, 0)
    folds = dataset.folds("kfold", 3, 0)
    assert n_duplicates(dataset, folds) == 0
    train, test = folds[0]
    dataset.x[test[:5]] = dataset.x[train[:5]]
    assert n_duplicates(dataset, folds[:1]) == 5


def test_the_analysis_chooses_again_on_request_and_phase_3_takes_it(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    records = read_record(folder / EXTENDED, "phase 2", Extended).configurations
    done = run("analyze_results.py", folder, "--select", "size")
    assert done.returncode == 0, done.stderr
    chosen, reason = rank(records, PREFERENCES["size"])
    selection = artifact(folder, "best_config.json")["selection"]
    assert selection["trial_number"] == chosen[0].trial_number
    assert selection["reason"] == reason
    assert selection["decision"] == chosen[0].decision.body()
    assert "Pareto set" in done.stdout
    assert run("analyze_results.py", folder, "--select", "beauty").returncode == 2


def test_phase_3_names_what_it_does_not_train_as_it_was_searched():
    experiment = Experiment()
    searched = Hyperparameters(schedule="constant", label_smoothing=0.0)
    assert replaced_values(searched, experiment) == {
        "schedule": ["constant", "cosine"],
        "label_smoothing": [0.0, experiment.final.label_smoothing],
        "epochs": [100, 200],
        "early_stopping_patience": [10, 15],
        "warmup_epochs": [0, 2],
        "ema_decay": [0.0, 0.99],
    }
    final = {"epochs": 100, "early_stopping_patience": 10, "warmup_epochs": 0, "ema_decay": 0.0}
    as_searched = Experiment.model_validate({"final": final})
    assert replaced_values(Hyperparameters(schedule="cosine", label_smoothing=0.1), as_searched) == {}
