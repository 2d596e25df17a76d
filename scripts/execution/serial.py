"""Executor that trains in this process, one run after the other."""

from __future__ import annotations

import torch

from scripts.data.dataset import Dataset
from scripts.execution.executor import Carrier, Task, Update


class SerialExecutor:
    """One run at a time, on one thread: small networks gain nothing from more."""

    capacity = 1

    def __init__(self, dataset: Dataset) -> None:
        torch.set_num_threads(1)
        self._dataset = dataset
        self._carrier: Carrier | None = None

    def submit(self, task: Task) -> None:
        """Begin a task."""
        self._carrier = Carrier(task, self._dataset)

    def next_update(self) -> Update:
        """Train one epoch."""
        if self._carrier is None:
            raise RuntimeError("no task was submitted")
        return self._carrier.advance()

    def close(self) -> None:
        """Nothing runs between two calls."""
