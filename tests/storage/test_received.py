"""Runs received from somebody else, with valid digests: none of their files names code or takes more than its size."""

import re
import shutil

import pytest

from scripts.errors import InputError
from scripts.storage.artifacts import write_json
from scripts.storage.database import locate_study, server_url
from scripts.storage.run_dir import RunDir
from tests.conftest import ROOT, run, run_in_shell
from tests.faults.received import (
    ANALYSE,
    COMPARE,
    ELSEWHERE,
    EVALUATE,
    EVALUATED,
    EXPORT,
    EXTEND,
    EXTENDED,
    FINAL,
    FINALISE,
    NEXT,
    PLACEBO,
    PREDICT,
    TUNE,
    TUNING,
    WARM,
)
from tests.signed import edit_json, edit_tensors

PLANTED = """
import pathlib
pathlib.Path(__file__).with_name("PLANTED").touch()
from scripts.training.models.mlp import MLP
def make(hyperparameters, n_features, n_classes, window):
    return MLP(hyperparameters, n_features, n_classes)
"""
MODELS = {"mlp": "planted:make", "gru": "planted:make"}


@pytest.fixture
def received(finished_run, tmp_path, monkeypatch):
    """A received run in a folder of the current directory, in which a module lies that must not be imported."""
    shutil.copytree(finished_run.folder, tmp_path / "received")
    (tmp_path / "planted.py").write_text(PLANTED)
    (tmp_path / "new.csv").write_text("date,close\n2020-01-01,1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "received"


def carry_out(step, received, finished_run, *more):
    """Run a command on a received run; it must import nothing, and may end in one line."""
    script, removed, flags = step
    for name in removed:
        path = received / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    flags = [flag.format(config=finished_run.config, calm=finished_run.folder, data="new.csv") for flag in flags]
    folder = received.with_name("own") if step in ELSEWHERE else received
    done = run(script, folder, "--workers", 1, "-q", *flags, *more)
    assert not received.with_name("PLANTED").exists(), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def plant(body):
    """Name code in an artifact, wherever one could."""
    for place in (body, body.get("experiment"), *body.get("members", [])):
        if place is not None:
            place["models"] = MODELS


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (TUNE, [f"{TUNING}/plan.json"]),
        (EXTEND, [f"{TUNING}/plan.json", f"{TUNING}/trials.json"]),
        (ANALYSE, [f"{TUNING}/trials.json", f"{EXTENDED}/plan.json"]),
        (FINALISE, ["best_config.json", f"{EXTENDED}/plan.json"]),
        (EVALUATE, [f"{TUNING}/plan.json", "best_config.json", f"{FINAL}/final_training_results.json"]),
        (NEXT, [f"{TUNING}/plan.json"]),
        (WARM, [f"{TUNING}/plan.json", f"{TUNING}/trials.json"]),
        (COMPARE, [f"{EXTENDED}/plan.json", f"{EXTENDED}/extended_training_results.json"]),
        (PLACEBO, [f"{TUNING}/plan.json", "evaluation/evaluation_results.json"]),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_json_artifact_that_names_code_is_not_obeyed(received, finished_run, step, names):
    for name in names:
        edit_json(received / name, plant)
    assert carry_out(step, received, finished_run).returncode in (0, 2)


@pytest.mark.parametrize("step", [EVALUATE, PREDICT, EXPORT], ids=["judge", "predict", "export"])
def test_a_model_file_that_names_code_is_not_obeyed(received, finished_run, step):
    edit_tensors(received / "final_model.pkl", plant)
    assert carry_out(step, received, finished_run).returncode in (0, 2)


def changes_of_an_evaluation():
    """Changes of an evaluation that left a field of another type, or none, to a reader of it."""
    return {
        "no digest of the model": lambda body: body["opened"].pop("model_sha256"),
        "constant answer": lambda body: body.update(constant_answer=5),
        "primary test": lambda body: body.pop("primary_test"),
        "uncorrected interval": lambda body: body.update(skill_ci95_uncorrected=None, corrected_for_openings=2),
        "digests of the pages": lambda body: body.pop("files"),
    }


@pytest.mark.parametrize("what", changes_of_an_evaluation())
@pytest.mark.parametrize("step", [EVALUATED, PLACEBO], ids=lambda step: step[0])
def test_an_evaluation_of_another_shape_is_refused_or_made_again(received, finished_run, step, what):
    edit_json(received / "evaluation" / "evaluation_results.json", changes_of_an_evaluation()[what])
    assert carry_out(step, received, finished_run).returncode in (0, 2)


def test_a_suggested_search_space_that_names_code_is_not_obeyed(received, finished_run):
    suggestion = received / "analysis" / "suggested_search_space.yaml"
    suggestion.write_text(suggestion.read_text() + "models: {mlp: 'planted:make', gru: 'planted:make'}\n")
    assert carry_out(NEXT, received, finished_run).returncode in (0, 2)


def test_a_family_of_the_users_own_needs_its_factory_on_the_command_line(received, finished_run):
    def rename(body):
        for trial in body["trials"]:
            trial["hyperparameters"] |= {"family": "planted"}

    edit_json(received / TUNING / "trials.json", rename)
    done = carry_out(EXTEND, received, finished_run)
    assert done.returncode == 2
    assert "--set models.planted=package.module:factory" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("family", ["x=planted:make --set models.mlp", "a\x1b[2J", "../x", "x" * 65, ""])
def test_a_family_with_another_name_than_a_plain_one_is_not_repeated(received, finished_run, family):
    def rename(body):
        for member in body["members"]:
            member["hyperparameters"] |= {"family": family}

    edit_tensors(received / "final_model.pkl", rename)
    done = carry_out(EVALUATE, received, finished_run)
    assert done.returncode == 2
    assert "planted" not in done.stderr and "\x1b" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["../../mine", "/tmp", "", ".", "a/b", "x\n", None, 3, ["x"]])
def test_a_study_whose_name_is_not_a_plain_one_is_refused(tmp_path, name):
    run_dir = RunDir(tmp_path)
    run_dir.tuning.mkdir()
    write_json(run_dir.study_on_server, {"study_name": name})
    with pytest.raises(InputError, match=r"study_name.*study_on_server|study_on_server.*study_name"):
        locate_study(run_dir, server_url("postgresql+psycopg://hyper@127.0.0.1/hyper", from_command_line=True))


def test_modules_of_the_current_directory_are_not_imported(tmp_path, tiny_config):
    """Of a command, its workers, pip and TensorBoard; PYTHONSAFEPATH, which leaves it out, breaks nothing."""
    for name in ("pip", "venv", "socket", "signal", "struct", "selectors", "tempfile", "tensorboard", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('PLANTED', 'a').write(__name__)\n")
    few = ["tuning.n_random_trials=2", "tuning.n_bayesian_trials=0", "tuning.n_fine_tune_trials=0"]
    sets = [part for key in few for part in ("--set", key)]
    for safe in ("", "1"):
        environment = {"PYTHONSAFEPATH": safe}
        flags = ("--config", tiny_config, "--workers", 2, *sets)
        done = run_in_shell("run_hyperparameter_tuning.py", f"run{safe}", *flags, cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "PLANTED").exists()


@pytest.mark.parametrize("name", ["setup_environment.sh", "start_tensorboard.sh", "run_tests.sh", "run_pipeline.sh"])
def test_shell_scripts_keep_the_current_directory_out_where_they_import_by_name(name):
    calls = re.findall(r'"\$(?:python|candidate)"((?: -[PI])?) -([mc]) (\S+)', (ROOT / name).read_text())
    of_the_tests = {"ruff", "mypy", "pytest", "tests.faults.soak"}  # run in the folder of the project itself
    assert [module for apart, _, module in calls if not apart and module not in of_the_tests] == []
    assert calls or name == "run_pipeline.sh"
