"""Recovery: a damaged artifact of any phase is made again by the command that the refusal prints, without training."""

import shlex
import shutil

import pytest

from scripts.storage.artifacts import unpack_tensors
from tests.conftest import EXTENDED, ROOT, SCRIPTS, TRIALS, artifact, run, without_times

TUNING, SECOND, ANALYSIS, FINAL, EVALUATION = SCRIPTS
ARTIFACTS = {
    TRIALS: SECOND,
    "hyperparameter_tuning_results/plan.json": SECOND,
    "hyperparameter_tuning_results/validation_by_date.parquet": ANALYSIS,
    EXTENDED: ANALYSIS,
    "extended_training_results/plan.json": ANALYSIS,
    "extended_training_results/out_of_fold_predictions.parquet": ANALYSIS,
    "best_config.json": FINAL,
    "final_training_results/plan.json": FINAL,
    "final_training_results/final_training_results.json": FINAL,
    "final_model.pkl": EVALUATION,
}


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "deleted":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content)


def curves(folder):
    """Learning curves of all checkpoints, with the seconds that each epoch took."""
    return {p.name: unpack_tensors(p.read_bytes())["history"] for p in folder.rglob("checkpoints/*.pt")}


def printed_command(errors):
    """The command that a refusal names, as it stands."""
    words = shlex.split(errors.strip().splitlines()[-1].rpartition(" with ")[2])
    at = next(k for k, word in enumerate(words) if word.endswith(".py"))
    assert (ROOT / words[at]).is_file() and words[at + 1] == "--run-dir"
    return words[at].rpartition("/")[2], words[at + 2], words[at + 3 :]


CASES = [(name, "flipped") for name in ARTIFACTS]
CASES += [(TRIALS, "cut"), ("hyperparameter_tuning_results/plan.json", "deleted"), ("final_model.pkl", "deleted")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_printed_command_makes_a_damaged_artifact_again(tmp_path, finished_run, name, kind):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder, ignore=shutil.ignore_patterns("tensorboard_logs", "evaluation"))
    command, states, before = ARTIFACTS[name], curves(folder), (folder / name).read_bytes()
    damage(folder / name, kind)
    for _ in range(4):  # one may depend on another
        done = run(command, folder, "--workers", 1)
        if done.returncode == 0:
            break
        assert done.returncode in (2, 3), done.stderr
        script, where, flags = printed_command(done.stderr)
        assert where == str(folder)
        mended = run(script, folder, *flags, "--workers", 1)
        assert mended.returncode in (0, 2, 3), mended.stderr
    assert done.returncode == 0, done.stderr
    assert curves(folder) == states  # nothing was trained again
    if name.endswith(".json"):
        again, original = (without_times(artifact(f, name)) for f in (folder, finished_run.folder))
        original.pop("device", None)  # of the plan: a finished phase needs none
        again.pop("device", None)
        assert again == original
    else:
        assert (folder / name).read_bytes() == before
    backup = (folder / name).with_name((folder / name).name + ".before-1")
    assert backup.exists() == (kind != "deleted")


def test_a_lost_plan_lets_no_other_config_in(tmp_path, finished_run):
    folder = tmp_path / "run"
    tuning = folder / "hyperparameter_tuning_results"
    shutil.copytree(finished_run.folder / tuning.name, tuning)
    for name in ("plan.json", "config.yaml"):
        (tuning / name).unlink()
    other = ["--config", finished_run.config, "--seed", 7, "--workers", 1]
    done = run(TUNING, folder, *other)
    assert done.returncode == 2 and "another config_hash" in done.stderr
    (folder / TRIALS).unlink()
    done = run(TUNING, folder, *other)
    assert done.returncode == 2 and "started with another config_hash" in done.stderr
    assert run(TUNING, folder, *other[:2], "--workers", 1).returncode == 0
    for name in ("plan.json", "config.yaml", "study.db", "trials.json"):
        (tuning / name).unlink()
    done = run(TUNING, folder, *other)
    assert done.returncode == 2 and "made by another configuration" in done.stderr


def test_results_of_a_fresh_phase_1_are_not_mixed_with_an_old_choice(tmp_path, finished_run):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder, ignore=shutil.ignore_patterns("tensorboard_logs", "final*"))
    shutil.rmtree(folder / "hyperparameter_tuning_results")
    done = run(FINAL, folder, "--workers", 1)
    assert done.returncode == 2 and "trials.json, which is missing" in done.stderr
    done = run(FINAL, tmp_path / "elsewhere", "--config", folder / "best_config.json", "--dry-run")
    assert done.returncode == 0, done.stderr  # named, it stands for itself


@pytest.mark.parametrize("given", ["theirs.pkl", "elsewhere/theirs.pkl", "run/final_model.pkl"])
def test_only_a_file_of_the_run_directory_is_made_again_by_a_command_on_it(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / given).parent.mkdir(exist_ok=True)
    (tmp_path / given).write_bytes(b"damaged")
    done = run(EVALUATION, "run", "--model", given)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert ("--run-dir run" in done.stderr) == given.startswith("run/")
