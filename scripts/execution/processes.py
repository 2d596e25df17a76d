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
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from scripts.data.dataset import Dataset
from scripts.execution.executor import Carrier, Task, Update
from scripts.execution.server import begin_server
from scripts.execution.shared_dataset import SharedDataset
from scripts.training.spec import Outcome

_RETRIES = 2  # of a run whose worker died or hung, and of starting a worker
_POLL_S = 1.0
_REAPED_S = 0.2  # until the system tells that a process has been killed


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    tasks: dict[str, Task] = field(default_factory=dict)  # unfinished, by name, with the last reported states
    deaths: int = 0
    epochs: dict[str, int] = field(default_factory=dict)  # reported of the present tasks
    epoch_s: float = 0.0  # the longest of the present tasks together
    silent_s: float = 0.0  # waited for the next report


class ProcessExecutor:
    """Up to `workers` populations at a time.

    A worker hangs if it has not reported for the longest of `least_epoch_s`, ten times the median of all epochs, ten
    times the longest epoch of its own runs, and a millisecond for each training row (so that the first epochs on much
    data are not taken for a hang); each retry doubles this. It is killed and its pipe closed, so that a late report
    cannot arrive. Runs whose worker died go on one after the other, in case they needed too much memory together.

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
        self._ready: deque[Update] = deque()
        self._dataset = SharedDataset(dataset)
        self._context = begin_server()
        self._workers = [self._start() for _ in range(workers)]

    @property
    def n_ready(self) -> int:
        """Updates that have arrived and were not returned."""
        return len(self._ready)

    def submit(self, *tasks: Task) -> None:
        """Hand tasks that train together to an idle worker."""
        worker = next(w for w in self._workers if not w.tasks)
        worker.tasks = {task.spec.name: task for task in tasks}
        self._give(worker)

    def next_update(self) -> Update:
        """Wait for a report, for the death of a worker, or until one must be taken for hung."""
        while not self._ready:
            busy = [w for w in self._workers if w.tasks]
            start = time.monotonic()
            ready = connection.wait([w.pipe for w in busy], _POLL_S)
            # Time in which this process was itself stopped, such as by Ctrl-Z, is nobody's silence.
            waited = min(time.monotonic() - start, _POLL_S)
            for worker in busy:
                worker.silent_s += waited
            for worker in busy:
                if worker.pipe in ready:
                    self._receive(worker)
                else:
                    self._end_if_hung(worker)
        return self._ready.popleft()

    def close(self) -> None:
        """Kill the workers; everything they reported is with us."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._dataset.close()

    def _start(self) -> _Worker:
        for attempt in range(_RETRIES + 1):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs, self._dataset), daemon=True)
            try:
                process.start()
                break
            except (OSError, EOFError):  # the server was killed just now; the next attempt starts a new one
                ours.close()
                if attempt == _RETRIES:
                    raise
                time.sleep(_REAPED_S)
            finally:
                theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker) -> None:
        worker.silent_s = 0.0
        try:
            worker.pipe.send((tuple(worker.tasks.values()), worker.deaths > 0))
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
        for update in updates:
            self._take(worker, update)
        worker.silent_s = 0.0
        if any(update.report for update in updates):
            epoch_s = sum(update.report.duration_s for update in updates if update.report)
            self._epoch_s.append(epoch_s)
            worker.epoch_s = max(worker.epoch_s, epoch_s)
        if not worker.tasks:
            _forget_runs(worker)

    def _take(self, worker: _Worker, update: Update) -> None:
        task = worker.tasks.pop(update.name)
        if update.outcome is None:
            worker.tasks[update.name] = Task(task.spec, update.state)
        if update.report:
            worker.epochs[update.name] = update.report.epoch
        self._ready.append(update)

    def _end_if_hung(self, worker: _Worker) -> None:
        """Kill the worker if its silence is too long."""
        if worker.silent_s >= (limit := self._longest_silence_s(worker)):
            worker.process.kill()
            self._replace(worker, f"no epoch within {limit:.3g} s (hung?)")

    def _longest_silence_s(self, worker: _Worker) -> float:
        median = statistics.median(self._epoch_s) if self._epoch_s else 0.0
        by_rows = sum(len(task.spec.train_rows) for task in worker.tasks.values()) / 1000
        return float(max(self._least_epoch_s, 10 * median, 10 * worker.epoch_s, by_rows) * 2**worker.deaths)

    def _replace(self, worker: _Worker, why: str) -> None:
        """Start a new worker in the place of a dead one; it goes on with the tasks, unless that failed too often."""
        worker.process.join()
        worker.pipe.close()
        new = self._start()
        worker.process, worker.pipe = new.process, new.pipe
        worker.deaths += 1
        if worker.deaths <= _RETRIES:
            self._give(worker)
            return
        for name in worker.tasks:
            self._ready.append(Update(name, None, None, Outcome.failed(why, worker.epochs.get(name, 0))))
        worker.tasks = {}
        _forget_runs(worker)


def _forget_runs(worker: _Worker) -> None:
    worker.deaths, worker.epochs, worker.epoch_s = 0, {}, 0.0


def _work(pipe: Connection, shared: SharedDataset) -> None:
    """Body of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the shell reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    dataset = shared.mapped()
    while True:
        try:
            tasks, apart = pipe.recv()
        except EOFError:
            return
        carrier, unfinished = Carrier(tasks, dataset, apart), len(tasks)
        while unfinished:
            try:
                updates = carrier.advance()
            except Exception as error:  # the parent raises it, as if it had trained itself
                error.add_note(traceback.format_exc())
                pipe.send(error)
                return
            pipe.send(updates)
            unfinished -= sum(update.outcome is not None for update in updates)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
