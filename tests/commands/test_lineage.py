"""The test set is opened for the model that the run's phases lead to, and not without a warning for a poor one."""

import shutil

import pytest

from scripts.evaluation.warnings import shortfall
from scripts.storage.artifacts import read_tensors, write_tensors
from scripts.storage.score_records import Promise
from tests.conftest import SCRIPTS, TRIALS, artifact, run
from tests.signed import edit_json

TUNING, EXTENDED, ANALYSIS, FINAL, EVALUATION = SCRIPTS


@pytest.fixture
def folder(finished_run, tmp_path):
    """A finished run to be changed."""
    return shutil.copytree(finished_run.folder, tmp_path / "run")


def assert_refused(folder, words, again):
    ledger, results = ((folder / name).read_bytes() for name in ("test_openings.jsonl", "evaluation/report.html"))
    done = run(EVALUATION, folder)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    for part in ("final_model.pkl: is older than", words, again, f"--run-dir {folder}_old --model"):
        assert part in line
    assert ledger == (folder / "test_openings.jsonl").read_bytes()
    assert results == (folder / "evaluation" / "report.html").read_bytes()


def test_a_search_that_was_started_again_makes_the_model_an_old_one(folder, tiny_config):
    """Also while it is not finished."""
    begun = run(TUNING, folder, "--config", tiny_config, "--fresh", "--seed", 5, "--time-budget", "0.001s")
    assert begun.returncode == 4, begun.stderr
    assert_refused(folder, "phase 1 was started with other settings (seed (5 -> 0))", f"{EXTENDED} --run-dir")


def test_phase_2_that_was_run_again_makes_the_model_an_old_one_until_it_is_trained_again(folder):
    begun = run(EXTENDED, folder, "--fresh", "--epochs", 2, "--time-budget", "0.001s", "--workers", 1)
    assert begun.returncode == 4, begun.stderr
    assert_refused(folder, "phase 2 was started with other settings (extended.extended_epochs (2 -> 6))", EXTENDED)
    assert run(EXTENDED, folder, "--epochs", 2, "--workers", 1).returncode == 0
    assert_refused(folder, "it was trained from another best_config.json", f"{FINAL} --run-dir {folder} --fresh")
    # The second of the two commands that the line names: the old model, judged apart.
    apart = folder.with_name("run_old")
    done = run(EVALUATION, apart, "--model", folder / "final_model.pkl")
    assert done.returncode == 0, done.stderr
    # The first: the current one.
    assert run(FINAL, folder, "--fresh", "--workers", 1).returncode == 0
    done = run(EVALUATION, folder)
    assert done.returncode == 0, done.stderr
    assert artifact(folder, "evaluation/evaluation_results.json")["test_openings"] == 2


def test_a_choice_that_was_only_written_again_changes_nothing(folder):
    before = (folder / "best_config.json").read_bytes()
    (folder / "best_config.json").unlink()
    assert "this evaluation is finished" in run(EVALUATION, folder).stdout
    assert run(ANALYSIS, folder, "--select", "rule").returncode == 0
    text = (folder / "best_config.json").read_text()
    assert text.encode() == before
    (folder / "best_config.json").write_text("{}")
    done = run(EVALUATION, folder)
    assert done.returncode == 0 and "could not be checked" in done.stdout


def test_a_search_that_trained_another_trial_again_leaves_the_choice_in_force(folder):
    best = artifact(folder, "best_config.json")
    number, path = best["selection"]["trial_number"], folder / TRIALS

    def change(own, name, value):
        def edit(body):
            trial = next(t for t in body["trials"] if (t["number"] == number) == own)
            trial.update({name: value} if name != "hyperparameters" else {name: trial[name] | value})

        edit_json(path, edit)

    change(False, "duration_s", 12.5)
    assert "this evaluation is finished" in run(EVALUATION, folder).stdout
    change(True, "hyperparameters", {"learning_rate": best["hyperparameters"]["learning_rate"] * 2})
    assert_refused(folder, "phase 1 was run again", f"{EXTENDED} --run-dir")


def test_a_model_of_another_run_is_judged_and_named(folder, finished_run, tmp_path):
    model = shutil.copy(finished_run.folder / "final_model.pkl", tmp_path / "other.pkl")
    done = run(EVALUATION, folder, "--model", model)
    assert done.returncode == 0, done.stderr
    assert "other.pkl is not the final model of this run directory" in done.stdout


# --- what phase 2 promises ------------------------------------------------------------------------------------------


def test_only_a_model_that_does_not_lead_out_of_fold_falls_short():
    assert shortfall(Promise(skill=0.001, skill_se=0.1)) == shortfall(Promise(skill=None, skill_se=None)) == ""
    assert "is 0.8 pp behind the best naive rule (s.e. 0.4 pp)" in shortfall(Promise(skill=-0.008, skill_se=0.004))
    assert "is level with the best naive rule" in shortfall(Promise(skill=0.0, skill_se=0.0))


def test_a_model_that_promises_nothing_is_warned_of_before_the_test_set_is_opened(finished_run, tmp_path):
    content = read_tensors(finished_run.folder / "final_model.pkl", FINAL)
    content["selection"] |= {"skill": -0.02, "skill_se": 0.01}
    model, folder = tmp_path / "final_model.pkl", tmp_path / "run"
    write_tensors(model, content)
    done = run(EVALUATION, folder, "--model", model, "--only-if-promising")
    assert done.returncode == 2
    assert "the test set stays sealed: out of fold the model is 2.0 pp behind" in done.stderr
    assert not (folder / "test_openings.jsonl").exists() and not (folder / "evaluation").exists()
    done = run(EVALUATION, folder, "--model", model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("warning: out of fold the model is 2.0 pp behind") < done.stdout.index("verdict")
    warnings = artifact(folder, "evaluation/evaluation_results.json")["warnings"]
    assert any("2.0 pp behind the best naive rule" in warning for warning in warnings)
    # What was opened already is shown.
    assert run(EVALUATION, folder, "--model", model, "--only-if-promising").returncode == 0
