"""Executor that trains in local worker processes of one thread each.

Workers are forked from a server process that has imported torch once. They compute and report through a pipe; they
end when their parent does, and one that dies is replaced and its run goes on from the last reported state.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from scripts.data.dataset import Dataset
from scripts.execution.executor import Carrier, Task, Update
from scripts.training.spec import Outcome

_RETRIES = 2  # of a run whose worker died


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    deaths: int = 0
    epochs: int = 0  # reported of the present task


class ProcessExecutor:
    """Up to `workers` runs at a time."""

    def __init__(self, dataset: Dataset, workers: int) -> None:
        self.capacity = workers
        self._dataset = dataset
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["scripts.execution.processes"])
        self._workers = [self._start() for _ in range(workers)]

    def submit(self, task: Task) -> None:
        """Hand a task to an idle worker."""
        worker = next(w for w in self._workers if w.task is None)
        self._give(worker, task)

    def next_update(self) -> Update:
        """Wait for a report or for the death of a worker."""
        while True:
            busy = [w for w in self._workers if w.task is not None]
            ready = connection.wait([w.pipe for w in busy])
            for worker in busy:
                if worker.pipe in ready and (update := self._receive(worker)) is not None:
                    return update

    def close(self) -> None:
        """Kill the workers; everything they reported is with us."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._dataset), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker, task: Task) -> None:
        worker.task = task
        try:
            worker.pipe.send(task)
        except OSError:
            return  # it died idle; its closed pipe is seen by the next wait

    def _receive(self, worker: _Worker) -> Update | None:
        """The worker's update; None if it died and its task was given to a new one."""
        try:
            update = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        if isinstance(update, BaseException):
            raise update
        if worker.task is None:
            raise RuntimeError("a worker without a task reported")
        worker.task = None if update.outcome else Task(worker.task.spec, update.state)
        worker.epochs = update.report.epoch if update.report else worker.epochs
        if update.outcome:
            worker.deaths = worker.epochs = 0
        return update

    def _replace(self, worker: _Worker) -> Update | None:
        worker.process.join()
        task, deaths, code = worker.task, worker.deaths + 1, worker.process.exitcode or 0
        worker.pipe.close()
        new = self._start()
        worker.process, worker.pipe, worker.task, worker.deaths = new.process, new.pipe, None, deaths
        if task is None:
            return None
        if deaths <= _RETRIES:
            self._give(worker, task)
            return None
        epochs = worker.epochs
        worker.deaths = worker.epochs = 0
        why = f"killed by signal {-code} (memory?)" if code < 0 else f"worker ended with code {code}"
        return Update(task.spec.name, None, None, Outcome.failed(why, epochs))


def _work(pipe: Connection, dataset: Dataset) -> None:
    """Body of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the shell reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        try:
            carrier = Carrier(pipe.recv(), dataset)
        except EOFError:
            return
        outcome = None
        while outcome is None:
            try:
                update = carrier.advance()
            except Exception as error:  # the parent raises it, as if it had trained itself
                error.add_note(traceback.format_exc())
                pipe.send(error)
                return
            pipe.send(update)
            outcome = update.outcome


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
