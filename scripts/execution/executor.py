"""The interface of every executor, and how one run is carried forward by an epoch.

An executor computes and reports; it opens no storage and writes no file. Each update carries the packed state of the
run, so that whoever drives the executor can keep it, and hand it to another executor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from scripts.artifacts import pack_tensors, unpack_tensors
from scripts.data.dataset import Dataset
from scripts.errors import HyperError, InputError
from scripts.training.run import TrainingRun
from scripts.training.spec import EpochReport, Outcome, RunSpec


@dataclass(frozen=True)
class Task:
    """A run to carry to its end, from the packed `state` of an earlier epoch if there is one."""

    spec: RunSpec
    state: bytes | None


@dataclass(frozen=True)
class Update:
    """What one epoch of a run brought; with an `outcome` the run has finished.

    `state` is None where the run failed before it had one.
    """

    name: str
    report: EpochReport | None
    state: bytes | None
    outcome: Outcome | None
    history: tuple[Mapping[str, Any], ...] = ()


class Executor(Protocol):
    """Runs up to `capacity` tasks at a time."""

    capacity: int

    def submit(self, task: Task) -> None:
        """Begin a task; only while fewer than `capacity` are running."""

    def next_update(self) -> Update:
        """Wait for the next update of any running task."""

    def close(self) -> None:
        """Stop everything at once; what was reported is complete."""


class Carrier:
    """Carries one task forward epoch by epoch and turns what may go wrong in training into a failed outcome."""

    def __init__(self, task: Task, dataset: Dataset) -> None:
        self.name = task.spec.name
        self.own_code = task.spec.hyperparameters.family in task.spec.factories
        self.task, self.dataset = task, dataset
        self.run: TrainingRun | None = None

    def advance(self) -> Update:
        """One more epoch; loading the state of a finished run reports its outcome again."""
        try:
            if self.run is None:
                self.run = TrainingRun(self.task.spec, self.dataset)
                if self.task.state is not None:
                    self._load(self.run, self.task.state)
            report = self.run.advance()
        except (MemoryError, RuntimeError) as error:
            return self._failed(error)
        except HyperError:
            raise
        except Exception as error:
            if not self.own_code:
                raise
            return self._failed(error)
        history = tuple(r.values() for r in self.run.history) if self.run.outcome else ()
        return Update(self.name, report, pack_tensors(self.run.state_dict()), self.run.outcome, history)

    def _load(self, run: TrainingRun, state: bytes) -> None:
        try:
            run.load_state_dict(unpack_tensors(state))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"the checkpoint of {self.name} does not fit this run: {reason}",
                "checkpoints",
                "remove it, or start the phase anew with --fresh, which keeps it aside",
            ) from error

    def _failed(self, error: Exception) -> Update:
        """Outcome of a run that ran out of memory, or whose user-supplied model raised; anything else is a defect."""
        memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not memory and not self.own_code:
            raise error
        reason = "out of memory" if memory else f"{type(error).__name__}: {str(error).splitlines()[0]}"
        run = self.run
        epochs, seconds = (run.epoch, sum(r.duration_s for r in run.history)) if run else (0, 0.0)
        return Update(self.name, None, None, Outcome.failed(reason, epochs, seconds))
