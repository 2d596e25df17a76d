"""Choice of the engine for a run or a population of runs, and training of an epoch with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from scripts.training.engines.autograd import AutogradEngine
from scripts.training.engines.explicit import ExplicitEngine
from scripts.training.precision import matmul_precision
from scripts.training.spec import EpochReport

if TYPE_CHECKING:
    from scripts.training.run import TrainingRun


class OutOfTime(Exception):
    """A run has used its allowed seconds."""


class Engine(Protocol):
    """Trains epochs of its runs."""

    runs: list[TrainingRun]

    def epoch(self) -> list[float]:
        """Train an epoch of each run; the mean losses of their steps."""


def engine_of(runs: list[TrainingRun]) -> Engine:
    """Return the engine that trains these runs together: their own if they have one, else a new one.

    Parameters
    ----------
    runs : list of TrainingRun
        A single one, or several of one `ExplicitEngine.shape`.
    """
    engine = runs[0].engine
    # An engine holds the parameters of its runs in shared buffers. It is valid only for exactly these runs, and only
    # while none of them has moved to another engine, as runs do when a member of their population has finished.
    if engine is None or engine.runs != runs or any(run.engine is not engine for run in runs):
        engine = AutogradEngine(runs[0]) if ExplicitEngine.shape(runs[0]) is None else ExplicitEngine(runs)
        for run in runs:
            run.engine = engine
    return engine


def train_epoch(engine: Engine) -> list[EpochReport | None]:
    """Train and evaluate an epoch of each run of an engine; None for a run that ended before finishing it."""
    start = time.perf_counter()
    try:
        with matmul_precision(engine.runs[0].spec.hyperparameters.precision):
            losses = engine.epoch()
    except OutOfTime:
        (run,) = engine.runs  # a run with a time limit is trained alone
        run.stop_for_time()
        return [None]
    # Runs of a population share the time evenly: single times cannot be measured within one program.
    seconds = (time.perf_counter() - start) / len(losses)
    return [run.conclude_epoch(loss, seconds) for run, loss in zip(engine.runs, losses, strict=True)]
