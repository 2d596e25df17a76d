"""Hostile and odd input through the real commands: names that are code, files that are traps, foreign shells."""

import contextlib
import csv
import html.parser
import io
import os
import pickle
import shutil
import subprocess

import pytest
import torch

from scripts.config.experiment import SyntheticConfig
from scripts.data.synthetic import generate
from scripts.storage.artifacts import pack_tensors
from scripts.storage.checkpoints import Checkpoints
from tests.conftest import SCRIPTS, TRIALS, artifact, command, finish, run, run_in_shell, without_times
from tests.faults.fuzz import Trap

# What a browser, a spreadsheet, a number parser, a path or a quoting rule would take for something else.
TICKERS = sorted(
    [
        "<script>alert(1)</script>",
        "=cmd|'/c calc'!A0",
        "@SUM(1)",
        "+1",
        "-1",
        "NA",
        "0700",
        "1e5",
        "../../x",
        'Zürich "O\'Hara" €',
    ]
)
PLAIN = [f"T{number:02d}" for number in range(len(TICKERS))]  # in the same order, so that all figures are the same

SMALL = """
data: {{source: market, path: {path}}}
search_space:
  family: {{type: categorical, choices: [mlp, gru]}}
  width: 8
  depth: 1
  window: {{type: int, low: 2, high: 3, when: {{family: [gru]}}}}
tuning: {{scheduler: guide, n_random_trials: 2, n_bayesian_trials: 1, n_fine_tune_trials: 1, epochs_per_trial_random: 1,
  epochs_per_trial_bayesian: 1, epochs_per_trial_fine_tune: 1}}
extended: {{top_n: 2, cross_validation_folds: 2, extended_epochs: 2, evaluation_frequency: 1}}
final: {{epochs: 2}}
"""
REPORTS = ("analysis/report.html", "evaluation/report.html")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Elements(html.parser.HTMLParser):
    """The elements of a page in order, each with the names of its attributes; the types of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.sequence, self.scripts = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.sequence.append((tag, *(name for name, _ in attrs)))
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))

    def handle_endtag(self, tag):
        self.sequence.append((f"/{tag}",))


def market(folder, tickers):
    """A small market under the given tickers and its config, in a folder with room for escapes; the flags to use it."""
    here = folder / "a" / "b"
    here.mkdir(parents=True)
    bars, _ = generate(SyntheticConfig(n_tickers=len(tickers), n_days=360, rho=0.3))
    bars["ticker"] = bars["ticker"].map(dict(zip(sorted(bars["ticker"].unique()), tickers, strict=True)))
    bars.to_csv(here / "market.csv", index=False)
    (here / "small.yaml").write_text(SMALL.format(path="market.csv"))
    return here, ["--config", here / "small.yaml", "--workers", 1]


def files_outside(folder, inside):
    """Content of every file below `folder` that is not in the run directory `inside`."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_relative_to(inside)}


@pytest.fixture(scope="module")
def hostile_run(once):
    """All five commands in a folder beside the run; nothing outside the run directory changes."""

    def fill(folder):
        here, flags = market(folder, TICKERS)
        before = files_outside(folder, here / "run")
        with contextlib.chdir(here):
            for script in SCRIPTS:
                done = run(script, here / "run", *flags)
                assert done.returncode == 0, f"{script}: {done.stderr}"
                assert "Traceback" not in done.stderr
        assert files_outside(folder, here / "run") == before

    return once("hostile", fill) / "a" / "b" / "run"


@pytest.fixture(scope="module")
def plain_run(once):
    """The same with plain tickers, for comparison."""

    def fill(folder):
        here, flags = market(folder, PLAIN)
        finish(here / "run", *flags)

    return once("plain", fill) / "a" / "b" / "run"


# --- names ----------------------------------------------------------------------------------------------------------


def test_every_hostile_ticker_is_kept_as_it_is(hostile_run):
    groups = artifact(hostile_run, "evaluation/evaluation_results.json")["by_group"]
    assert sorted(groups) == TICKERS


@pytest.mark.parametrize("name", REPORTS)
def test_reports_have_the_same_elements_for_hostile_and_plain_tickers(hostile_run, plain_run, name):
    hostile, plain = (Elements((folder / name).read_text(encoding="utf-8")) for folder in (hostile_run, plain_run))
    assert hostile.sequence == plain.sequence
    assert set(hostile.scripts) <= {"module", "application/json"}


def test_hostile_tickers_change_no_figure(hostile_run, plain_run):
    name = "evaluation/evaluation_results.json"
    theirs, ours = (artifact(folder, name) for folder in (hostile_run, plain_run))
    for figure in ("accuracy", "skill", "auc", "log_loss"):
        assert ours[figure] == theirs[figure]
    traded = [results["returns"].pop("by_group") for results in (theirs, ours)]
    assert ours["returns"] == theirs["returns"]
    assert list(traded[1].values()) == [traded[0][ticker] for ticker in TICKERS]
    assert list(ours["by_group"].values()) == [theirs["by_group"][ticker] for ticker in TICKERS]


def test_no_cell_of_the_predictions_begins_like_a_formula(hostile_run):
    with open(hostile_run / "evaluation" / "predictions.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    text = [header.index(name) for name in ("ticker", "label", "predicted")]
    cells = {row[k] for row in rows for k in text} | set(header)
    assert not [cell for cell in cells if cell.startswith(FORMULA)]
    assert {cell.removeprefix("'") for cell in cells} >= set(TICKERS)
    numbers = [row[k] for row in rows for k, name in enumerate(header) if name == "forward_return"]
    assert any(cell.startswith("-") for cell in numbers)  # numbers stay numbers


def test_artifacts_bear_only_plain_file_names(hostile_run):
    odd = [p for p in hostile_run.rglob("*") if not p.name.replace(".", "").replace("_", "").replace("-", "").isalnum()]
    assert not odd


# --- folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "run"])
def test_a_run_directory_that_cannot_be_made_is_named(tmp_path, below):
    """A path at or below a regular file: nobody, not even root, can write there."""
    obstacle = tmp_path / "obstacle"
    obstacle.write_text("mine")
    done = run("run_hyperparameter_tuning.py", obstacle / below)
    assert_kept(done, obstacle, 5)


@pytest.mark.parametrize("name", ["hyperparameter_tuning_results", "tensorboard_logs"])
def test_a_file_in_the_place_of_a_folder_is_named_and_kept(tmp_path, tiny_config, name):
    obstacle = tmp_path / name
    obstacle.write_text("mine")
    done = run("run_hyperparameter_tuning.py", tmp_path, "--config", tiny_config, "--workers", 1)
    assert_kept(done, obstacle, 2)


def test_a_file_in_the_place_of_the_evaluation_is_named_and_kept(finished_run, tmp_path):
    shutil.copytree(finished_run.folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "evaluation")
    obstacle = tmp_path / "evaluation"
    obstacle.write_text("mine")
    assert_kept(run("evaluate_model.py", tmp_path), obstacle, 2)


def assert_kept(done, obstacle, code):
    assert done.returncode == code, done.stderr
    assert str(obstacle) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert obstacle.read_text() == "mine"


def test_a_folder_whose_name_is_no_text_is_refused_also_as_the_current_one(tmp_path):
    folder = tmp_path / "\udcff"
    folder.mkdir()
    for arguments, here in ((folder, tmp_path), (".", folder)):
        done = run("run_hyperparameter_tuning.py", arguments, cwd=here)
        assert done.returncode == 2, done.stderr
        assert "not a UTF-8 path" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not list(folder.iterdir())


# --- shells ---------------------------------------------------------------------------------------------------------


def test_a_foreign_shell_and_an_odd_path_change_no_result(finished_run, tmp_path):
    environment = {
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "TZ": "Asia/Kolkata",
        "PYTHONHASHSEED": "random",
    }
    folder = tmp_path / "ä b?50%2F#'\""
    script = "run_hyperparameter_tuning.py"
    done = run_in_shell(script, folder, "--config", finished_run.config, "--workers", 1, environment=environment)
    assert done.returncode == 0, done.stderr
    assert without_times(artifact(folder, TRIALS)) == without_times(artifact(finished_run.folder, TRIALS))
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("end", ["closed", "gone"])
def test_an_output_that_nobody_reads_is_no_reason_to_fail(hostile_run, end, tmp_path):
    """Standard output closed from the start (>&-), or a pipe whose reader has left (| true)."""
    folder = shutil.copytree(hostile_run, tmp_path / "run")
    reader, writer = os.pipe()
    os.close(reader)
    redirection = ">&-" if end == "closed" else ""
    arguments = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command("analyze_results.py", folder)]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


# --- traps ----------------------------------------------------------------------------------------------------------


def trapped(container, canary):
    """Bytes that run code where they are unpickled."""
    content = {"schema_version": 1, "hyperparameters": Trap(os.mkdir, str(canary))}
    if container == "pickle":
        return pickle.dumps(content)
    if container == "signed":  # whoever can write the file can also make its digest
        return pack_tensors(content)
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=container == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["pickle", "signed"])
def test_the_traps_of_these_tests_work(tmp_path, container):
    content = trapped(container, tmp_path / "canary")
    if container == "pickle":
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("container", ["pickle", "signed"])
def test_a_model_that_is_a_trap_is_refused_unopened(tmp_path, container):
    canary, model = tmp_path / "canary", tmp_path / "final_model.pkl"
    model.write_bytes(trapped(container, canary))
    done = run("evaluate_model.py", tmp_path)
    assert done.returncode == 2, done.stderr
    assert str(model) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not canary.exists()


def test_a_configuration_that_is_a_trap_is_refused_unopened(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "best_config.json").write_bytes(trapped("pickle", canary))
    done = run("run_final_training.py", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "best_config.json" in done.stderr
    assert not canary.exists()


@pytest.mark.parametrize("container", ["pickle", "zip", "legacy", "signed"])
def test_a_checkpoint_that_is_a_trap_is_passed_over(tmp_path, container):
    canary = tmp_path / "canary"
    (tmp_path / "trial_0000.pt").write_bytes(trapped(container, canary))
    content, _, warning = Checkpoints(tmp_path).load("trial_0000")
    assert content is None
    assert "trial_0000.pt" in warning
    assert not canary.exists()
