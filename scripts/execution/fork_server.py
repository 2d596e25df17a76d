"""Server process that workers are forked from; it imports libraries in parallel with the command."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing import forkserver, process, resource_tracker, util
from multiprocessing.context import ForkServerContext
from pathlib import Path

from scripts.execution import interruption

# PyTorch imports its compiler, which nothing here uses, when the first optimiser is made: most of a worker's start.
_PRELOADED = ["scripts.execution.fork_server_setup", "scripts.execution.processes", "torch._dynamo"]
_LONGEST_FOLDER = 64  # bytes; a socket's path may have 107, and ours ends in /pymp-xxxxxxxx/listener-xxxxxxxx
_ROOT = str(Path(__file__).resolve().parents[2])


def begin_server() -> ForkServerContext:
    """Begin the server, without waiting for it, unless it runs; the context that starts workers by it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    _folder_of_sockets()
    resource_tracker.ensure_running()  # which changes the signal mask
    with _paths(), _without_interruption():
        forkserver.ensure_running()
    return context


def _folder_of_sockets() -> None:
    """Make the folder of the server's socket, in one of the usual places where that of TMPDIR has too long a path."""
    if process.current_process()._config.get("tempdir") is not None:  # type: ignore[attr-defined]
        return
    given = tempfile.gettempdir()
    if len(os.fsencode(given)) > _LONGEST_FOLDER:
        usual = (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm")
        fits = (name for name in usual if 0 < len(os.fsencode(name)) <= _LONGEST_FOLDER)
        tempfile.tempdir = next((name for name in fits if os.access(name, os.W_OK | os.X_OK)), given)
    try:
        folder = util.get_temp_dir()
    finally:
        tempfile.tempdir = given
    interruption.at_end(lambda: shutil.rmtree(folder, ignore_errors=True))


@contextlib.contextmanager
def _without_interruption() -> Iterator[None]:
    """Ignore Ctrl-C in the server, which the shell sends to the whole group; the parent decides."""
    # The mask is inherited by the server, and restored here at once.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _paths() -> Iterator[None]:
    """Make the package importable in new processes, whose server would otherwise start in the current folder.

    There it would find no `scripts`, or somebody else's.
    """
    # Without this, every worker imported all modules itself, or ended in a directory with another `scripts`
    # (docs/log.md, 2026-11-27, "Workers of a command").
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    earlier = before["PYTHONPATH"]
    os.environ |= {"PYTHONPATH": _ROOT if earlier is None else f"{_ROOT}{os.pathsep}{earlier}", "PYTHONSAFEPATH": "1"}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
