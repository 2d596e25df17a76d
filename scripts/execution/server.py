"""The process that workers are forked from: begun before the data are read, so that nobody waits for its imports."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

# PyTorch imports its compiler, which nothing here uses, when the first optimiser is made: most of a worker's start.
_PRELOADED = ["scripts.execution.processes", "torch._dynamo"]


def begin_server() -> ForkServerContext:
    """Begin the server, without waiting for it, unless it runs; the context that starts workers by it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()
    return context
