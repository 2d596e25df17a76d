"""Placement of a phase: device, number of workers, and executor (this process, local processes or Ray)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from scripts.commands.session import Session, worker_count
from scripts.commands.time_estimates import measure_epochs, one_of_each_family
from scripts.config.experiment import Experiment
from scripts.config.search_space import Values
from scripts.data.dataset import Dataset
from scripts.errors import InputError
from scripts.execution.driver import RunMonitor
from scripts.execution.executor import Executor
from scripts.execution.serial import SerialExecutor
from scripts.storage.records import Plan, Planned


@dataclass(frozen=True)
class Placement:
    """Placement of a phase, decided once and passed on."""

    execution: str | None  # serial, processes or ray; None: as many local processes as are of use
    device: str  # that trains, on a Ray cluster that of its workers
    workers: int
    auto: bool  # no number of workers was given, so a Ray cluster uses all it has
    ray_address: str | None

    @property
    def measuring_device(self) -> str:
        """Device of this machine on which an epoch is timed."""
        return self.device if self.execution != "ray" or torch.cuda.is_available() else "cpu"

    def in_words(self, max_parallel_runs: int) -> str:
        """Return what trains; no more than `max_parallel_runs` workers are of use."""
        if self.execution == "ray":
            return f"Ray on {self.ray_address or 'this machine'}"
        workers = min(self.workers, max_parallel_runs)
        return f"{workers} worker{'s' if workers > 1 else ''} on {self.device}"


def choose_placement(
    session: Session,
    experiment: Experiment,
    dataset: Dataset,
    started_plan: Planned | None,
    configurations: Callable[[], Sequence[Values]],
    max_parallel_runs: int,
) -> Placement:
    """Decide where a phase trains; without --device, time an epoch on each device if there is a choice.

    A resumed phase keeps its device, because devices differ in rounding.

    Parameters
    ----------
    started_plan : Planned or None
        Plan that the phase was started with, if it was.
    configurations : callable
        Returns hyperparameters like those that will be trained, the most likely first.
    max_parallel_runs : int
        Most trainings side by side.

    Raises
    ------
    InputError
        The named device does not exist.
    """
    arguments = session.arguments
    asked = str(arguments.device)
    if arguments.execution == "ray":
        workers = worker_count(arguments.workers, asked)
        device = asked if asked != "auto" else "cuda" if experiment.execution.gpus else "cpu"
    else:
        device = _existing(asked)
        if device == "auto":
            started_on = started_plan.device if isinstance(started_plan, Plan) else None
            device = started_on or _faster(session, experiment, dataset, configurations(), max_parallel_runs)
        workers = worker_count(arguments.workers, device)
    return Placement(arguments.execution, device, workers, arguments.workers == "auto", arguments.ray_address)


def _existing(asked: str) -> str:
    """Return a device of this machine; auto only if there are several."""
    if asked == "auto" and not torch.cuda.is_available():
        return "cpu"
    if asked.startswith("cuda") and int(asked.partition(":")[2] or 0) >= (count := torch.cuda.device_count()):
        raise InputError(f"{asked} is not there, {count} GPUs found", "--device", "use --device cpu or auto")
    return asked


def _faster(
    session: Session, experiment: Experiment, dataset: Dataset, configurations: Sequence[Values], max_parallel_runs: int
) -> str:
    side_by_side = {
        "cpu": min(session.workers, max_parallel_runs),
        "cuda": min(torch.cuda.device_count(), max_parallel_runs),
    }
    device, why = fastest(experiment, dataset, configurations, side_by_side)
    session.echo(f"trains on {device}, which is faster here: {why}")
    return device


def fastest(
    experiment: Experiment, dataset: Dataset, configurations: Sequence[Values], side_by_side: Mapping[str, int]
) -> tuple[str, str]:
    """Return the device with the highest throughput, and the time of an epoch on each as text.

    Parameters
    ----------
    configurations : sequence of mappings
        The first of each family is measured.
    side_by_side : mapping of str to int
        By device the trainings that it carries on at once.
    """
    chosen = one_of_each_family(configurations)
    measured = {device: measure_epochs(chosen, dataset, experiment, device) for device in side_by_side}
    best = min(measured, key=lambda device: measured[device].mean_s / side_by_side[device])
    measurements = (
        f"{n} at once on {device}, {measured[device].in_words(len(dataset.rows))}" for device, n in side_by_side.items()
    )
    return best, f"an epoch with {'; with '.join(measurements)}"


@contextlib.contextmanager
def executing(
    placement: Placement, experiment: Experiment, dataset: Dataset, max_parallel_runs: int, watch: RunMonitor
) -> Iterator[Executor]:
    """Yield an executor with as many workers as asked for and useful."""
    with contextlib.ExitStack() as stack:
        executor = _executor(placement, experiment, dataset, max_parallel_runs, watch, stack)
        stack.callback(executor.close)
        yield executor


def _executor(
    placement: Placement,
    experiment: Experiment,
    dataset: Dataset,
    max_parallel_runs: int,
    watch: RunMonitor,
    stack: contextlib.ExitStack,
) -> Executor:
    workers = min(placement.workers, max_parallel_runs)
    if placement.execution == "serial" or (placement.execution is None and workers == 1):
        return SerialExecutor(dataset)
    if placement.execution != "ray":
        from scripts.execution.processes import ProcessExecutor

        return ProcessExecutor(dataset, workers, on_event=watch.on_event)
    from scripts.execution.ray_connection import ray_connection

    address, config = placement.ray_address, experiment.execution
    modules = [factory.partition(":")[0] for factory in experiment.models.values()]
    stack.enter_context(ray_connection(address, math.ceil(workers * config.cpus), modules))
    from scripts.execution.ray_executor import RayExecutor

    # On a cluster, "auto" is its present size, and a number is used even if the cluster is still smaller.
    follow = placement.auto or address is None
    max_tasks = max_parallel_runs if placement.auto and address is not None else workers
    return RayExecutor(dataset, config, max_tasks, follow, on_event=watch.on_event)
