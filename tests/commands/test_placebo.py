"""The placebo test judges the run that it is given, by the run's own experiment."""

import shutil

from scripts.config.recorded import differing_keys
from tests.conftest import artifact, run

PLAN = "hyperparameter_tuning_results/plan.json"


def test_placebos_are_made_with_the_runs_own_experiment_and_data(tmp_path, finished_run):
    """As the evaluation prints the command: without the --config that the run was made with."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder, ignore=shutil.ignore_patterns("tensorboard_logs"))
    done = run("run_placebo.py", folder, "--n", 1, "--workers", 1)
    assert done.returncode == 0, done.stderr
    real, placebo = (artifact(folder / below, PLAN)["experiment"] for below in ("", "placebo/1"))
    assert [key.partition(" ")[0] for key in differing_keys(real, placebo)] == ["data.placebo"]
    results = artifact(folder, "placebo/placebo_results.json")
    assert results["data_fingerprint"] == artifact(folder, PLAN)["data_fingerprint"]
    done = run("run_placebo.py", folder, "--n", 1, "--set", "data.embargo=7")
    assert done.returncode == 2 and "data.embargo" in done.stderr
    (folder / "final_model.pkl").write_bytes(b"another model")
    done = run("run_placebo.py", folder, "--n", 1)
    assert done.returncode == 2 and "another model" in done.stderr
