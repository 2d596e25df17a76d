"""What several test files share: the commands as a shell runs them, and a small finished run."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests import slow

pytest.register_assert_rewrite("tests.reference_cases")
# Timing belongs into benchmarks: a slow machine must not fail a property.
settings.register_profile("calm", settings(), deadline=None)
settings.load_profile("calm")


def pytest_collection_modifyitems(items):
    """Mark what `./run_tests.sh --fast` leaves out."""
    slow.mark(items)


os.environ["HYPER_STATE_DIR"] = "none"  # openings count by run; tests of the user's ledger name a folder of their own
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

TINY = """
data:
  synthetic: {n_tickers: 4, n_days: 500, rho: 0.3}
search_space:
  family: {type: categorical, choices: [mlp, gru]}
  width: {type: categorical, choices: [8, 16]}
  depth: 1
  batch_size: {type: categorical, choices: [64, 128]}
  window: {type: int, low: 2, high: 3, when: {family: [gru]}}
tuning:
  scheduler: guide
  n_random_trials: 3
  n_bayesian_trials: 2
  n_fine_tune_trials: 2
  epochs_per_trial_random: 3
  epochs_per_trial_bayesian: 3
  epochs_per_trial_fine_tune: 4
  proposal_lag: 2
extended: {top_n: 2, extended_epochs: 6, evaluation_frequency: 2}
final: {epochs: 6}
"""

SCRIPTS = (
    "run_hyperparameter_tuning.py",
    "run_extended_training.py",
    "analyze_results.py",
    "run_final_training.py",
    "evaluate_model.py",
)


# Loaded by every Python process, workers included: connections are noted and refused. Sockets between processes of
# this machine have a path.
GUARD = """
import os, sys
FOLDER = os.path.dirname(os.path.abspath(__file__))
LOCAL = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}

def refuse(event, arguments):
    if event in NAMES or (event in LOCAL and not isinstance(arguments[1], (str, bytes, type(None)))):
        with open(FOLDER + "/connections", "a") as file:
            file.write(f"{event} {arguments[-1]}\\n")
        raise OSError("there is no network")

sys.addaudithook(refuse)
with open(FOLDER + "/processes", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


def guard_connections(folder):
    """Environment in which every Python process is guarded; `folder` then lists the processes and what they tried."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(GUARD)
    return {"PYTHONPATH": str(folder)}


def command(script, folder, *arguments):
    """Argument list of one of the commands, without a run directory if there is no folder."""
    place = () if folder is None else ("--run-dir", str(folder), "--no-progress")
    return [sys.executable, str(ROOT / script), *place, *map(str, arguments)]


def run(script, folder, *arguments, **options):
    """Run a command to its end, in a fork of a process that has imported everything; its return code and output."""
    from tests.forked import completed  # which imports all that a command needs

    return completed(script, folder, *arguments, **options)


def run_in_shell(script, folder, *arguments, environment=None, **options):
    """Run a command to its end in a Python of its own, with options of `subprocess.run`."""
    environment, typed = os.environ | (environment or {}), command(script, folder, *arguments)
    return subprocess.run(typed, capture_output=True, text=True, timeout=300, env=environment, **options)


def finish(folder, *arguments, scripts=SCRIPTS, **options):
    """Run the commands one after the other; all must succeed."""
    for script in scripts:
        done = run(script, folder, *arguments, **options)
        assert done.returncode == 0, f"{script}: {done.stderr}{done.stdout}"


def session_members(session):
    """Processes of a session that are alive."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                members.append(int(entry))
    return members


_OF_TIMES = {"sha256", "model_sha256", "inputs", "files", "created_by"}


def without_times(value):
    """An artifact without what differs between runs: times, digests of files that hold times, the source revision."""
    if isinstance(value, dict):
        return {
            name: without_times(part)
            for name, part in value.items()
            if not name.endswith(("_s", "_us_per_row")) and name not in _OF_TIMES
        }
    return [without_times(part) for part in value] if isinstance(value, list) else value


def artifact(folder, name):
    """A JSON artifact as a mapping."""
    return json.loads((Path(folder) / name).read_text())


TRIALS = "hyperparameter_tuning_results/trials.json"
EXTENDED = "extended_training_results/extended_training_results.json"


@dataclass(frozen=True)
class FinishedRun:
    """A run directory with all artifacts, the config it was made with, and the guard of its connections."""

    folder: Path
    config: Path
    guard: Path


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """The scripts beside the environment that the tests run in, as its installation left it."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in (*ROOT.glob("*.py"), *ROOT.glob("*.sh")):
        shutil.copy(path, folder)
    for name in ("configs", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "requirements").mkdir()
    for lock in ("base.lock", "torch.lock"):
        installed = Path(sys.prefix) / f"installed-{lock}"
        shutil.copy(installed if installed.exists() else ROOT / "requirements" / lock, folder / "requirements" / lock)
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """A function that fills a folder by another one, once for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def filled(name, fill):
        folder, full = base / f"once_{name}", base / f"once_{name}.full"
        with open(base / f"once_{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not full.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                full.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def tiny_config(once):
    """The smallest experiment that exercises every phase."""
    return once("config", lambda folder: (folder / "tiny.yaml").write_text(TINY)) / "tiny.yaml"


@pytest.fixture(scope="session")
def finished_run(once, tiny_config):
    """A finished pipeline, for tests that only read."""

    def fill(folder):
        guard = guard_connections(folder / "guard")
        finish(folder / "run", "--config", tiny_config, "--workers", 1, environment=guard)

    folder = once("finished", fill)
    return FinishedRun(folder / "run", tiny_config, folder / "guard")
