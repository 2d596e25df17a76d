"""Commands in processes forked from one that has imported everything, so that each starts at once.

They differ from those of a shell by their start-up alone, which has tests in a shell.
"""

import functools
import json
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path

# Loaded once, before the forks. Training takes the first of the libraries, the reports and the study the others.
import alembic.command  # noqa: F401
import torch
import torch._dynamo
import torch.utils.tensorboard

import scripts.commands.analyze
import scripts.commands.evaluate
import scripts.commands.leak_check
import scripts.extended_training.trainer
import scripts.final_training.training
import scripts.tuning.search  # noqa: F401
from scripts.reporting import page
from tests.conftest import ROOT, command

MAX_S = 300.0  # that a command may take


def start(script, folder, *arguments, hook=None, output=None):
    """Begin a command in a process group of its own; its number.

    `hook` is called in it first. What it says goes to `output`, two open files; by default to `{folder}.log`.
    """
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        torch.set_num_threads(1)
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if output is None else -1
        out, error = (log, log) if output is None else (file.fileno() for file in output)
        for place, file in enumerate((os.open(os.devnull, os.O_RDONLY), out, error)):
            os.dup2(file, place)
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        forkserver._forkserver.__init__()  # the one begun by this process is no child of the command
        if hook is not None:
            hook()
        sys.argv = command(script, folder, *arguments)[1:]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def completed(script, folder, *arguments, environment=None, cwd=None, interrupt=None):
    """Run a command to its end, as `subprocess.run` does, in a fork of a process that has done nothing else.

    Libraries that this process has used may hold threads and locks, which a fork of it would wait for in vain.
    `interrupt` is a signal that the command gets, after the file or the number of seconds to wait for.
    Variables that are read at the start of Python or of a library have no effect, except for a guard of connections.
    """
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, "out"), Path(place, "error")]
        request = {"script": script, "folder": folder and str(folder), "arguments": list(map(str, arguments))}
        request |= {"outputs": list(map(str, outputs)), "environment": os.environ | (environment or {})}
        request |= {"cwd": str(cwd or os.getcwd()), "interrupt": interrupt and [str(interrupt[0]), interrupt[1]]}
        server = _server()
        if server.poll() is not None:  # Ray, where it is installed, ends all children of the process that stops it
            _server.cache_clear()
            server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        said = [path.read_text() for path in outputs]
    if code is None:
        raise subprocess.TimeoutExpired(command(script, folder, *arguments), MAX_S, *said)
    return subprocess.CompletedProcess(command(script, folder, *arguments), code, *said)


@functools.cache
def _server():
    """The process that forks, which ends with this one."""
    call = [sys.executable, "-m", "tests.forked"]
    return subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@functools.cache
def share_charts():
    """Give the forks the JavaScript of the reports; vl_convert starts threads, so another process makes it."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        library = pool.apply(page._chart_library)
    page._chart_library = lambda: library


def serve():
    """Run the commands that the lines of standard input ask for, one after the other; print their exit codes."""
    for line in sys.stdin:
        request = json.loads(line)
        if request["script"] in ("analyze_results.py", "evaluate_model.py"):
            share_charts()

        def prepare(request=request):
            os.environ.clear()
            os.environ.update(request["environment"])
            os.chdir(request["cwd"])
            for guard in Path(request["environment"].get("PYTHONPATH", ROOT)).glob("sitecustomize.py"):
                runpy.run_path(str(guard))

        with open(request["outputs"][0], "w") as out, open(request["outputs"][1], "w") as error:
            call = request["script"], request["folder"], *request["arguments"]
            process = start(*call, hook=prepare, output=(out, error))
        code = None
        if request["interrupt"] is not None:
            code = interrupted(process, *request["interrupt"])
        if code is None:
            code = ended_within(process, MAX_S)
        if code is None:
            kill_all(process)
        print(json.dumps(code), flush=True)


def interrupted(process, moment, number):
    """Send a command a signal after some seconds, or once a file exists; its exit code if it ends earlier.

    SIGKILL reaches its workers too.
    """
    timed = re.fullmatch(r"[\d.]+", moment) is not None
    deadline = time.monotonic() + (float(moment) if timed else MAX_S)
    while time.monotonic() < deadline and not (not timed and os.path.exists(moment)):
        if (code := ended_within(process, 0.01)) is not None:
            return code
    (os.killpg if number == signal.SIGKILL else os.kill)(process, number)
    return None


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


if __name__ == "__main__":
    serve()
