"""The five commands as a user runs them: artifacts, exit codes, and what is said."""

import json
import os
import shutil
import subprocess
import sys

import optuna
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
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=finished_run.folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
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
        (["--time-budget", "soon"], "no duration"),
        (["--set", "search_space.family=nothing"], "built in: mlp"),
        (["--set", "models.mine=nothing:make", "--set", "search_space.family=mine"], "cannot be imported"),
        (["--set", "data.synthetic.n_days=60"], "history"),
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
    changed = ["--config", finished_run.config, "--set", "data.horizon=1", "--seed", 5]
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
    for script in SCRIPTS:
        done = run(script, folder, *own, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    best = (folder / "best_config.json").read_text()
    assert json.loads(best)["hyperparameters"]["family"] == "mine"
    assert "my_models" not in best
    done = run("evaluate_model.py", folder, "--fresh", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown model family 'mine'" in done.stderr


def test_an_odd_directory_name_is_no_obstacle(tmp_path, tiny_config):
    folder = tmp_path / "a b?%2F{x}ü'\"#"
    finish(folder, "--config", tiny_config, scripts=SCRIPTS[:2])
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
