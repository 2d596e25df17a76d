"""Interface of all executors, and training of populations of runs by one epoch.

An executor computes and reports; it opens no storage and writes no file. Each update carries the packed state of the
run, so that the driver can store it, and give it to another executor.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from scripts.data.dataset import Dataset
from scripts.errors import HyperError, InputError, is_out_of_memory
from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.training.engines.engine import engine_of, train_epoch
from scripts.training.engines.explicit import ExplicitEngine
from scripts.training.engines.population import Population
from scripts.training.pauses import outcome_at
from scripts.training.run import TrainingRun
from scripts.training.spec import EpochReport, FailureKind, Outcome, RunSpec
from scripts.training.state_record import check_fits


@dataclass(frozen=True)
class Task:
    """Run to train to its end, from the packed `state` of an earlier epoch if available."""

    spec: RunSpec
    state: bytes | None


@dataclass(frozen=True)
class Update:
    """Result of one epoch of a run; with an `outcome` the run has finished.

    `state` is None where the run failed before it had one.
    """

    name: str
    report: EpochReport | None
    state: bytes | None
    outcome: Outcome | None
    history: tuple[Mapping[str, float | None], ...] = ()


@dataclass(frozen=True)
class WorkerEvent:
    """Event of a worker, for the log; `runs` are its unfinished runs."""

    event: Literal["worker_started", "worker_died", "retried", "given_up"]
    worker: str
    runs: tuple[str, ...] = ()
    reason: str = ""


OnWorkerEvent = Callable[[WorkerEvent], None]


def ignore_event(event: WorkerEvent) -> None:
    """Log nothing."""


@dataclass(frozen=True)
class WorkerLoad:
    """Number of workers, of training workers, and of waiting populations."""

    workers: int
    busy: int
    waiting: int


class Executor(Protocol):
    """Execution of up to `capacity` populations of tasks at a time; a single task is also a population.

    The capacity is at least one, and may change where machines come and go.
    """

    @property
    def capacity(self) -> int:
        """Populations that may run at the same time now."""

    @property
    def reserve(self) -> int:
        """Populations that may be queued beyond the capacity, so that no worker waits for a decision."""

    @property
    def n_ready(self) -> int:
        """Updates that `next_update` returns without waiting."""

    @property
    def load(self) -> WorkerLoad:
        """Return the load of the workers, for display only."""

    def submit(self, *tasks: Task) -> None:
        """Start tasks that train together, or queue them.

        Only while fewer than `capacity + reserve` populations have unfinished ones.
        """

    def next_update(self) -> Update:
        """Wait for the next update of any running task."""

    def close(self) -> None:
        """Stop everything at once; all reports are complete."""


class PopulationRunner:
    """Training of a population of tasks, epoch by epoch; errors of a training become failed outcomes.

    Parameters
    ----------
    sequential : bool
        Train them one after the other, because memory does not suffice for all of them.
    share_inputs_with : TrainingRun or None
        Earlier run on the data set; runs on the same rows reuse its inputs.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        dataset: Dataset,
        sequential: bool = False,
        share_inputs_with: TrainingRun | None = None,
    ) -> None:
        self._tasks = {task.spec.name: task for task in tasks}
        self._dataset, self._share_inputs_with = dataset, share_inputs_with
        self._population = Population([], 1 if sequential else None)
        self._started = False

    @property
    def n_tasks(self) -> int:
        """Number of runs, including finished ones."""
        return len(self._tasks)

    @property
    def last_run(self) -> TrainingRun | None:
        """Return one of the runs, or the earlier run."""
        return self._population.runs[-1] if self._population.runs else self._share_inputs_with

    def advance(self) -> list[Update]:
        """Train one epoch of each; a finished state reports its outcome again."""
        updates = [] if self._started else self._begin()
        for group in self._population.groups():
            updates += self._advance(group)
        return updates

    def _begin(self) -> list[Update]:
        """Make the runs; updates of those that are finished already or cannot be made."""
        self._started, updates = True, list[Update]()
        for task in self._tasks.values():
            try:
                run = self._made(task)
            except Exception as error:
                updates.append(self._failed(task.spec, None, error))
                continue
            if task.spec.pauses and run.epoch > task.spec.epochs:
                # Its checkpoint is ahead of the study, which was lost.
                history = tuple(report.values() for report in run.history[: task.spec.epochs])
                updates.append(Update(run.spec.name, None, task.state, outcome_at(run, task.spec.epochs), history))
                continue
            self._population.runs.append(run)
            if run.finished:
                updates.append(self._update(run, None))
        return updates

    def _advance(self, group: list[TrainingRun]) -> list[Update]:
        try:
            reports = train_epoch(engine_of(group))
        except Exception as error:
            alone = len(group) == 1
            if not (_can_halve(group[0], error) if alone else is_out_of_memory(error)):
                return [self._failed(run.spec, run, error) for run in group]
        else:
            updates = [self._update(run, report) for run, report in zip(group, reports, strict=True)]
            if self._population.max_group_size is not None:
                _release(group)
            return updates
        # Outside of the handler: the error refers to the tensors of the failed step.
        parts = self._parted(group)
        if alone:
            parts[0][0].micro_batch //= 2
        return [update for part in parts for update in self._advance(part)]

    def _parted(self, group: list[TrainingRun]) -> list[list[TrainingRun]]:
        """Return the same runs, each from its last whole epoch, with half as many trained together from here on."""
        size = self._population.max_group_size = max(1, len(group) // 2)
        self._population.runs = [run for run in self._population.runs if run not in group]
        names = [run.spec.name for run in group]
        _release(group)
        group.clear()
        again = [self._made(self._tasks[name]) for name in names]
        self._population.runs += again
        return [again[k : k + size] for k in range(0, len(again), size)]

    def _made(self, task: Task) -> TrainingRun:
        rows, device = task.spec.train_rows, task.spec.device
        known = [*self._population.runs, *([] if self._share_inputs_with is None else [self._share_inputs_with])]
        # Inputs are scaled by the training rows, so only runs on the same rows have the same inputs.
        same = (r for r in known if r.spec.device == device and np.array_equal(r.spec.train_rows, rows))
        run = TrainingRun(task.spec, self._dataset, share_inputs_with=next(same, None))
        if task.state is not None:
            _load(run, task.state)
        return run

    def _update(self, run: TrainingRun, report: EpochReport | None) -> Update:
        history = tuple(r.values() for r in run.history) if run.outcome else ()
        # After every epoch: the driver stores it, and resumes the run from it if this worker dies.
        state = pack_tensors(run.state_dict())
        self._tasks[run.spec.name] = Task(run.spec, state)
        return Update(run.spec.name, report, state, run.outcome, history)

    def _failed(self, spec: RunSpec, run: TrainingRun | None, error: Exception) -> Update:
        """Outcome of a run that ran out of memory, or whose user-supplied model raised; anything else is a defect."""
        own_code = spec.hyperparameters.family in spec.factories
        if isinstance(error, HyperError) or not (own_code or is_out_of_memory(error)):
            raise error
        reason = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {str(error).splitlines()[0]}"
        if run is not None:
            self._population.runs.remove(run)
        epochs, seconds = (run.epoch, sum(r.duration_s for r in run.history)) if run else (0, 0.0)
        kind: FailureKind = "out_of_memory" if is_out_of_memory(error) else "model_error"
        return Update(spec.name, None, None, Outcome.failed(reason, epochs, seconds, kind=kind))


def _release(group: list[TrainingRun]) -> None:
    """Release what a step needs, to free memory; an engine and its runs refer to each other."""
    for run in group:
        run.engine = None


def run_population(runner: PopulationRunner) -> Iterator[list[Update] | Exception]:
    """Yield the updates of its tasks until all have finished; the last one may be an error for the driver to raise."""
    unfinished = runner.n_tasks
    while unfinished:
        try:
            updates = runner.advance()
        except Exception as error:
            # A traceback does not survive pickling, so it travels as a note.
            error.add_note(traceback.format_exc())
            yield error
            return
        yield updates
        unfinished -= sum(update.outcome is not None for update in updates)


def _load(run: TrainingRun, state: bytes) -> None:
    try:
        run.load_state_dict(unpack_tensors(state))
        check_fits(run)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the checkpoint of {run.spec.name} does not fit this run: {reason}",
            "checkpoints",
            "remove it, or start over with --fresh, which backs it up",
        ) from error


def _can_halve(run: TrainingRun, error: Exception) -> bool:
    """Return True if a GPU may fit the same steps in parts by autograd, which halves them further if needed."""
    return isinstance(error, torch.OutOfMemoryError) and run.micro_batch > 1 and ExplicitEngine.shape(run) is not None
