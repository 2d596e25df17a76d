"""Chooses where a phase trains: in this process, in local processes, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.data.dataset import Dataset
from scripts.execution.driver import RunMonitor
from scripts.execution.executor import Executor
from scripts.execution.serial import SerialExecutor


def kind(session: Session, most_runs: int) -> str:
    """serial, processes or ray; where nothing was asked for, as many processes as are of use."""
    asked = session.arguments.execution
    if asked is None:
        return "serial" if min(session.workers, most_runs) == 1 else "processes"
    return str(asked)


def device(session: Session, experiment: Experiment) -> str:
    """Device that trains; on a Ray cluster that of the workers, whatever this machine has."""
    asked = str(session.arguments.device)
    if session.arguments.execution != "ray":
        return session.device
    if asked == "auto":
        return "cuda" if experiment.execution.gpus else "cpu"
    return asked


@contextlib.contextmanager
def executing(
    session: Session, experiment: Experiment, dataset: Dataset, most_runs: int, watch: RunMonitor
) -> Iterator[Executor]:
    """An executor with as many workers as asked for and useful."""
    with contextlib.ExitStack() as stack:
        executor = _made(session, experiment, dataset, most_runs, watch, stack)
        stack.callback(executor.close)
        yield executor


def _made(
    session: Session,
    experiment: Experiment,
    dataset: Dataset,
    most_runs: int,
    watch: RunMonitor,
    stack: contextlib.ExitStack,
) -> Executor:
    workers = min(session.workers, most_runs)
    chosen = kind(session, most_runs)
    if chosen == "serial":
        return SerialExecutor(dataset)
    if chosen == "processes":
        from scripts.execution.processes import ProcessExecutor

        return ProcessExecutor(dataset, workers, tell=watch.tell)
    from scripts.execution.ray_connection import ray_connection

    address, config = session.arguments.ray_address, experiment.execution
    modules = [factory.partition(":")[0] for factory in experiment.models.values()]
    stack.enter_context(ray_connection(address, math.ceil(workers * config.cpus), modules))
    from scripts.execution.ray_executor import RayExecutor

    # On a cluster "auto" is whatever it has, and a number stands whether or not it has them yet.
    follow = session.arguments.workers == "auto" or address is None
    most = most_runs if session.arguments.workers == "auto" and address is not None else workers
    return RayExecutor(dataset, config, most, follow, tell=watch.tell)
