"""Supervision of the tasks of workers: their last states, deaths of workers, and the timeout of a hang."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.execution.executor import Task, Update
from scripts.training.spec import FailureKind, Outcome

_RETRIES = 2  # of a run whose worker died or hung


@dataclass
class Assignment:
    """Unfinished tasks that train together, by name, each with its last reported state.

    Attributes
    ----------
    deaths : int
        Workers that died or hung while they had these tasks.
    epoch_s : float
        The longest epoch of the tasks together so far.
    silent_s : float
        Waited for the next report.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    deaths: int = 0
    epoch_s: float = 0.0
    silent_s: float = 0.0
    epochs: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> Assignment:
        """Return the supervision of new tasks."""
        return cls({task.spec.name: task for task in tasks})

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the unfinished runs."""
        return tuple(self.tasks)

    def take(self, updates: Sequence[Update]) -> None:
        """Store a report."""
        self.silent_s = 0.0
        self.epoch_s = max(self.epoch_s, _epoch_s(updates))
        for update in updates:
            task = self.tasks.pop(update.name)
            if update.outcome is None:
                self.tasks[update.name] = Task(task.spec, update.state)
            if update.report:
                self.epochs[update.name] = update.report.epoch

    def lost(self, why: str, kind: FailureKind) -> list[Update]:
        """Record the death of the worker; return the tasks as failed after too many deaths, else nothing."""
        self.deaths, self.silent_s = self.deaths + 1, 0.0
        if self.deaths <= _RETRIES:
            return []
        failed = [Update(n, None, None, Outcome.failed(why, self.epochs.get(n, 0), kind=kind)) for n in self.tasks]
        self.tasks = {}
        return failed


class HangTimeout:
    """Timeout of a silent worker.

    The timeout is the longest of `min_epoch_s`, ten times the median of all epochs, ten times the longest epoch of the
    worker's tasks, and a millisecond for each training row. The last one covers the first epochs on large data. Each
    retry doubles the timeout.

    Parameters
    ----------
    min_epoch_s : float
        Minimum timeout in seconds.
    """

    def __init__(self, min_epoch_s: float) -> None:
        self._min_epoch_s = min_epoch_s
        self._epoch_s: deque[float] = deque(maxlen=1000)

    def learn(self, updates: Sequence[Update]) -> None:
        """Record the duration of an epoch of some worker."""
        if any(update.report for update in updates):
            self._epoch_s.append(_epoch_s(updates))

    def limit_s(self, assignment: Assignment) -> float:
        """Return the timeout for these tasks."""
        median = statistics.median(self._epoch_s) if self._epoch_s else 0.0
        by_rows = sum(len(task.spec.train_rows) for task in assignment.tasks.values()) / 1000
        # Generous, because a run that is killed in error loses its epoch, and a real hang only costs time.
        longest = max(self._min_epoch_s, 10 * median, 10 * assignment.epoch_s, by_rows)
        return float(longest * 2**assignment.deaths)


def _epoch_s(updates: Sequence[Update]) -> float:
    return sum(update.report.duration_s for update in updates if update.report)
