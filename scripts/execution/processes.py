"""Executor that trains in local worker processes of one thread each.

Workers are forked from a server process that has imported torch once. They compute and report through a pipe; they
end when their parent does, and one that dies or hangs is replaced and its run goes on from the last reported state.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from scripts.data.dataset import Dataset
from scripts.execution.executor import Carrier, Task, Update
from scripts.training.spec import Outcome

_RETRIES = 2  # of a run whose worker died or hung
_POLL_S = 1.0


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    deaths: int = 0
    epochs: int = 0  # reported of the present task
    epoch_s: float = 0.0  # the longest of the present task
    silent_s: float = 0.0  # waited for the next report


class ProcessExecutor:
    """Up to `workers` runs at a time.

    A worker hangs if it has not reported for the longest of `least_epoch_s`, ten times the median of all epochs, ten
    times the longest epoch of its own run, and a millisecond for each training row (so that the first epochs on much
    data are not taken for a hang); each retry of a run doubles this. It is killed and its pipe closed, so that a late
    report cannot arrive.

    Parameters
    ----------
    dataset : Dataset
    workers : int
    least_epoch_s : float
        Seconds of silence that are never taken for a hang.
    """

    def __init__(self, dataset: Dataset, workers: int, least_epoch_s: float = 60.0) -> None:
        self.capacity = workers
        self._least_epoch_s = least_epoch_s
        self._epoch_s: deque[float] = deque(maxlen=1000)
        self._dataset = dataset
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["scripts.execution.processes"])
        self._workers = [self._start() for _ in range(workers)]

    def submit(self, task: Task) -> None:
        """Hand a task to an idle worker."""
        worker = next(w for w in self._workers if w.task is None)
        self._give(worker, task)

    def next_update(self) -> Update:
        """Wait for a report, for the death of a worker, or until one must be taken for hung."""
        while True:
            busy = [w for w in self._workers if w.task is not None]
            start = time.monotonic()
            ready = connection.wait([w.pipe for w in busy], _POLL_S)
            # Time in which this process was itself stopped, such as by Ctrl-Z, is nobody's silence.
            waited = min(time.monotonic() - start, _POLL_S)
            for worker in busy:
                worker.silent_s += waited
            for worker in busy:
                if worker.pipe in ready and (update := self._receive(worker)) is not None:
                    return update
            for worker in busy:
                if worker.pipe not in ready and (update := self._end_if_hung(worker)) is not None:
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
        worker.task, worker.silent_s = task, 0.0
        try:
            worker.pipe.send(task)
        except OSError:
            return  # it died idle; its closed pipe is seen by the next wait

    def _receive(self, worker: _Worker) -> Update | None:
        """The worker's update; None if it died and its task was given to a new one."""
        try:
            update = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode or 0
            why = f"killed by signal {-code} (memory?)" if code < 0 else f"worker ended with code {code}"
            return self._replace(worker, why)
        if isinstance(update, BaseException):
            raise update
        if worker.task is None:
            raise RuntimeError("a worker without a task reported")
        worker.task = None if update.outcome else Task(worker.task.spec, update.state)
        worker.silent_s = 0.0
        if update.report:
            self._epoch_s.append(update.report.duration_s)
            worker.epochs, worker.epoch_s = update.report.epoch, max(worker.epoch_s, update.report.duration_s)
        if update.outcome:
            _forget_run(worker)
        return update

    def _end_if_hung(self, worker: _Worker) -> Update | None:
        """Kill the worker if its silence is too long; as `_receive`."""
        if worker.task is None or worker.silent_s < (limit := self._longest_silence_s(worker, worker.task)):
            return None
        worker.process.kill()
        return self._replace(worker, f"no epoch within {limit:.3g} s (hung?)")

    def _longest_silence_s(self, worker: _Worker, task: Task) -> float:
        median = statistics.median(self._epoch_s) if self._epoch_s else 0.0
        by_rows = len(task.spec.train_rows) / 1000
        return float(max(self._least_epoch_s, 10 * median, 10 * worker.epoch_s, by_rows) * 2**worker.deaths)

    def _replace(self, worker: _Worker, why: str) -> Update | None:
        """Start a new worker in the place of a dead one; it goes on with the task, unless that failed too often."""
        worker.process.join()
        worker.pipe.close()
        new, task = self._start(), worker.task
        worker.process, worker.pipe, worker.task = new.process, new.pipe, None
        worker.deaths += 1
        if task is None:
            return None
        if worker.deaths <= _RETRIES:
            self._give(worker, task)
            return None
        epochs = worker.epochs
        _forget_run(worker)
        return Update(task.spec.name, None, None, Outcome.failed(why, epochs))


def _forget_run(worker: _Worker) -> None:
    worker.deaths = worker.epochs = 0
    worker.epoch_s = 0.0


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
