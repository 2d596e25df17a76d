"""Executor that trains in this process, one population after another."""

from __future__ import annotations

from collections import deque

import torch

from scripts.data.dataset import Dataset
from scripts.execution.executor import PopulationRunner, Task, Update, WorkerLoad


class SerialExecutor:
    """Training of one population at a time, on one thread: small networks are not faster with more."""

    capacity, reserve = 1, 0

    def __init__(self, dataset: Dataset) -> None:
        torch.set_num_threads(1)
        self._dataset = dataset
        self._runner: PopulationRunner | None = None
        self._ready: deque[Update] = deque()

    @property
    def n_ready(self) -> int:
        """Updates that `next_update` returns without training."""
        return len(self._ready)

    @property
    def load(self) -> WorkerLoad:
        """Return the load of this process."""
        return WorkerLoad(1, 1, 0)

    def submit(self, *tasks: Task) -> None:
        """Start tasks that train together."""
        share_inputs_with = self._runner.last_run if self._runner else None
        self._runner = PopulationRunner(tasks, self._dataset, share_inputs_with=share_inputs_with)

    def next_update(self) -> Update:
        """Train an epoch of each task where none is ready."""
        if self._runner is None:
            raise RuntimeError("no task was submitted")
        if not self._ready:
            self._ready.extend(self._runner.advance())
        return self._ready.popleft()

    def close(self) -> None:
        """Do nothing, because nothing runs between two calls."""
