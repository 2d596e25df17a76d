"""The commands in processes forked from one that has imported everything: as many accidents as possible in a minute.

A forked command differs from one in a shell by its start-up alone. Tests of the start-up itself use a shell.
"""

import os
import random
import runpy
import signal
import sys
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path

import torch

# Loaded once, before the forks.
import scripts.analysis
import scripts.extended_training
import scripts.final_training
import scripts.judging.sealed_test
import scripts.leaks.check
import scripts.tuning.search  # noqa: F401
from tests.conftest import EXTENDED, ROOT, SCRIPTS, TRIALS, artifact, session_members, without_times
from tests.final_models import differing_parts

RESULTS = "evaluation/evaluation_results.json"


def start(script, folder, *arguments, hook=None):
    """Begin a command in a process group of its own; its number. `hook` is called in it first."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        torch.set_num_threads(1)
        log = os.open(Path(f"{folder}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        forkserver._forkserver.__init__()  # the one begun by this process is no child of the command
        if hook is not None:
            hook()
        sys.argv = [script, "--run-dir", str(folder), "--no-progress", *map(str, arguments)]
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(process):
    """Exit code of a command, minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def ended_within(process, seconds):
    """Exit code of a command if it ends within `seconds`, else None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def kill_all(process):
    """Kill a command and its workers; its exit code."""
    os.killpg(process, signal.SIGKILL)
    return wait(process)


def finish(folder, *arguments, scripts=SCRIPTS):
    """Run commands one after the other; all must succeed."""
    for script in scripts:
        code = wait(start(script, folder, *arguments))
        assert code == 0, f"{script}: {code}: {Path(f'{folder}.log').read_text()}"


def kill_one(process, generator: random.Random):
    """Kill the command or one of its workers."""
    alive = session_members(process)
    if alive:
        try:
            os.kill(generator.choice(alive), signal.SIGKILL)
        except ProcessLookupError:
            return


def differences(folder, calm, scripts=SCRIPTS):
    """What differs between the artifacts of two runs, times aside; empty if they are equal bit for bit."""
    names = {SCRIPTS[0]: [TRIALS], SCRIPTS[1]: [EXTENDED, "best_config.json"], SCRIPTS[4]: [RESULTS]}
    found = []
    for name in (name for script in scripts for name in names.get(script, [])):
        ours, theirs = (without_times(artifact(run, name)) for run in (folder, calm))
        found += [name] if ours != theirs else []
    if SCRIPTS[3] in scripts:
        found += [f"final_model.pkl: {part}" for part in differing_parts(Path(folder), Path(calm))]
    found += [f"{path} was left" for path in Path(folder).rglob("*.tmp")]
    return found
