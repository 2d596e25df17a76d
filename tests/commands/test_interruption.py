"""Interruptions: after a kill, a signal or the end of the time, the same command resumes with the same bits."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import (
    EXTENDED,
    ROOT,
    SCRIPTS,
    TRIALS,
    artifact,
    command,
    finish,
    run,
    session_members,
    without_times,
)
from tests.final_models import differing_parts

# Epochs long enough that a signal finds the command in the middle of training.
LONG = ["--set=tuning.epochs_per_trial_random=60", "--set=tuning.early_stopping_patience=60"]
LONG += [f"--set=tuning.n_{stage}_trials={n}" for stage, n in (("random", 2), ("bayesian", 1), ("fine_tune", 1))]


@pytest.fixture(scope="session")
def long_run(once, finished_run):
    """Trials of phase 1 with these epochs, left alone."""

    def fill(place):
        finish(place / "run", "--config", finished_run.config, *LONG, "--workers", 1, scripts=SCRIPTS[:1])

    return without_times(artifact(once("long", fill) / "run", TRIALS))


def wait_for(path, seconds=300):
    """Wait until a file is there."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_kills_at_random_moments_change_nothing(finished_run, tmp_path):
    """Every phase is killed several times; all artifacts equal those of the run that was left alone."""
    generator = random.Random(1)
    flags = ("--config", finished_run.config, "--workers", 1)
    for script in SCRIPTS:
        for _ in range(2):
            done = run(script, tmp_path, *flags, interrupt=(generator.uniform(0.2, 2.0), signal.SIGKILL))
            if done.returncode == 0:
                break  # it was faster than the kill
            assert done.returncode == -signal.SIGKILL, done.stderr
        finish(tmp_path, *flags, scripts=[script])
    for name in (TRIALS, EXTENDED, "best_config.json"):
        assert without_times(artifact(tmp_path, name)) == without_times(artifact(finished_run.folder, name)), name
    assert not differing_parts(tmp_path, finished_run.folder)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_search_resumably(finished_run, tmp_path, number, workers):
    sign = tmp_path / "hyperparameter_tuning_results" / "checkpoints" / "trial_0000.pt"
    flags = ("--config", finished_run.config, *LONG, "--workers", workers)
    done = run(SCRIPTS[0], tmp_path, *flags, interrupt=(sign, number))
    assert done.returncode == 130, done.stderr
    assert "rerun the same command to resume" in done.stderr
    assert "Traceback" not in done.stderr


def heeds_signals(process):
    """Wait until a process has its own handler of SIGTERM."""
    while process.poll() is None:
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())[1]
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, 3.0])
def test_a_signal_while_a_command_starts_ends_it_with_one_line(tmp_path, seconds):
    """Ctrl-C reaches the process that workers are forked from too, while it imports."""
    for script, flags in ((SCRIPTS[0], ["--workers", "2"]), (SCRIPTS[0], ["--workers", "1", "--json"])):
        arguments = command(script, tmp_path / "run", *flags)
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        heeds_signals(process)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        lines = errors.splitlines()
        if "--json" in flags:  # standard error then has what a quick command has already printed, too
            assert json.loads(said)["exit_code"] == 130
            lines = [line for line in lines if not line.startswith(("note: ", "leak check: ", "phase 1: "))]
        assert len(lines) == 1, errors
        assert "interrupted" in lines[0]


PROGRAM = """
import os, signal, sqlite3, sys, time
sys.path.insert(0, sys.argv[1])
from scripts.execution import interruption
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
if sys.argv[2] == "destructor":
    interruption.heed()
    late = Late()
    del late
if sys.argv[2] == "library":
    interruption.heed_in_calls(lambda: interruption.announce("program"))
    print(flush=True)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n"
    sqlite3.connect(":memory:").execute(endless)
if sys.argv[2] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption.heed()
    os.kill(os.getpid(), signal.SIGHUP)
    print("alive")
if sys.argv[2] == "raised":
    interruption.heed_in_calls(lambda: interruption.announce("program"))
    with interruption.raised(), interruption.work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            print("in order", flush=True)
if sys.argv[2] == "late":
    read = os.read
    interruption.os.read = lambda *given: [read(*given), time.sleep(0.3)][0]
    interruption.heed_in_calls(lambda: interruption.announce("program"))
    try:
        with interruption.raised(), interruption.work():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    finally:
        time.sleep(1)
        print("in order")
"""


def program(what):
    """A process that heeds signals while it does something."""
    arguments = [sys.executable, "-c", PROGRAM, str(ROOT), what]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_no_destructor_swallows_a_signal():
    process = program("destructor")
    assert "interrupted" in process.communicate(timeout=60)[1]
    assert process.returncode == 130


def test_a_long_call_of_a_library_is_ended_by_a_signal():
    """Python's own handlers would wait for its end, which never comes."""
    process = program("library")
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert "interrupted" in process.communicate(timeout=60)[1]
    assert process.returncode == 130


def test_a_hangup_does_not_end_a_command_begun_by_nohup():
    process = program("nohup")
    assert process.communicate(timeout=60) == ("alive\n", "")


@pytest.mark.parametrize("what", ["raised", "late"])
def test_what_must_be_left_in_order_is_unwound(what):
    """Also where the thread that watches for signals comes late, after the work was left."""
    process = program(what)
    said, errors = process.communicate(timeout=60)
    assert said == "in order\n"
    assert "Interrupted" in errors


def test_a_killed_search_with_two_workers_loses_no_trial(finished_run, tmp_path):
    flags = ("--config", finished_run.config, "--workers", 2)
    for seconds in (3.0, 4.0, 5.0):
        run(SCRIPTS[0], tmp_path, *flags, interrupt=(seconds, signal.SIGKILL))
    finish(tmp_path, *flags, scripts=SCRIPTS[:1])
    assert without_times(artifact(tmp_path, TRIALS)) == without_times(artifact(finished_run.folder, TRIALS))


def test_workers_end_with_their_parent(finished_run, tmp_path):
    arguments = command(
        "run_hyperparameter_tuning.py", tmp_path, "--config", finished_run.config, *LONG, "--workers", 2
    )
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(tmp_path / "hyperparameter_tuning_results" / "checkpoints" / "trial_0000.pt")
    session = process.pid
    assert len(session_members(session)) >= 3
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while session_members(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session_members(session)
    again = ("--config", finished_run.config, *LONG, "--time-budget", "1s", "--workers", 1)
    done = run("run_hyperparameter_tuning.py", tmp_path, *again)
    assert done.returncode == 4, done.stderr  # the lock is free, the work goes on


def test_placebos_end_with_their_parent(finished_run, tmp_path):
    """A killed command leaves no worker running, and the same command resumes."""
    shutil.copytree(finished_run.folder, tmp_path, dirs_exist_ok=True)
    arguments = command("run_placebo.py", tmp_path, "--config", finished_run.config, "--n", 2, *LONG, "--workers", 2)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for k in (1, 2):
        wait_for(tmp_path / "placebo" / str(k) / "hyperparameter_tuning_results" / "study.db")
    assert len(session_members(process.pid)) == 3
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while session_members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session_members(process.pid)
    done = run("run_placebo.py", tmp_path, "--config", finished_run.config, "--n", 1, *LONG, "--time-budget", "1s")
    assert done.returncode == 4, done.stderr


def test_a_command_whose_parent_is_gone_already_does_not_start(tmp_path):
    launcher = ROOT / "scripts" / "execution" / "die_with_parent.py"
    arguments = [sys.executable, "-c", "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()", tmp_path / "ran"]
    for parent, code in ((os.getpid(), 0), (2**22 + 1, 1)):
        (tmp_path / "ran").unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-IS", launcher, str(parent), *arguments], check=False)
        assert done.returncode == code
        assert (tmp_path / "ran").exists() == (code == 0)


def test_a_worker_that_dies_is_replaced_and_its_trial_goes_on(finished_run, long_run, tmp_path):
    arguments = command(
        "run_hyperparameter_tuning.py", tmp_path, "--config", finished_run.config, *LONG, "--workers", 2
    )
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    wait_for(tmp_path / "hyperparameter_tuning_results" / "checkpoints" / "trial_0001.pt")
    busiest = max((p for p in session_members(process.pid) if p != process.pid), key=lambda p: _cpu_ticks(p))
    os.kill(busiest, signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    trials = artifact(tmp_path, TRIALS)["trials"]
    assert len(trials) == 4
    assert all(t["state"] != "failed" for t in trials)
    assert without_times(artifact(tmp_path, TRIALS)) == long_run


def _cpu_ticks(process):
    """CPU time a process has used."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[11])
    except OSError:
        return -1


def test_a_second_command_on_the_run_directory_is_refused(finished_run, tmp_path):
    arguments = command("run_hyperparameter_tuning.py", tmp_path, "--config", finished_run.config, *LONG)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "hyperparameter_tuning_results" / "study.db")
    done = run("run_hyperparameter_tuning.py", tmp_path, "--config", finished_run.config, *LONG)
    process.kill()
    process.wait()
    assert done.returncode == 2
    assert f"in use by pid {process.pid}" in done.stderr


@pytest.mark.parametrize(("script", "n_before"), [(SCRIPTS[0], 0), (SCRIPTS[1], 1), (SCRIPTS[3], 3)])
def test_the_time_budget_ends_each_phase_resumably(finished_run, tmp_path, script, n_before):
    inputs = ("hyperparameter_tuning_results", "extended_training_results", "best_config.json")
    for name in inputs[: n_before and (1 if n_before == 1 else 3)]:
        source = finished_run.folder / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path / name)
    done = run(script, tmp_path, "--config", finished_run.config, "--workers", 1, "--time-budget", "0.001s")
    assert done.returncode == 4, done.stderr
    assert "rerun the same command to resume" in done.stderr
    finish(tmp_path, "--config", finished_run.config, "--workers", 1, scripts=[script])


def test_a_corrupt_checkpoint_is_noticed_and_the_one_before_taken(finished_run, long_run, tmp_path):
    flags = ("--config", finished_run.config, *LONG, "--workers", 1)
    folder = tmp_path / "hyperparameter_tuning_results" / "checkpoints"
    run(SCRIPTS[0], tmp_path, *flags, interrupt=(folder / "trial_0000.earlier.pt", signal.SIGINT))
    earlier = next(folder.glob("*.earlier.pt"))
    content = earlier.read_bytes()
    earlier.with_name(earlier.name.replace(".earlier", "")).write_bytes(content[: len(content) // 2])
    done = run(SCRIPTS[0], tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert "resuming from the previous checkpoint" in done.stdout
    assert without_times(artifact(tmp_path, TRIALS)) == long_run
