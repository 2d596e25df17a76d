"""The shell: an object of JSON for pipelines, help by groups, hints at the nearest valid name, plans as tables."""

import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys

import pytest

from scripts.config.experiment import Experiment
from tests.conftest import EXTENDED, ROOT, SCRIPTS, TRIALS, artifact, command, run, run_in_shell

TUNING = "run_hyperparameter_tuning.py"
COMMANDS = (*SCRIPTS, "run_placebo.py")
NOISY = """
import os

print("noise of Python")
os.write(1, b"noise of a library\\n")
raise RuntimeError("a defect of the user's own")
"""


def answer(done):
    """The one object on standard output."""
    assert len(done.stdout.splitlines()) == 1, done.stdout
    said = json.loads(done.stdout)
    assert said["exit_code"] == done.returncode, done.stderr
    assert said["seconds"] >= 0
    return said


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_json_says_what_each_command_did_with_its_main_figures(finished_run):
    said = {}
    for script in SCRIPTS:
        done = run(script, finished_run.folder, "--config", finished_run.config, "--json")
        assert done.returncode == 0, done.stderr
        said[script] = answer(done)
        assert (said[script]["command"], said[script]["run_dir"]) == (script, str(finished_run.folder))
        assert said[script]["artifacts"] and all(os.path.exists(path) for path in said[script]["artifacts"])
        assert done.stderr.strip().splitlines()[-1] == f"next: {said[script]['next']}"
    trials, extended = (artifact(finished_run.folder, name) for name in (TRIALS, EXTENDED))
    assert said[TUNING]["epochs"] == trials["epochs_spent"]
    assert said[TUNING]["best_accuracy_on_one_split"] == max(t["val_accuracy"] for t in trials["trials"])
    assert said["run_extended_training.py"]["avg_accuracy"] == extended["configurations"][0]["avg_accuracy"]
    assert said["analyze_results.py"]["epochs"] == trials["epochs_spent"] + extended["epochs_spent"]
    evaluation = artifact(finished_run.folder, "evaluation/evaluation_results.json")
    for name in ("accuracy", "skill_ci95", "verdict", "test_openings"):
        assert said["evaluate_model.py"][name] == evaluation[name]
    typed = subprocess.run(said[TUNING]["next"] + " --dry-run", shell=True, capture_output=True, text=True, timeout=120)
    assert typed.returncode == 0, typed.stderr
    assert "run_extended_training.py would do this" in typed.stdout


def bare_python(folder):
    """A Python without any library."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    return folder / "bin" / "python"


def test_a_command_begun_by_another_python_goes_over_to_the_environment_beside_it(tmp_path, finished_run):
    python = bare_python(tmp_path / "bare")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    shutil.copy(ROOT / TUNING, checkout)
    for name, target in (("scripts", ROOT / "scripts"), (".venv", sys.prefix)):
        (checkout / name).symlink_to(target)
    typed = [python, checkout / TUNING, "--run-dir", finished_run.folder, "--config", finished_run.config, "--dry-run"]
    done = subprocess.run(typed, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "would do this" in done.stdout
    (checkout / ".venv").unlink()
    done = subprocess.run(typed, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    said = f"{TUNING}: {python}: PyTorch is not installed; run ./run_pipeline.sh, which installs it in .venv"
    assert done.stderr.splitlines() == [said]


@pytest.mark.parametrize("script", COMMANDS)
def test_a_plan_is_json_too(finished_run, script):
    said = answer(run(script, finished_run.folder, "--json", "--dry-run", "--config", finished_run.config))
    assert said["plan"] and said["would_write"]
    assert "--dry-run" not in said["next"]


@pytest.mark.parametrize("script", COMMANDS)
def test_a_refusal_is_json_too(tmp_path, script):
    said = answer(run(script, tmp_path, "--json", "--workers", "none"))
    assert said["exit_code"] == 2
    assert said["error"]["where"] == "--workers"
    if script != TUNING:
        said = answer(run(script, tmp_path, "--json"))
        assert said["exit_code"] == 3
        assert said["error"].keys() == {"what", "where", "remedy"}


def test_an_end_before_the_work_is_done_names_the_command_that_goes_on(tmp_path, tiny_config):
    done = run(TUNING, tmp_path, "--config", tiny_config, "--workers", 1, "--time-budget", "1s", "--json")
    said = answer(done)
    assert said["exit_code"] == 4
    assert said["next"].endswith(f"--config {tiny_config} --workers 1 --time-budget 1s --json")


def test_nothing_but_the_object_reaches_standard_output(tmp_path, tiny_config):
    """Neither what a user's own code or a library prints, nor a defect in it."""
    (tmp_path / "noisy.py").write_text(NOISY)
    own = ["--config", tiny_config, "--set", "models.noisy=noisy:make", "--set", "search_space.family=noisy"]
    done = run(TUNING, tmp_path / "run", *own, "--json", cwd=tmp_path)
    assert "noise of Python" in done.stderr and "noise of a library" in done.stderr
    assert "Traceback" in done.stderr
    said = answer(done)
    assert said["exit_code"] == 1
    assert "a defect of the user's own" in said["error"]["what"]


def test_an_own_model_is_part_of_the_next_command(tmp_path, tiny_config):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef make(hyperparameters, n_features, n_classes, window):\n"
        "    return nn.Linear(n_features, n_classes)\n"
    )
    few = ["tuning.n_random_trials=1", "tuning.n_bayesian_trials=0", "tuning.n_fine_tune_trials=0"]
    own = ["models.mine=mine:make", "search_space.family=mine", "search_space.window=1", *few]
    sets = [part for key in own for part in ("--set", key)]
    done = run(TUNING, tmp_path / "run", "--config", tiny_config, *sets, "--workers", 1, "--json", cwd=tmp_path)
    assert answer(done)["next"].endswith("--set models.mine=mine:make"), done.stderr


def test_workers_find_the_commands_own_modules_from_anywhere(tmp_path, tiny_config):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("raise SystemExit('a package of somebody else')\n")
    few = [
        "--set",
        "tuning.n_random_trials=2",
        "--set",
        "tuning.n_bayesian_trials=0",
        "--set",
        "search_space.family=mlp",
    ]
    done = run_in_shell(TUNING, tmp_path / "run", "--config", tiny_config, *few, "--workers", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["a b", "it's", "$HOME", "~", "a;b&c|d", "*", "#1", "./-z"])
def test_a_printed_command_names_the_same_directory_to_a_shell(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    done = run("run_extended_training.py", name)
    assert done.returncode == 3
    printed = done.stderr.split("create it with ")[1].strip()
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {printed}"], capture_output=True, text=True
    ).stdout.splitlines()
    assert words[-3].endswith(f"/{TUNING}")
    assert words[-2:] == ["--run-dir", name]


def test_a_long_folder_for_temporary_files_is_no_obstacle_to_workers(tmp_path, tiny_config):
    (long := tmp_path / ("t" * 120)).mkdir()
    trials = [f"tuning.n_{stage}_trials={n}" for stage, n in (("random", 1), ("bayesian", 0), ("fine_tune", 0))]
    few = [part for given in (*trials, "search_space.family=mlp") for part in ("--set", given)]
    environment = {"TMPDIR": str(long)}
    done = run_in_shell(
        TUNING, tmp_path / "run", "--config", tiny_config, *few, "--workers", 2, environment=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert artifact(tmp_path / "run", TRIALS)["trials"][0]["state"] == "complete"


def test_too_few_open_files_for_workers_are_named_with_what_to_do(tmp_path, tiny_config):
    def allow_few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))

    done = run_in_shell(TUNING, tmp_path, "--config", tiny_config, "--workers", 2, preexec_fn=allow_few)
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done.stderr
    assert "ulimit -n" in done.stderr


# --- help and hints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", COMMANDS)
def test_help_has_groups_an_example_and_a_default_for_every_value(tmp_path, script):
    done = run(script, tmp_path, "--help", environment={"COLUMNS": "200"})
    for group in ("the experiment:", "execution:", "output:", "example: "):
        assert f"\n{group}" in done.stdout
    described = re.findall(r"^  (?:-\w, )?(--[\w-]+) ([A-Z{\d|a-z]\S*)(?: \[\S+ \.\.\.\])?\s+(.*)$", done.stdout, re.M)
    assert {"--run-dir", "--workers", "--seed"} <= {flag for flag, _, _ in described}
    for flag, _, text in described:
        assert "default: " in text, (flag, text)


def test_the_defaults_that_help_shows_are_those_of_the_config(tmp_path):
    experiment = Experiment()
    for script, shown in {
        "run_extended_training.py": (experiment.extended.top_n, experiment.extended.extended_epochs),
        "run_final_training.py": (experiment.final.epochs,),
    }.items():
        text = run(script, tmp_path, "--help", environment={"COLUMNS": "200"}).stdout
        assert all(f"(default: {value})" in text for value in (*shown, experiment.seed))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--work", "2", "--dry-runn"], "did you mean --dry-run?"),
        (["--keep-checkpoints", "bset"], "did you mean best?"),
        (["--set", "data.label=next_directoin"], "did you mean next_direction?"),
        (["--set", "tuning.scheduler=rung"], "did you mean rungs?"),
        (["--set", "tunning.scheduler=rungs"], "did you mean tuning?"),
        (["--set", "search_space.optimizer=adamww"], "did you mean adamw?"),
        (["--set", "search_space.schedule={type: categorical, choices: [cosin, constant]}"], "did you mean cosine?"),
        (["--set", "search_space.family=resnett"], "did you mean resnet?"),
        (["--set", "extended.selection_order=[std_acuracy]"], "did you mean std_accuracy?"),
    ],
)
def test_a_mistyped_name_or_value_gets_the_nearest_valid_one(tmp_path, arguments, hint):
    done = run(TUNING, tmp_path, *arguments)
    assert done.returncode == 2
    assert hint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# --- what a terminal shows ------------------------------------------------------------------------------------------


def on_a_terminal(arguments, **environment):
    """What a command writes to a terminal that knows colours."""
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "CI"}}
    leader, follower = pty.openpty()
    with subprocess.Popen(
        arguments, env=plain | {"TERM": "xterm-256color"} | environment, stdout=follower, stderr=follower, cwd=ROOT
    ) as process:
        os.close(follower)
        written = b""
        try:
            while block := os.read(leader, 65536):
                written += block
        except OSError:  # Linux says so when the last writer is gone
            pass
    os.close(leader)
    assert process.returncode == 0, written
    return written.decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)(?:;\d+)*m")
PROGRESS = """
from scripts.execution.progress import Progress
with Progress("tuning", 20, enabled=True) as progress:
    progress.finished("trial 0", "stopped", 0.5, 2)
"""


def test_no_color_takes_colours_from_the_terminal():
    assert COLOUR.search(on_a_terminal([sys.executable, "-c", PROGRESS]))
    assert not COLOUR.search(on_a_terminal([sys.executable, "-c", PROGRESS], NO_COLOR="1"))


def test_a_dry_run_is_a_table_of_all_that_would_be_done(tmp_path, tiny_config):
    folder = tmp_path / "run"
    done = subprocess.run(
        command(TUNING, folder, "--config", tiny_config, "--dry-run"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^ *(\S[\w ]*\S)   +(\S.*)$", done.stdout, re.M))
    assert rows.keys() >= {"data", "classes", "development rows", "folds of phase 2", "epochs at most", "writes"}
    assert rows["epochs at most"] == "23"
    assert rows["data"].startswith("synthetic, label next_direction")
    assert done.stdout.count("(new)") == 2
    assert not folder.exists()
