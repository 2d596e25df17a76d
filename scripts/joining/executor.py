"""Executor that trains in local processes and offers what they have no room for to other starts of the command."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from scripts.data.dataset import Dataset
from scripts.execution.assignment import Assignment, Patience
from scripts.execution.executor import Load, Task, Tell, Update, WorkerEvent, tell_nobody
from scripts.execution.processes import ProcessExecutor
from scripts.joining.board import Board, Seen

_POLL_S = 0.1
_LOOK_S = 0.5  # between two looks at what others do
_OFFERED = 2  # populations beyond those that somebody has, for whoever joins next


@dataclass
class _Offer:
    """Tasks on the board; `worker` is empty until somebody has taken them."""

    given: Assignment
    worker: str = ""
    n_read: int = 0


class SharingExecutor:
    """As many populations at a time as there are local processes and others that took some, and a few on offer.

    What nobody takes is taken back as soon as a local process is idle. Retries are those of `ProcessExecutor`, except
    that the loss of another start of the command counts as a death only where it had reported nothing.

    Parameters
    ----------
    dataset : Dataset
    workers : int
        Local processes.
    board : Board
        Removed when the executor is closed.
    least_epoch_s : float
        Seconds of silence that are never taken for a hang.
    tell : callable
        Takes what happens to workers.
    """

    reserve = 0  # what is on offer is in reserve

    def __init__(
        self, dataset: Dataset, workers: int, board: Board, least_epoch_s: float = 60.0, tell: Tell = tell_nobody
    ) -> None:
        self._local, self._board, self._tell = ProcessExecutor(dataset, workers, least_epoch_s, tell), board, tell
        self._patience = Patience(least_epoch_s)
        self._ready: deque[Update] = deque()
        self._offers: dict[int, _Offer] = {}  # by the number of the item
        self._known: set[str] = set()
        self._looked = time.monotonic()

    @property
    def capacity(self) -> int:
        """Populations that may run at the same time now."""
        return self._local.capacity + sum(bool(offer.worker) for offer in self._offers.values()) + _OFFERED

    @property
    def n_ready(self) -> int:
        """Updates that have arrived and were not returned."""
        return len(self._ready) + self._local.n_ready

    @property
    def load(self) -> Load:
        """Workers, here and elsewhere."""
        local, others = self._local.load, {offer.worker for offer in self._offers.values()} - {""}
        n_taken = sum(bool(offer.worker) for offer in self._offers.values())
        return Load(local.workers + len(others), local.busy + n_taken, len(self._offers) - n_taken)

    def submit(self, *tasks: Task) -> None:
        """Hand tasks that train together to an idle process, or put them on offer."""
        if self._local.n_idle:
            self._local.submit(*tasks)
        else:
            self._offer(Assignment.of(tasks))

    def next_update(self) -> Update:
        """Wait for a report from here or elsewhere."""
        while not self.n_ready:
            self._local.wait(_POLL_S)
            self._take_back()
            if time.monotonic() - self._looked >= _LOOK_S:
                self._look()
        return self._ready.popleft() if self._ready else self._local.next_update()

    def close(self) -> None:
        """Stop everything at once; others are left without work."""
        self._local.close()
        self._board.remove()

    def _offer(self, given: Assignment) -> None:
        self._offers[self._board.offer(tuple(given.tasks.values()))] = _Offer(given)

    def _take_back(self) -> None:
        """Train here what waits, as long as a process is idle."""
        waiting = [number for number, offer in self._offers.items() if not offer.worker]
        for number in waiting[: self._local.n_idle]:
            if self._board.take_this(number):
                self._local.submit(*self._offers.pop(number).given.tasks.values())
                self._board.end(number)

    def _look(self) -> None:
        """Read what others have reported; offer again what they will not finish."""
        passed = min(time.monotonic() - self._looked, 2 * _LOOK_S)  # more is time in which this process was stopped
        seen, self._looked = self._board.look(self._offers), time.monotonic()
        for number, offer in list(self._offers.items()):
            self._read(number, offer, seen[number])
            if not offer.given.tasks:
                self._board.end(number)
                del self._offers[number]
            elif seen[number].state.is_finished():
                self._again(number, "another start of the command was lost", bool(offer.n_read))
            elif seen[number].state == TrialState.RUNNING:
                offer.given.silent_s += passed
                if offer.given.silent_s >= (limit := self._patience.limit_s(offer.given)):
                    self._again(number, f"no epoch within {limit:.3g} s (hung?)", False)

    def _read(self, number: int, offer: _Offer, item: Seen) -> None:
        if item.worker and not offer.worker:
            offer.worker = item.worker
            if item.worker not in self._known:
                self._known.add(item.worker)
                self._tell(WorkerEvent("worker_started", item.worker))
        for k in range(offer.n_read + 1, item.n_reports + 1):
            updates: Sequence[Update] = self._board.report_of(number, k)
            offer.n_read = k
            offer.given.take(updates)
            self._patience.learn(updates)
            self._ready.extend(updates)

    def _again(self, number: int, why: str, blameless: bool) -> None:
        """Offer the tasks of a lost worker from their last states, unless they failed too often."""
        offer = self._offers.pop(number)
        self._board.end(number)
        runs, worker = offer.given.runs, offer.worker or "a start of the command that had not begun"
        self._known.discard(worker)
        self._tell(WorkerEvent("worker_died", worker, runs, why))
        failed = [] if blameless else offer.given.lost(why)
        self._tell(WorkerEvent("given_up" if failed else "retried", worker, runs, why))
        offer.given.silent_s = 0.0
        if failed:
            self._ready.extend(failed)
        else:
            self._offer(offer.given)
