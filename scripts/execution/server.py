"""The process that workers are forked from: begun first of all, so that its imports pass beside the command's."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.cli import Session

# PyTorch imports its compiler, which nothing here uses, when the first optimiser is made: most of a worker's start.
_PRELOADED = ["scripts.execution.processes", "torch._dynamo"]
_ROOT = str(Path(__file__).resolve().parents[2])


def begin_server() -> ForkServerContext:
    """Begin the server, without waiting for it, unless it runs; the context that starts workers by it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with _paths():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _paths() -> Iterator[None]:
    """A new process finds our modules first; the server is told no other path, and would begin in the current folder.

    There it would find no `scripts`, or somebody else's.
    """
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


def begin_workers(session: Session, results: Path) -> None:
    """Begin the server of a phase that is likely to need it; called before anything heavy is imported."""
    local = session.arguments.execution in (None, "processes") and session.workers > 1
    if local and not session.arguments.dry_run and (session.arguments.fresh or not results.exists()):
        begin_server()
