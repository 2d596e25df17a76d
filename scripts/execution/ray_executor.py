"""Executor that trains on a Ray cluster: a population is one task, which streams its updates to the driver.

The data set is put into the object store once, and every worker reads it in place. The states of runs travel with
the tasks and their updates, so that no shared file system is needed; only the driver writes files. Ray places tasks on
any nodes. Retries by Ray are disabled: the driver submits the task of a dead worker or node again from the last state
that arrived.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, RuntimeEnvSetupError

from scripts.config.experiment import ExecutionConfig
from scripts.data.dataset import Dataset
from scripts.errors import EnvironmentFailed
from scripts.execution.executor import (
    OnWorkerEvent,
    PopulationRunner,
    Task,
    Update,
    WorkerEvent,
    WorkerLoad,
    ignore_event,
    run_population,
)
from scripts.execution.ray_connection import first_line
from scripts.execution.supervision import Assignment, HangTimeout
from scripts.training.spec import FailureKind

_POLL_S = 1.0
_UNREAD = 1  # updates that a task may be ahead of the driver; what is unread is lost with its node


@dataclass
class _Flight:
    """Tasks that were given to Ray, and the stream of their updates; `worker` is empty until one has started."""

    given: Assignment
    stream: ray.ObjectRefGenerator
    worker: str = ""
    has_reported: bool = False


class RayExecutor:
    """Execution of as many populations at a time as the cluster's CPUs and GPUs allow, or of a fixed number.

    Retries are those of `ProcessExecutor`, except that a lost node counts as a death only where the runs had reported
    nothing on it: it is not informative, and preemptible machines disappear often.

    Parameters
    ----------
    config : ExecutionConfig
        What each population takes.
    max_tasks : int
        Populations at a time, at most.
    follow : bool
        Use only present resources of the cluster; otherwise further tasks wait in Ray, where autoscalers see them.
    min_epoch_s : float
        Minimum timeout in seconds.
    on_event : callable
        Takes what happens to workers.
    """

    reserve = 0

    def __init__(
        self,
        dataset: Dataset,
        config: ExecutionConfig,
        max_tasks: int,
        follow: bool = True,
        min_epoch_s: float = 60.0,
        on_event: OnWorkerEvent = ignore_event,
    ) -> None:
        self._config, self._max_tasks, self._follow, self._on_event = config, max_tasks, follow, on_event
        self._hang_timeout = HangTimeout(min_epoch_s)
        self._ready: deque[Update] = deque()
        self._flights: list[_Flight] = []
        self._workers: set[str] = set()
        self._dataset = ray.put(dataclasses.replace(dataset, mapped=None))  # Ray has its own store
        self._run_population = ray.remote(_run_population).options(
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            num_returns="streaming",
            # Ray would retry from the first state; retries here resume from the last reported one.
            max_retries=0,
            _generator_backpressure_num_objects=_UNREAD,
        )
        self._asked, self._available = -math.inf, 1

    @property
    def capacity(self) -> int:
        """Populations that may run at the same time now; asks the cluster once a second."""
        if not self._follow:
            return self._max_tasks
        now = time.monotonic()
        if now - self._asked >= _POLL_S:
            self._asked, self._available = now, self._places(ray.cluster_resources())
        return max(1, min(self._max_tasks, self._available))

    @property
    def n_ready(self) -> int:
        """Updates that have arrived and were not returned."""
        return len(self._ready)

    @property
    def load(self) -> WorkerLoad:
        """Return the training workers, the free places of the cluster, and the waiting tasks."""
        n_busy = sum(bool(flight.worker) for flight in self._flights)
        return WorkerLoad(max(n_busy, self.capacity), n_busy, len(self._flights) - n_busy)

    def submit(self, *tasks: Task) -> None:
        """Submit tasks that train together to the cluster."""
        given = Assignment.of(tasks)
        self._flights.append(_Flight(given, self._begin(given)))

    def next_update(self) -> Update:
        """Wait for a report, for the death of a worker, or for the timeout of a hang."""
        while not self._ready:
            flights = {flight.stream: flight for flight in self._flights}
            start = time.monotonic()
            streams = list(flights)
            ray.wait(streams, num_returns=1, timeout=_POLL_S)
            arrived, silent = ray.wait(streams, num_returns=len(streams), timeout=0)
            waited = min(time.monotonic() - start, _POLL_S)
            for stream in arrived:
                self._receive(flights[stream])
            for stream in silent:
                self._end_if_hung(flights[stream], waited)
        return self._ready.popleft()

    def close(self) -> None:
        """Kill the workers of this command; all their reports have arrived."""
        for flight in self._flights:
            ray.cancel(flight.stream, force=True)
        self._flights = []

    def _places(self, resources: dict[str, float]) -> int:
        by_cpus = resources.get("CPU", 0.0) / self._config.cpus
        by_gpus = resources.get("GPU", 0.0) / self._config.gpus if self._config.gpus else math.inf
        # Shares such as 0.1 of a GPU do not add up to 1 in binary.
        return math.floor(min(by_cpus, by_gpus) + 1e-9)

    def _begin(self, given: Assignment) -> ray.ObjectRefGenerator:
        return self._run_population.remote(self._dataset, tuple(given.tasks.values()), given.deaths > 0)

    def _receive(self, flight: _Flight) -> None:
        """Process the updates of a stream; if its worker died, submit its tasks again."""
        try:
            arrived = ray.get(next(flight.stream))
        except RayTaskError as error:
            raise _on_the_node(error) from error
        except RuntimeEnvSetupError as error:
            raise EnvironmentFailed(
                f"cannot be prepared: {first_line(error)}",
                "a Ray node",
                "fix it, then rerun the same command",
            ) from error
        except RayError as error:
            self._again(flight, _reason(error), isinstance(error, NodeDiedError))
            return
        except StopIteration:
            self._again(flight, "worker ended early", False)
            return
        if isinstance(arrived, Exception):
            raise arrived
        if isinstance(arrived, str):
            self._started(flight, arrived)
            return
        flight.given.take(arrived)
        flight.has_reported = True
        self._hang_timeout.learn(arrived)
        self._ready.extend(arrived)
        if not flight.given.tasks:
            self._flights.remove(flight)

    def _started(self, flight: _Flight, worker: str) -> None:
        """Record that a worker took the tasks; the timeout counts from here."""
        flight.worker = worker
        if worker not in self._workers:
            self._workers.add(worker)
            self._on_event(WorkerEvent("worker_started", worker))

    def _end_if_hung(self, flight: _Flight, waited: float) -> None:
        """Kill the worker after the timeout."""
        # Not started: the task waits for a place, or for a machine that an autoscaler starts.
        if not flight.worker:
            return
        flight.given.silent_s += waited
        if flight.given.silent_s >= (limit := self._hang_timeout.limit_s(flight.given)):
            ray.cancel(flight.stream, force=True)
            self._again(flight, f"no epoch within {limit:.3g} s (hung?)", False, "hung")

    def _again(self, flight: _Flight, why: str, blameless: bool, kind: FailureKind = "worker_killed") -> None:
        """Submit the tasks of a dead worker from their last states, unless they failed too often."""
        runs, worker = flight.given.runs, flight.worker or "a worker that had not started"
        self._on_event(WorkerEvent("worker_died", worker, runs, why))
        self._workers.discard(worker)
        failed = [] if blameless and (flight.has_reported or not flight.worker) else flight.given.lost(why, kind)
        self._on_event(WorkerEvent("given_up" if failed else "retried", worker, runs, why))
        if failed:
            self._ready.extend(failed)
            self._flights.remove(flight)
            return
        flight.given.silent_s = 0.0
        flight.stream, flight.worker, flight.has_reported = self._begin(flight.given), "", False


def _run_population(dataset: Dataset, tasks: Sequence[Task], sequential: bool) -> Iterator[Any]:
    """Body of a Ray task: the name of its worker, then updates, or an error for the driver to raise."""
    torch.set_num_threads(1)
    context = ray.get_runtime_context()
    yield f"process {os.getpid()} on node {context.get_node_id()[:8]}"
    yield from run_population(PopulationRunner([_writable(task) for task in tasks], dataset, sequential))


def _writable(task: Task) -> Task:
    """Return the task with its own rows: arrays of the object store are read-only, which torch does not support."""
    train, validation = np.array(task.spec.train_rows), np.array(task.spec.validation_rows)
    return Task(dataclasses.replace(task.spec, train_rows=train, validation_rows=validation), task.state)


def _reason(error: RayError) -> str:
    if isinstance(error, OutOfMemoryError):
        return "killed: its node was out of memory"
    if isinstance(error, NodeDiedError):
        return "killed with its node, which was lost"
    return f"worker killed (memory?): {type(error).__name__}"


def _on_the_node(error: RayTaskError) -> Exception:
    """Return an error of a node's preparation as an environment error; anything else is a defect."""
    if isinstance(error.cause, RayError):
        return EnvironmentFailed(
            f"cannot hand a training what it needs: {first_line(error.cause)}",
            "the Ray cluster",
            "make its machines reachable, then rerun the same command to resume",
        )
    if isinstance(error.cause, ImportError):
        return EnvironmentFailed(
            f"lacks what a training needs: {first_line(error.cause)}",
            "a Ray node",
            "install the same code and requirements there, then rerun the same command to resume",
        )
    return error
