"""Ensembles: the greedy choice does what it says, judges itself honestly, and what comes of it is one model."""

import itertools
import shutil
import signal

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.commands.export import TOLERANCE, example_rows, export_model, own_probabilities
from scripts.config.experiment import DataConfig, Experiment
from scripts.final_training.members import OutOfFold
from scripts.final_training.model import load_model
from scripts.reporting.sections.model import ensemble_in_words, ensemble_section
from scripts.statistics.greedy_ensemble import fit_ensemble, greedy_draws, on_other_folds
from scripts.storage.artifacts import read_record, write_json
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.extended_record import Configuration
from tests.commands.test_predict import evaluate, table
from tests.conftest import EXTENDED, SCRIPTS, artifact, finish, run, without_times
from tests.final_models import differing_parts, write_model

FINAL, EVALUATE = SCRIPTS[3], SCRIPTS[4]
RESULTS = "final_training_results/final_training_results.json"
MEMBERS = [
    {"family": "mlp", "width": 8, "depth": 1},
    {"family": "gru", "width": 8, "depth": 1, "window": 4},
    {"family": "tcn", "width": 8, "depth": 1, "window": 2},
]


def mean_loss(likelihoods, draws):
    return -np.log(likelihoods[list(draws)].mean(axis=0)).mean()


# --- the greedy choice ----------------------------------------------------------------------------------------------

libraries = st.builds(
    lambda seed, n_candidates, n_rows: np.random.default_rng(seed).uniform(0.02, 0.98, (n_candidates, n_rows)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 30),
)


@given(libraries, st.integers(1, 5))
def test_each_draw_is_the_best_one_can_add_and_the_best_number_of_draws_is_kept(likelihoods, most):
    draws = greedy_draws(likelihoods, most)
    assert 1 <= len(draws) <= most
    for count in range(len(draws)):
        reached = [mean_loss(likelihoods, (*draws[:count], k)) for k in range(len(likelihoods))]
        assert reached[draws[count]] == pytest.approx(min(reached), abs=1e-12)
    losses = [mean_loss(likelihoods, draws[:count]) for count in range(1, len(draws) + 1)]
    assert losses[-1] == pytest.approx(min(losses), abs=1e-11)
    assert losses[-1] <= min(mean_loss(likelihoods, [k]) for k in range(len(likelihoods))) + 1e-11


@given(libraries, st.integers(1, 4))
def test_no_choice_of_brute_force_is_beaten_and_that_of_one_draw_is_found(library, most):
    """Over all multisets of up to as many draws."""
    every = [
        mean_loss(library, chosen)
        for count in range(1, most + 1)
        for chosen in itertools.combinations_with_replacement(range(len(library)), count)
    ]
    reached = mean_loss(library, greedy_draws(library, most))
    assert reached >= min(every) - 1e-11
    assert mean_loss(library, greedy_draws(library, 1)) == pytest.approx(min(every[: len(library)]), abs=1e-12)


def test_two_candidates_that_complement_each_other_are_both_taken_as_brute_force_would():
    complementary = np.array([[0.9, 0.3, 0.9, 0.3], [0.3, 0.9, 0.3, 0.9], [0.5, 0.5, 0.5, 0.5]])
    assert sorted(greedy_draws(complementary, 2)) == [0, 1]
    best = min(itertools.combinations_with_replacement(range(3), 2), key=lambda c: mean_loss(complementary, c))
    assert best == (0, 1)


@given(libraries, st.integers(1, 4))
def test_a_copy_of_a_candidate_changes_nothing_and_the_first_of_equals_is_taken(likelihoods, most):
    assert greedy_draws(np.vstack([likelihoods, likelihoods]), most) == greedy_draws(likelihoods, most)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_weights_are_shares_and_probabilities_add_up(seed, most):
    generator = np.random.default_rng(seed)
    y, logits = generator.integers(0, 3, 60), generator.standard_normal((4, 60, 3))
    ensemble = fit_ensemble(y, logits, most)
    assert sum(ensemble.weights.values()) == pytest.approx(1)
    assert list(ensemble.weights.values()) == sorted(ensemble.weights.values(), reverse=True)
    assert np.allclose(ensemble.probabilities(logits).sum(axis=1), 1)


# --- judging itself -------------------------------------------------------------------------------------------------


def noise(n_candidates, n=600, seed=0):
    generator = np.random.default_rng(seed)
    y, fold = generator.integers(0, 2, n), np.arange(n) * 3 // n
    return y, 0.3 * generator.standard_normal((n_candidates, n, 2)), fold, np.arange(n)


def test_what_a_fold_holds_decides_nothing_of_the_answers_for_it():
    y, logits, fold, row = noise(4)
    of_ensemble, alone = on_other_folds(y, logits, fold, row, 3)
    changed = np.where(fold == 1, 1 - y, y)
    for before, after in zip((of_ensemble, alone), on_other_folds(changed, logits, fold, row, 3), strict=True):
        assert np.array_equal(before[..., fold == 1, :], after[..., fold == 1, :])
        assert not np.array_equal(before, after)


def test_a_row_that_two_folds_test_is_left_out_with_both():
    y, logits, fold, row = noise(3)
    row = np.where(fold == 2, row - 400, row)  # the rows of the first fold again
    of_ensemble, _ = on_other_folds(y, logits, fold, row, 2)
    changed = np.where(fold == 2, 1 - y, y)
    assert np.array_equal(of_ensemble[fold == 0], on_other_folds(changed, logits, fold, row, 2)[0][fold == 0])


@pytest.mark.slow
def test_among_many_that_know_nothing_the_choice_looks_good_and_is_judged_not_to_be():
    y, logits, fold, row = noise(200)

    def loss(p):
        return -np.log(p[np.arange(len(y)), y]).mean()

    chosen_and_judged = loss(fit_ensemble(y, logits, 10).probabilities(logits))
    judged_elsewhere = loss(on_other_folds(y, logits, fold, row, 10)[0])
    assert chosen_and_judged < np.log(2) - 0.01 < judged_elsewhere


def test_all_configurations_count_with_as_many_networks():
    """One with a second network on a fold is judged by the first there, unless all have a second."""
    blocks = [(0, 0, 0, 0.6), (0, 1, 0, 0.7), (0, 1, 1, 0.9), (1, 0, 0, 0.2), (1, 0, 1, 0.99), (1, 1, 0, 0.3)]
    blocks += [(0, 2, 0, 0.5), (0, 2, 1, 0.8), (1, 2, 0, 0.5), (1, 2, 1, 0.8)]
    table = pd.concat(
        pd.DataFrame({"trial_number": n, "fold": f, "seed": s, "row": [2 * f, 2 * f + 1], "probability_b": p})
        for n, f, s, p in blocks
    )
    table["probability_a"] = 1 - table["probability_b"]
    found = OutOfFold.of(table, [Configuration.model_construct(trial_number=number) for number in (1, 0)], ["a", "b"])
    lead = found.logits[..., 1] - found.logits[..., 0]
    mean_of_two = (np.log(0.5 / 0.5) + np.log(0.8 / 0.2)) / 2
    assert lead == pytest.approx(
        np.array(
            [
                [np.log(0.2 / 0.8)] * 2 + [np.log(0.3 / 0.7)] * 2 + [mean_of_two] * 2,
                [np.log(0.6 / 0.4)] * 2 + [np.log(0.7 / 0.3)] * 2 + [mean_of_two] * 2,
            ]
        )
    )
    assert found.fold.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.row.tolist() == [0, 1, 2, 3, 4, 5]


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    table(600).to_csv(path, index=False)
    return path


def made(folder, table_file, members=MEMBERS):
    """An untrained ensemble of a table with missing cells and text."""
    names = {"label": "column", "label_column": "target", "time_column": "day", "group_column": "who"}
    config = DataConfig(source="table", path=str(table_file), **names)
    experiment = Experiment(data=config, search_space={"window": 4, "family": "gru"})
    return write_model(folder / "final_model.pkl", experiment, members[0], others=members[1:])


def test_an_ensemble_gives_the_weighted_mean_of_its_members_probabilities(tmp_path, table_file):
    model = made(tmp_path, table_file)
    assert [m.weight for m in model.members] == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert model.window == 4 and model.reads_windows
    rows = example_rows(model, 30)
    said = [own_probabilities(replace_window(model, k), rows) for k in range(3)]
    expected = sum(m.weight * p for m, p in zip(model.members, said, strict=True))
    assert np.allclose(own_probabilities(model, rows), expected, atol=1e-12)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in itertools.pairwise(said))


class replace_window:
    """A member alone, asked as the whole ensemble is: with its longest window."""

    def __init__(self, model, k):
        self.window, self.predict_raw = model.window, model.alone(k).predict_raw


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("members", [MEMBERS, MEMBERS[:1] * 2, MEMBERS[1:]], ids=["mixed", "rows", "windows"])
def test_an_exported_ensemble_agrees(tmp_path, table_file, kind, members):
    model, out = made(tmp_path, table_file, members), tmp_path / f"model.{kind}"
    assert export_model(model, kind, out) <= TOLERANCE
    if kind == "onnx":
        rows = example_rows(model, 9)
        (said,) = onnxruntime.InferenceSession(out).run(None, {"x": rows})
        assert np.abs(said - own_probabilities(model, rows)).max() <= TOLERANCE


def test_a_file_is_predicted_by_an_ensemble_as_by_its_members(tmp_path, table_file):
    model = made(tmp_path, table_file)
    new = table(90, seed=3).drop(columns="target")
    new.to_csv(tmp_path / "new.csv", index=False)
    flags = ("--predict", tmp_path / "new.csv", "--out", tmp_path / "said.csv")
    done = evaluate("--model", tmp_path / "final_model.pkl", *flags)
    assert done.returncode == 0, done.stderr
    said = pd.read_csv(tmp_path / "said.csv").set_index("row")["probability_down"]
    assert len(said) == 90 - 3 * 3  # three groups; the first three rows of each have no window of four
    by_member = [model.alone(k).predict(new).set_index("row")["probability_down"] for k in range(3)]
    expected = sum(m.weight * own for m, own in zip(model.members, by_member, strict=True))
    assert np.allclose(said, expected.loc[said.index], atol=1e-6)


@pytest.mark.parametrize("change", [{"schema_version": 1}, {"schema_version": 3}, {"schema_version": "x"}])
def test_a_model_of_another_schema_says_in_one_line_what_to_do(tmp_path, table_file, change):
    names = {"label": "column", "label_column": "target", "time_column": "day"}
    experiment = Experiment(data=DataConfig(source="table", path=str(table_file), **names))
    with pytest.raises(Exception, match="schema"):
        write_model(tmp_path / "final_model.pkl", experiment, MEMBERS[0], **change)
    done = evaluate("--model", tmp_path / "final_model.pkl", "--export", "torch")
    assert done.returncode == 2
    assert f"schema {change['schema_version']} written by version" in done.stderr
    assert "create it again with run_final_training.py --fresh" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- from end to end ------------------------------------------------------------------------------------------------


def started(source, folder, *names):
    """A run directory that begins with some of the results of another one."""
    folder.mkdir(parents=True)
    for name in names:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, folder / name)
    return folder


PHASE_2 = ("hyperparameter_tuning_results", "extended_training_results", "best_config.json")


@pytest.fixture(scope="module")
def finished(finished_run, once):
    """A run that ends in an ensemble of two families: phase 1 is that of the finished run."""

    def fill(place):
        folder = started(finished_run.folder, place / "run", PHASE_2[0])
        wide = ("--top-n", 6, "--set", "extended.racing=false")
        finish(folder, "--config", finished_run.config, "--workers", 1, *wide, scripts=SCRIPTS[1:2])
        finish(folder, "--workers", 1, "--ensemble", 3, scripts=[FINAL])
        finish(folder, scripts=[EVALUATE])

    return once("ensemble", fill) / "run"


def test_an_ensemble_of_two_families_is_trained_judged_and_reported(finished, tmp_path):
    model, results = load_model(finished / "final_model.pkl"), artifact(finished, RESULTS)
    weights = {m["family"]: m["weight"] for m in results["members"]}
    assert set(weights) == {"mlp", "gru"} and sum(weights.values()) == pytest.approx(1)
    assert len(model.members) == len(results["members"]) and all(len(m.networks) == 3 for m in model.members)
    assert results["epochs_spent"] == sum(m["epochs_spent"] for m in results["members"])
    assert results["n_parameters"] == sum(m.n_parameters for m in model.members)
    evaluation = artifact(finished, "evaluation/evaluation_results.json")
    told = evaluation["ensemble"]
    assert [m["weight"] for m in told["members"]] == [m.weight for m in model.members]
    low, high = told["log_loss"]["gain_ci95"]
    assert low <= told["log_loss"]["gain"] <= high
    assert told["log_loss"]["gain"] == pytest.approx(told["log_loss"]["single"] - told["log_loss"]["ensemble"])
    assert told["is_better"] == (low > 0 and told["accuracy"]["gain_ci95"][1] >= 0)
    assert evaluation["promised"]["skill"] == model.content.selection.skill
    predictions = pd.read_csv(finished / "evaluation" / "predictions.csv")
    assert (predictions["predicted"] == predictions["label"]).mean() == pytest.approx(evaluation["accuracy"])
    assert "Ensemble: gain and cost" in (finished / "evaluation" / "report.html").read_text()
    card = (finished / "evaluation" / "model_card.md").read_text()
    assert all(f"trial {m['trial_number']}, weight" in card for m in results["members"])
    assert export_model(model, "onnx", tmp_path / "model.onnx") <= TOLERANCE


def test_the_single_figures_are_those_of_the_chosen_configuration_and_the_rows_of_all_folds(finished):
    told = artifact(finished, "evaluation/evaluation_results.json")["ensemble"]
    extended = artifact(finished, EXTENDED)
    assert told["single_trial_number"] == extended["configurations"][0]["trial_number"]
    table = pd.read_parquet(finished / "extended_training_results" / "out_of_fold_predictions.parquet")
    assert told["n_rows"] == len(table[(table["trial_number"] == told["single_trial_number"]) & (table["seed"] == 0)])


def test_a_killed_final_training_of_an_ensemble_ends_in_the_same_bits(finished, tmp_path):
    folder = started(finished, tmp_path / "run", *PHASE_2)
    chosen = artifact(finished, "best_config.json")["selection"]["trial_number"]
    numbers = [member["trial_number"] for member in artifact(finished, RESULTS)["members"]]
    trial = f"trial_{next(number for number in numbers if number != chosen):04d}"
    sign = folder / "final_training_results" / "checkpoints" / f"final_holdout_{trial}_seed_0.pt"
    done = run(FINAL, folder, "--workers", 1, "--ensemble", 3, interrupt=(sign, signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / "final_model.pkl").exists()
    finish(folder, "--workers", 1, "--ensemble", 3, scripts=[FINAL])
    assert not differing_parts(folder, finished)
    assert without_times(artifact(folder, RESULTS)) == without_times(artifact(finished, RESULTS))
    again = run(FINAL, folder, "--workers", 1, "--ensemble", 2)
    assert again.returncode == 2 and "final.ensemble (3 -> 2)" in again.stderr


def test_an_ensemble_of_the_chosen_configuration_alone_is_the_model_without_one(finished_run, tmp_path):
    """The greedy choice finds nothing to add here: the same networks, bit for bit."""
    folder = started(finished_run.folder, tmp_path / "run", *PHASE_2)
    finish(folder, "--config", finished_run.config, "--workers", 1, "--ensemble", 3, scripts=[FINAL])
    assert not differing_parts(folder, finished_run.folder)
    told = load_model(folder / "final_model.pkl").content.selection
    assert ": no other improves it" in told.reason
    assert load_model(finished_run.folder / "final_model.pkl").content.selection.ensemble is None


def test_an_ensemble_without_the_predictions_of_phase_2_is_refused(finished, tmp_path):
    done = run(FINAL, started(finished, tmp_path / "run", "best_config.json"), "--ensemble", 2)
    assert done.returncode == 3, done.stderr
    assert "run_extended_training.py" in done.stderr


def test_the_choice_of_another_run_is_no_start_of_an_ensemble(finished, finished_run, tmp_path):
    folder = started(finished, tmp_path / "run", *PHASE_2[:2])
    best = artifact(finished_run.folder, "best_config.json")
    best["hyperparameters"]["width"] += 1
    write_json(folder / "best_config.json", {k: v for k, v in best.items() if k != "sha256"})
    done = run(FINAL, folder, "--ensemble", 2)
    assert done.returncode == 2, done.stderr
    assert "extended_training_results.json, which has changed since" in done.stderr


def test_the_report_says_in_words_whether_an_ensemble_is_worth_its_cost(finished):
    results = read_record(finished / "evaluation" / "evaluation_results.json", EVALUATE, Evaluation)
    told = results.ensemble
    assert "the gain over one configuration is not significant" in ensemble_in_words(
        told.model_copy(update={"is_better": False})
    )
    assert "it is better than one configuration" in ensemble_in_words(told.model_copy(update={"is_better": True}))
    alone = [member for member in told.members if member.trial_number == told.single_trial_number]
    assert "without further cost" in ensemble_in_words(told.model_copy(update={"members": alone}))
    assert len(ensemble_section(told).tables[0].rows) == len(told.members)
    assert not ensemble_section(None).paragraphs
