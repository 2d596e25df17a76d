"""Executor that trains in local worker processes of one thread each.

Workers are forked from a server process that has imported torch once. They compute and report through a pipe; they
end when their parent does, and one that dies or hangs is replaced and its run resumes from the last reported state.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

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
from scripts.execution.fork_server import begin_server
from scripts.execution.shared_dataset import SharedDataset
from scripts.execution.supervision import Assignment, HangTimeout
from scripts.training.spec import FailureKind

_RETRIES = 2  # of starting a worker
_POLL_S = 1.0
_REAPED_S = 0.2  # until the system reports that a process was killed


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    number: int
    given: Assignment = field(default_factory=Assignment)

    @property
    def name(self) -> str:
        return f"process {self.process.pid}"


class ProcessExecutor:
    """Up to `workers` populations at a time, and another one that waits for the first process to be idle.

    A worker that is silent for too long (see `HangTimeout`) is killed and its pipe closed, so that a late report cannot
    arrive. Runs whose worker died resume one after the other, because together they may need too much memory.

    Parameters
    ----------
    min_epoch_s : float
        Minimum timeout in seconds.
    on_event : callable
        Takes what happens to workers.
    """

    # A task in reserve starts without waiting for the driver (docs/log.md, 2026-11-27, "A task in reserve").
    reserve = 1

    def __init__(
        self, dataset: Dataset, workers: int, min_epoch_s: float = 60.0, on_event: OnWorkerEvent = ignore_event
    ) -> None:
        self.capacity = workers
        self._hang_timeout, self._on_event = HangTimeout(min_epoch_s), on_event
        self._ready: deque[Update] = deque()
        self._waiting: deque[Assignment] = deque()
        self._dataset = SharedDataset(dataset)
        self._workers = [_Worker(*self._start(number), number) for number in range(workers)]

    @property
    def n_ready(self) -> int:
        """Updates that have arrived and were not returned."""
        return len(self._ready)

    @property
    def n_idle(self) -> int:
        """Workers without a task."""
        return sum(not w.given.tasks for w in self._workers)

    @property
    def load(self) -> WorkerLoad:
        """Workers, and how many of them train."""
        return WorkerLoad(self.capacity, self.capacity - self.n_idle, len(self._waiting))

    def submit(self, *tasks: Task) -> None:
        """Give tasks that train together to the first idle worker."""
        self._waiting.append(Assignment.of(tasks))
        self._hand_out()

    def next_update(self) -> Update:
        """Wait for a report, for the death of a worker, or for the timeout of a hang."""
        while not self._ready:
            self.wait(_POLL_S)
        return self._ready.popleft()

    def wait(self, longest_s: float) -> None:
        """Process the updates of `longest_s` seconds, and replace dead or hung workers."""
        busy = [w for w in self._workers if w.given.tasks]
        start = time.monotonic()
        # Pipes of the workers, not one queue: a worker that is killed while it writes to a queue blocks all others.
        ready = connection.wait([w.pipe for w in busy], longest_s)
        # Time in which this process was stopped, such as by Ctrl-Z, does not count for the timeout.
        waited = min(time.monotonic() - start, longest_s)
        for worker in busy:
            worker.given.silent_s += waited
        for worker in busy:
            if worker.pipe in ready:
                self._receive(worker)
            else:
                self._end_if_hung(worker)
        self._hand_out()

    def close(self) -> None:
        """Kill the workers; all their reports have arrived."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._dataset.close()

    def _start(self, number: int) -> tuple[BaseProcess, Connection]:
        for attempt in range(_RETRIES + 1):
            context = begin_server()  # again, if it was killed
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._dataset, number), daemon=True)
            try:
                process.start()
                break
            except (OSError, EOFError) as error:  # the server was killed just now; the next attempt starts a new one
                ours.close()
                if attempt == _RETRIES:
                    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                    remedy = f"use --workers 1, or allow more than {files} open files (ulimit -n)"
                    raise EnvironmentFailed(f"no worker process can be started ({error})", "", remedy) from error
                time.sleep(_REAPED_S)
            finally:
                theirs.close()
        self._on_event(WorkerEvent("worker_started", f"process {process.pid}"))
        return process, ours

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._waiting and not worker.given.tasks:
                worker.given = self._waiting.popleft()
                self._give(worker)

    def _give(self, worker: _Worker) -> None:
        try:
            worker.pipe.send((tuple(worker.given.tasks.values()), worker.given.deaths > 0))
        except OSError:
            return  # it died idle; its closed pipe is seen by the next wait

    def _receive(self, worker: _Worker) -> None:
        """Take the worker's updates; if it died, give its tasks to a new one."""
        try:
            updates = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode or 0
            why = f"killed by signal {-code} (memory?)" if code < 0 else f"worker ended with code {code}"
            self._replace(worker, why)
            return
        if isinstance(updates, BaseException):
            raise updates
        worker.given.take(updates)
        self._hang_timeout.learn(updates)
        self._ready.extend(updates)

    def _end_if_hung(self, worker: _Worker) -> None:
        """Kill the worker after the timeout."""
        if worker.given.silent_s >= (limit := self._hang_timeout.limit_s(worker.given)):
            worker.process.kill()
            self._replace(worker, f"no epoch within {limit:.3g} s (hung?)", "hung")

    def _replace(self, worker: _Worker, why: str, kind: FailureKind = "worker_killed") -> None:
        """Replace a dead worker by a new one, which resumes its tasks unless that failed too often."""
        worker.process.join()
        worker.pipe.close()
        runs = worker.given.runs
        self._on_event(WorkerEvent("worker_died", worker.name, runs, why))
        worker.process, worker.pipe = self._start(worker.number)
        failed = worker.given.lost(why, kind)
        self._on_event(WorkerEvent("given_up" if failed else "retried", worker.name, runs, why))
        if failed:
            self._ready.extend(failed)
        else:
            self._give(worker)


def _work(pipe: Connection, shared: SharedDataset, number: int) -> None:
    """Body of a worker; its number selects one of several GPUs if a run names none."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Results of several threads differ in their last bits, and more processes use the cores better than more threads
    # (docs/log.md, 2026-11-27, "Threads").
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has ended
        _run_populations(pipe, shared.mapped(), number)


def _run_populations(pipe: Connection, dataset: Dataset, number: int) -> None:
    runner = None
    while True:
        tasks, sequential = pipe.recv()
        if tasks[0].spec.device == "cuda":
            torch.cuda.set_device(number % torch.cuda.device_count())
        runner = PopulationRunner(tasks, dataset, sequential, runner.last_run if runner else None)
        for updates in run_population(runner):
            pipe.send(updates)
            if isinstance(updates, Exception):
                return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
