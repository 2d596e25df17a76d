"""Driver of the runs of a phase: distribute work, store every reported state, check the time limits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Protocol

from scripts.errors import BudgetEnded, InputError
from scripts.execution.executor import Executor, Task, Update, WorkerEvent, WorkerLoad
from scripts.execution.progress import Progress
from scripts.execution.tensorboard import TensorBoardLog
from scripts.execution.throughput import Throughput
from scripts.storage.artifacts import unpack_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.event_log import EventLog
from scripts.training.spec import Outcome, RunSpec
from scripts.training.state_record import checked_state

_GRACE, _MIN_GRACE_S = 0.03, 2.0  # of the time that was left, and seconds: for epochs in flight at the deadline


class RunSource(Protocol):
    """Source of runs and receiver of their outcomes."""

    def next_spec(self) -> RunSpec | None:
        """Return the next run to start; None while it depends on a running one, or at the end."""

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Take the outcome of a run."""


@dataclass(frozen=True)
class RunMonitor:
    """Progress, logs and warnings for people; `warn` also works without a progress display.

    With `histograms` the logs also contain the weights after every epoch whose state is reported. `publish_if_due` is
    called between updates, when nothing is being written to the run directory.
    """

    progress: Progress
    tensorboard: TensorBoardLog
    warn: Callable[[str], None]
    events: EventLog = field(default_factory=EventLog)
    histograms: bool = False
    pace: Throughput = field(default_factory=lambda: Throughput(time.monotonic()))
    publish_if_due: Callable[[], None] = lambda: None

    def started(self, spec: RunSpec, history: Sequence[Mapping[str, float | None]]) -> None:
        """Report a run that starts, or that resumes after the epochs of its history."""
        self.tensorboard.start(spec.name, history)
        self.events.write("run_started", run=spec.name, epochs_before=len(history), epochs=spec.epochs)

    def on_event(self, event: WorkerEvent) -> None:
        """Log an event of a worker."""
        self.events.write(**asdict(event))

    def loaded(self, load: WorkerLoad) -> None:
        """Show the load of the workers and the throughput every few seconds."""
        if (pace := self.pace.epochs_per_minute(self.progress.done, time.monotonic())) is None:
            return
        waiting = f", {load.waiting} waiting" if load.waiting else ""
        self.progress.workers = f"{load.busy} of {load.workers} workers busy{waiting}, {pace:.0f} epochs/min"
        figures = {"workers": load.workers, "busy": load.busy, "waiting": load.waiting, "epochs_per_minute": pace}
        name = f"workers_{self.events.phase.replace(' ', '_')}"
        self.tensorboard.epoch(name, self.progress.done, {f"workers/{tag}": value for tag, value in figures.items()})

    def updated(self, spec: RunSpec, update: Update) -> None:
        """Show and log an epoch of a run, its end, or both."""
        if update.report is not None:
            epoch = update.report.epoch
            metrics = {name: value for name, value in update.report.values().items() if name != "epoch"}
            self.progress.epoch(spec.name, epoch, spec.epochs, metrics)
            self.tensorboard.epoch(spec.name, epoch, metrics)
            if self.histograms and update.state is not None:
                self.tensorboard.weights(spec.name, epoch, unpack_tensors(update.state)["model"])
        if update.outcome is not None:
            self._finished(spec, update.outcome)

    def _finished(self, spec: RunSpec, outcome: Outcome) -> None:
        metrics = {n: getattr(outcome, n) for n in ("val_accuracy", "val_loss", "train_loss", "simulated_return")}
        self.tensorboard.finished(spec.name, spec.hyperparameters.model_dump(), metrics)
        text = f"{spec.hyperparameters.family}, {outcome.epochs} epochs, {outcome.state}"
        if outcome.failure:
            text += f": {outcome.failure}"
        self.progress.finished(spec.name, text, outcome.val_accuracy, spec.epochs - outcome.epochs)
        end = {"epochs": outcome.epochs, "state": outcome.state, "reason": outcome.failure or ""}
        self.events.write("run_ended", run=spec.name, **end)


def execute(
    work: RunSource,
    executor: Executor,
    checkpoints: Checkpoints,
    watch: RunMonitor,
    deadline: float | None,
    group_size: int = 1,
) -> None:
    """Run until `work` has nothing left.

    Parameters
    ----------
    deadline : float or None
        Moment of `time.monotonic` at which the time budget ends.
    group_size : int
        Most runs of one configuration that are handed to a worker as one population; changes no result.

    Raises
    ------
    BudgetEnded
        The deadline passed; every reported epoch is on disk. Epochs in flight are waited for a little while.
    """
    with _cut_off(deadline):
        _run_all(work, executor, checkpoints, watch, deadline, group_size)


def _run_all(
    work: RunSource,
    executor: Executor,
    checkpoints: Checkpoints,
    watch: RunMonitor,
    deadline: float | None,
    group_size: int,
) -> None:
    running: dict[str, RunSpec] = {}
    populations: list[set[str]] = []
    held: list[RunSpec] = []
    while True:
        max_populations = executor.capacity + executor.reserve
        while len(populations) < max_populations and (specs := _next_specs(work, group_size, held)):
            executor.submit(*(_task(spec, checkpoints, watch) for spec in specs))
            running |= {spec.name: spec for spec in specs}
            populations.append({spec.name for spec in specs})
        if not running:
            return
        update = executor.next_update()
        spec = running[update.name]
        # The checkpoint before everything else: what is logged or stored of an epoch is never ahead of its state.
        if update.state is not None:
            checkpoints.save(update.name, update.state)
        watch.updated(spec, update)
        watch.loaded(executor.load)
        if update.outcome is not None:
            del running[update.name]
            populations = [left for names in populations if (left := names - {update.name})]
            work.finished(spec, update)
            # Only after the result is stored: until then, a damaged newest checkpoint must have a predecessor.
            checkpoints.drop_earlier(update.name)
        watch.publish_if_due()
        if deadline is not None and time.monotonic() >= deadline and not executor.n_ready:
            raise _budget_ended()


def _budget_ended() -> BudgetEnded:
    return BudgetEnded("the time budget ended; everything finished is kept", "", "rerun the same command to resume")


@contextmanager
def _cut_off(deadline: float | None) -> Iterator[None]:
    """End running epochs soon after the deadline if they would far exceed the budget.

    By a signal, since any executor may wait for an epoch then. As with an interruption, every moment is a good one.
    """
    if deadline is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    left = deadline - time.monotonic()
    earlier = signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, max(left, 0.0) * (1.0 + _GRACE) + _MIN_GRACE_S)
    try:
        yield
    except _CutOff:
        raise _budget_ended() from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, earlier)


class _CutOff(BaseException):
    """Derives from BaseException, so that handlers of errors of a user's model do not catch it."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise _CutOff


def _next_specs(work: RunSource, max_specs: int, held: list[RunSpec]) -> list[RunSpec]:
    """Return the next runs of one configuration; the first run of another one waits for the next call.

    Runs of several configurations seldom share a shape, and would only wait for each other in one worker.
    """
    specs: list[RunSpec] = []
    while len(specs) < max_specs and (spec := held.pop() if held else work.next_spec()):
        if specs and spec.hyperparameters != specs[0].hyperparameters:
            held.append(spec)
            break
        specs.append(spec)
    return specs


def _task(spec: RunSpec, checkpoints: Checkpoints, watch: RunMonitor) -> Task:
    """Return the task of a run that starts, or that resumes from its checkpoint."""
    packed, state, warning = checkpoints.load(spec.name)
    if warning:
        watch.warn(warning)
    try:
        history = [] if packed is None else checked_state(state)["history"]
    except ValueError as error:
        remedy = "remove it; the run then starts from the beginning"
        raise InputError(str(error), str(checkpoints.path(spec.name)), remedy) from error
    watch.started(spec, history)
    return Task(spec, packed)
