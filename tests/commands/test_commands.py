"""The five commands as a user runs them: artifacts, exit codes, and what is said."""

import contextlib
import json
import shutil

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from scripts.extended_training import ExtendedTrainer
from tests.conftest import EXTENDED, ROOT, SCRIPTS, TRIALS, artifact, finish, run, without_times

TRIAL_FIELDS = {
    "number", "stage", "state", "hyperparameters", "epochs", "best_epoch", "val_accuracy", "val_loss", "train_loss",
    "simulated_return", "n_parameters", "duration_s", "inference_us_per_row", "failure",
}  # fmt: skip
CONFIGURATION_FIELDS = {
    "rank", "trial_number", "config", "avg_accuracy", "std_accuracy", "avg_val_loss", "avg_train_loss",
    "avg_simulated_return", "n_parameters", "duration_s", "inference_us_per_row", "folds",
}  # fmt: skip
EVALUATION_FIELDS = {
    "n_rows", "first_date", "last_date", "accuracy", "accuracy_se", "accuracy_ci95", "naive", "skill", "skill_se",
    "skill_ci95", "verdict", "ceiling", "auc", "log_loss", "brier", "ece", "returns", "by_group", "epochs_spent_total",
    "test_openings",
}  # fmt: skip


def test_the_pipeline_leaves_every_artifact_with_its_fields(finished_run):
    folder = finished_run.folder
    trials = artifact(folder, TRIALS)
    assert len(trials["trials"]) == 7
    assert [t["stage"] for t in trials["trials"]] == ["random"] * 3 + ["bayesian"] * 2 + ["fine_tune"] * 2
    assert all(t.keys() >= TRIAL_FIELDS for t in trials["trials"])
    assert trials["epochs_spent"] == sum(t["epochs"] for t in trials["trials"])
    extended = artifact(folder, EXTENDED)
    assert extended["n_folds"] == 3
    assert all(c.keys() >= CONFIGURATION_FIELDS for c in extended["configurations"])
    spent = sum(f["epochs"] for c in extended["configurations"] for f in c["folds"])
    assert extended["epochs_spent"] == spent
    evaluation = artifact(folder, "evaluation/evaluation_results.json")
    assert evaluation.keys() >= EVALUATION_FIELDS
    assert {"best_constant", "majority"} <= evaluation["naive"].keys()
    assert evaluation["versus_reference"]["name"] in evaluation["references"]
    final = artifact(folder, "final_training_results/final_training_results.json")
    assert evaluation["epochs_spent_total"] == trials["epochs_spent"] + spent + final["epochs_spent"]
    for name in ("analysis/report.html", "evaluation/report.html", "analysis/suggested_search_space.yaml"):
        assert (folder / name).stat().st_size > 0
    for data in (trials, extended, evaluation, artifact(folder, "best_config.json")):
        assert data["schema_version"] == 1
        assert data["created_by"]["libraries"]["torch"] == torch.__version__
        assert len(data["config_hash"]) == len(data["data_fingerprint"]) == len(data["sha256"]) == 64


def test_no_artifact_holds_an_open_door(finished_run):
    """Models load without code, and best_config.json names none."""
    torch.load(finished_run.folder / "final_model.pkl", weights_only=True)
    assert "models" not in artifact(finished_run.folder, "best_config.json")["experiment"]


def test_a_finished_phase_says_so_and_changes_nothing(finished_run):
    before = {p: p.read_bytes() for p in finished_run.folder.rglob("*") if p.is_file() and p.name != "run.lock"}
    for script in SCRIPTS:
        done = run(script, finished_run.folder, "--config", finished_run.config)
        assert done.returncode == 0, done.stderr
        assert script == "analyze_results.py" or "is finished" in done.stdout
    after = {p: p.read_bytes() for p in finished_run.folder.rglob("*") if p.is_file() and p.name != "run.lock"}
    assert before == after


def test_the_guides_snippet_runs_in_a_run_directory(finished_run):
    snippet = (
        "from scripts.extended_training import ExtendedTrainer\n"
        "trainer = ExtendedTrainer()\n"
        "trainer.load_extended_results()\n"
        "best = trainer.get_best_configuration()\n"
        "print(best['config'], best['avg_accuracy'], best['std_accuracy'], best['avg_simulated_return'], best['rank'])"
    )
    with contextlib.chdir(finished_run.folder):
        exec(snippet, {})
    best = ExtendedTrainer(finished_run.folder).get_best_configuration()
    assert best["rank"] == 1
    assert best["trial_number"] == artifact(finished_run.folder, "best_config.json")["selection"]["trial_number"]


def test_the_study_is_an_ordinary_optuna_study(finished_run):
    study = optuna.load_study(
        study_name="hyper", storage=f"sqlite:///{finished_run.folder}/hyperparameter_tuning_results/study.db"
    )
    assert len(study.trials) == 7
    assert study.best_trial.intermediate_values
    assert study.best_value == max(t["val_accuracy"] for t in artifact(finished_run.folder, TRIALS)["trials"])


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("run_extended_training.py", "run_hyperparameter_tuning.py"),
        ("analyze_results.py", "run_hyperparameter_tuning.py"),
        ("run_final_training.py", "run_extended_training.py"),
        ("evaluate_model.py", "run_final_training.py"),
    ],
)
def test_a_phase_without_its_input_names_the_command_that_makes_it(tmp_path, script, names):
    done = run(script, tmp_path)
    assert done.returncode == 3
    assert names in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "tuning.n_random_trails=3"], "did you mean n_random_trials?"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--set", "data.source=market"], "needs `path`"),
        (["--set", "data.source=market", "--set", "data.path=nowhere.csv"], "nowhere.csv"),
        (["--device", "cuda:7"], "--device"),
        (["--workers", "0"], "--workers"),
        (["--time-budget", "soon"], "not a duration"),
        (["--set", "search_space.family=nothing"], "built in: mlp"),
        (["--set", "search_space.learning_rat=0.5"], "did you mean learning_rate?"),
        (["--set", "models.mine=nothing:make", "--set", "search_space.family=mine"], "cannot be imported"),
        (["--set", "data.synthetic.n_days=60"], "give more than"),
        (["--set", "extended.cross_validation_folds=1"], "cross_validation_folds"),
    ],
)
def test_wrong_input_ends_with_one_line_and_code_2(tmp_path, arguments, says):
    done = run("run_hyperparameter_tuning.py", tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_writes_nothing(tmp_path, tiny_config):
    folder = tmp_path / "run"
    done = run("run_hyperparameter_tuning.py", folder, "--config", tiny_config, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "epochs at most" in done.stdout
    assert not folder.exists()


def test_a_changed_config_is_named_and_fresh_keeps_the_old_results(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    changed = ["--config", finished_run.config, "--workers", 1, "--set", "data.horizon=1", "--seed", 5]
    done = run("run_hyperparameter_tuning.py", folder, *changed)
    assert done.returncode == 2
    assert "seed (0 -> 5)" in done.stderr
    assert run("run_extended_training.py", folder, *changed).returncode == 2
    done = run("run_hyperparameter_tuning.py", folder, *changed, "--fresh")
    assert done.returncode == 0, done.stderr
    assert (folder / "hyperparameter_tuning_results.before-1" / "trials.json").exists()
    assert artifact(folder, TRIALS)["seed"] == 5
    done = run("run_extended_training.py", folder, "--config", finished_run.config, "--seed", 5)
    assert done.returncode == 2
    assert "trials.json" in done.stderr


def test_damaged_artifacts_are_refused_by_name(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    for name, script in {"best_config.json": "run_final_training.py", "final_model.pkl": "evaluate_model.py"}.items():
        damaged = bytearray((folder / name).read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (folder / name).write_bytes(bytes(damaged))
        done = run(script, folder, "--fresh")
        assert done.returncode == 2
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_a_users_own_model_takes_part_and_is_never_named_in_artifacts(tmp_path, tiny_config):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n\n\n"
        "def make(hyperparameters, n_features, n_classes, window):\n"
        "    return nn.Sequential(nn.Linear(n_features, hyperparameters.n_units), nn.Tanh(),\n"
        "                         nn.Linear(hyperparameters.n_units, n_classes))\n"
    )
    own = ["--config", tiny_config, "--set", "models.mine=my_models:make", "--set", "search_space.family=mine"]
    own += ["--set", "search_space.window=1", "--set", "search_space.n_units={type: int, low: 4, high: 8}"]
    folder = tmp_path / "run"
    for script in SCRIPTS:  # the search alone in workers
        done = run(script, folder, *own, *(() if script == SCRIPTS[0] else ("--workers", 1)), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    best = (folder / "best_config.json").read_text()
    assert json.loads(best)["hyperparameters"]["family"] == "mine"
    assert "my_models" not in best
    done = run("evaluate_model.py", folder, "--fresh", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown model family 'mine'" in done.stderr


def test_an_odd_directory_name_is_no_obstacle(tmp_path, tiny_config):
    folder = tmp_path / "a b?%2F{x}ü'\"#"
    finish(folder, "--config", tiny_config, "--workers", 2, scripts=SCRIPTS[:1])
    finish(folder, "--config", tiny_config, "--workers", 1, scripts=SCRIPTS[1:2])
    assert (folder / TRIALS).exists()
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_two_workers_find_the_same_as_one(finished_run, tmp_path):
    finish(tmp_path, "--config", finished_run.config, "--workers", 2, scripts=SCRIPTS[:4])
    for name in (TRIALS, EXTENDED, "best_config.json"):
        assert without_times(artifact(tmp_path, name)) == without_times(artifact(finished_run.folder, name))


def test_help_shows_flags_and_an_example(tmp_path):
    for script in SCRIPTS:
        done = run(script, tmp_path, "--help")
        assert done.returncode == 0
        assert "--run-dir" in done.stdout
        assert "example:" in done.stdout


def test_a_diverged_trial_is_failed_and_the_search_goes_on(tmp_path, tiny_config):
    space = {
        "family": "mlp", "optimizer": "sgd", "gradient_clip": "0.0", "width": "64", "depth": "6",
        "learning_rate": "{type: categorical, choices: [0.01, 10.0]}",
    }  # fmt: skip
    flags = [part for name, value in space.items() for part in ("--set", f"search_space.{name}={value}")]
    done = run("run_hyperparameter_tuning.py", tmp_path, "--config", tiny_config, "--workers", 1, *flags)
    assert done.returncode == 0, done.stderr
    trials = artifact(tmp_path, TRIALS)["trials"]
    failed = [t for t in trials if t["state"] == "failed"]
    assert failed
    assert all(t["failure"].startswith("diverged in epoch") and t["epochs"] >= 1 for t in failed)
    assert all(t["val_accuracy"] is None for t in failed)
    assert {t["hyperparameters"]["learning_rate"] for t in failed} == {10.0}
    done = run("run_hyperparameter_tuning.py", tmp_path, "--config", tiny_config, "--workers", 1, *flags)
    assert "is finished" in done.stdout


def test_all_trials_diverged_is_the_users_matter(tmp_path, tiny_config):
    flags = ["learning_rate=10.0", "optimizer=sgd", "gradient_clip=0.0", "depth=8", "width=64", "family=mlp"]
    sets = [part for flag in flags for part in ("--set", f"search_space.{flag}")]
    done = run("run_hyperparameter_tuning.py", tmp_path, "--config", tiny_config, *sets, "--workers", 1)
    assert done.returncode == 2, done.stderr
    assert "diverged" in done.stderr


def test_every_opening_of_the_test_set_counts_also_with_fresh(finished_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    assert run("evaluate_model.py", folder, "--fresh").returncode == 0
    results = artifact(folder, "evaluation/evaluation_results.json")
    assert results["test_openings"] == 2
    assert any("opened 2 times" in warning for warning in results["warnings"])
    events = [json.loads(line)["event"] for line in (folder / "test_openings.jsonl").read_text().splitlines()]
    assert events == ["opening", "result"] * 2


def test_flags_without_effect_on_an_evaluation_are_refused(finished_run, tmp_path):
    done = run("evaluate_model.py", finished_run.folder, "--set", "data.cost_bps=500")
    assert done.returncode == 2
    assert "data.cost_bps (5.0 -> 500.0)" in done.stderr


@pytest.mark.parametrize(
    ("script", "flag", "name"),
    [
        ("run_final_training.py", "--config", TRIALS),
        ("evaluate_model.py", "--model", "best_config.json"),
        ("evaluate_model.py", "--model", "evaluation"),
        ("evaluate_model.py", "--data", "evaluation"),
    ],
)
def test_the_wrong_file_in_a_flag_is_refused(finished_run, script, flag, name):
    done = run(script, finished_run.folder, flag, finished_run.folder / name)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def prices(path, n_days, seed):
    """A CSV of two random walks; a longer one continues a shorter one of the same seed."""
    generator = np.random.default_rng(seed)
    frames = []
    for ticker in ("AAA", "BBB"):
        close = 100 * np.exp(np.cumsum(0.01 * generator.standard_normal(2000)))[:n_days]
        dates = pd.bdate_range("2012-01-02", periods=n_days).strftime("%Y-%m-%d")
        frames.append(pd.DataFrame({"date": dates, "ticker": ticker, "close": close}))
    pd.concat(frames).to_csv(path, index=False)
    return path


def test_other_data_are_judged_without_the_rows_trained_on_and_moved_data_are_found(tmp_path, tiny_config):
    own, longer = prices(tmp_path / "own.csv", 600, 1), prices(tmp_path / "longer.csv", 900, 1)
    market = ["--config", tiny_config, "--set", "data.source=market", "--set", f"data.path={own}"]
    folder = tmp_path / "run"
    finish(folder, *market, "--workers", 1)
    sealed = artifact(folder, "evaluation/evaluation_results.json")
    # The file has no open, as phases 1 to 3 noted.
    assert sealed["warnings"][0].startswith("simulated returns are filled at the deciding close")
    assert sealed["returns"]["fill"] == "close_to_close"
    assert any("overnight_gap (no open)" in note for note in sealed["notes"])
    report, card = ((folder / "evaluation" / name).read_text() for name in ("report.html", "model_card.md"))
    assert "filled at the close that decides" in report and "overnight_gap (no open)" in report
    assert "filled at the deciding close" in card and "(no open)" in card
    done = run("evaluate_model.py", folder, "--data", own, "--fresh")
    assert done.returncode == 0, done.stderr
    assert artifact(folder, "evaluation/evaluation_results.json")["n_rows"] == sealed["n_rows"]
    assert artifact(folder, "evaluation/evaluation_results.json")["test_openings"] == 2
    done = run("evaluate_model.py", folder, "--data", longer, "--fresh")
    assert done.returncode == 0, done.stderr
    results = artifact(folder, "evaluation/evaluation_results.json")
    assert results["n_rows"] == sealed["n_rows"] + 2 * 300
    assert "development rows and were left out" in " ".join(results["warnings"])
    done = run("evaluate_model.py", folder, "--data", prices(tmp_path / "own2.csv", 300, 1))
    assert done.returncode == 2
    assert "no usable row beyond the development data" in done.stderr
    # The data of the run in another place: they are found by the flag, and their content is checked.
    moved = own.rename(tmp_path / "moved.csv")
    done = run("evaluate_model.py", folder, "--set", f"data.path={moved}", "--fresh")
    assert done.returncode == 0, done.stderr
    prices(moved, 600, 2)
    done = run("evaluate_model.py", folder, "--set", f"data.path={moved}", "--fresh")
    assert done.returncode == 2
    assert "rows of the data changed" in done.stderr


def test_results_of_different_generations_are_not_mixed(finished_run, tmp_path, tiny_config):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    again = ("--config", tiny_config, "--seed", 9, "--fresh", "--workers", 1)
    assert run("run_hyperparameter_tuning.py", folder, *again).returncode == 0
    assert run("analyze_results.py", folder).returncode == 2


def test_a_table_without_time_is_split_by_class_and_reads_no_windows(tmp_path):
    config = ROOT / "configs" / "table_breast_cancer.yaml"
    few = ["tuning.n_random_trials=2", "tuning.n_bayesian_trials=1", "tuning.n_fine_tune_trials=1", "extended.top_n=1"]
    few += ["extended.extended_epochs=10", "final.epochs=10"]
    sets = [part for key in few for part in ("--set", key)]
    sets += ["--workers", 1]
    finish(tmp_path, "--config", config, *sets, scripts=SCRIPTS[:1])
    done = run("run_hyperparameter_tuning.py", tmp_path / "x", "--config", config, "--set", "search_space.family=gru")
    assert done.returncode == 2
    assert "read windows" in done.stderr
    finish(tmp_path, "--config", config, *sets, scripts=SCRIPTS[1:])
    results = artifact(tmp_path, "evaluation/evaluation_results.json")
    assert results["verdict"] == "skill"
    assert results["returns"] is None


def test_a_window_of_one_row_is_a_window(tmp_path, tiny_config):
    flags = ["--set", "search_space.family=gru", "--set", "search_space.window=1", "--set", "tuning.n_random_trials=1"]
    flags += ["--set", "tuning.n_bayesian_trials=0", "--set", "tuning.n_fine_tune_trials=0"]
    finish(tmp_path, "--config", tiny_config, "--workers", 1, *flags, scripts=SCRIPTS[:1])
