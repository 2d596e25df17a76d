"""Number of workers that one driver keeps busy: the real scheduler on a simulated clock, with 1 to 10,000 workers.

Epoch durations are drawn from recorded trials (--recorded trials.json), one for each trial. The simulated clock
includes the work of the driver between two trainings. A decision takes its measured processor time. An operation of
the study takes the time that is measured first: of SQLite, or of PostgreSQL where HYPER_STORAGE names a server;
--start-ms and --report-ms replace it. --lags are multiples of the number of workers. --times multiplies the epoch
durations, as larger data would. A search ends early after --real-s seconds of this process; `reached` then shows fewer
trials.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import Result as Figure
from benchmarks.common import arguments, show
from benchmarks.scheduler_cost import SPACE, Curves
from scripts.random_keys import numpy_generator
from scripts.storage.database import Server, StudyLocation, server_url
from scripts.training.spec import Outcome
from scripts.tuning.decisions import Result, Start, Stop
from scripts.tuning.scheduler import RungConfig, Scheduler
from scripts.tuning.stages import draw, proposal_of
from scripts.tuning.study import TrialStudy

_OPERATIONS = 2  # of the study for each decision: the decision itself, or its trial, and its result
_N_STORED = 100


@dataclass(frozen=True)
class Simulated:
    """What a simulated search came to until its last decision; `driver_s` is processor time that decisions took."""

    n_decisions: int
    n_trials: int
    clock_s: float
    busy_s: float
    driver_s: float


@dataclass(frozen=True)
class StorageCost:
    """Seconds that the driver needs to store the start of a trial, and any other decision or result."""

    start_s: float
    report_s: float


@threadpool_limits.wrap(limits=1)  # as in a search
def simulate(
    n_workers: int, lag: int, n_trials: int, epoch_s: np.ndarray, cost: StorageCost, real_s: float
) -> Simulated:
    """Drive a search on a clock that jumps from event to event; ends early after `real_s` seconds of this process.

    Parameters
    ----------
    epoch_s : ndarray
        Recorded seconds of an epoch; each trial has one of them.
    """
    scheduler = Scheduler(SPACE, RungConfig(lag=lag, max_trials=n_trials), seed=0)
    curves = Curves(scheduler, scheduler.config.rungs[-1])
    running: list[tuple[float, int, Result]] = []  # by the moment at which they finish
    clock = busy = driver = 0.0
    began, more = time.monotonic(), True
    while more:
        while len(running) < n_workers:
            start = time.process_time()
            action = scheduler.next_action()
            took = time.process_time() - start
            driver, clock = driver + took, clock + took
            if action is None:
                break
            if isinstance(action, Stop) or time.monotonic() - began > real_s:
                more = False
                break
            before = curves.epochs_spent
            result = curves.play(action)
            own = numpy_generator("simulation", action.trial).choice(epoch_s)
            duration = float(own) * (curves.epochs_spent - before)
            busy, clock = busy + duration, clock + (cost.start_s if isinstance(action, Start) else cost.report_s)
            heapq.heappush(running, (clock + duration, len(scheduler.actions) - 1, result))
        if more:
            moment, number, result = heapq.heappop(running)
            start = time.process_time()
            scheduler.record(number, result)
            took = time.process_time() - start
            driver, clock = driver + took, max(clock, moment) + took + cost.report_s
    n_started = sum(isinstance(action, Start) for action in scheduler.actions)
    left = sum(max(0.0, moment - clock) for moment, _, _ in running)
    return Simulated(len(scheduler.actions), n_started, clock, busy - left, driver)


def operation_ms(place: StudyLocation) -> list[Figure]:
    """Milliseconds that the study takes for what a search does all the time, median with its error."""
    study = TrialStudy(place, {})
    values = draw(SPACE, 0, 0)
    history = [{"epoch": epoch, "val_accuracy": 0.5, "val_loss": 0.7, "train_loss": 0.7} for epoch in range(1, 9)]
    body = {"outcome": vars(Outcome.failed("no training")), "history": history, "before": 0}
    seconds: dict[str, list[float]] = {"start": [], "report": []}
    for number in range(_N_STORED):
        begun = time.perf_counter()
        study.start(proposal_of(SPACE, values), "random", decision=number, epochs=4, gain=None, origin=None)
        middle = time.perf_counter()
        study.note(f"result_{number:06d}", body)
        seconds["start"].append(middle - begun)
        seconds["report"].append(time.perf_counter() - middle)
    study.close()
    name = "PostgreSQL" if isinstance(place, Server) else "SQLite"
    return [_median(name, f"{what}_ms", np.array(values) * 1000.0) for what, values in seconds.items()]


def _median(contender: str, metric: str, values: np.ndarray) -> Figure:
    error = 1.2533 * float(values.std(ddof=1)) / np.sqrt(len(values))
    return Figure(contender, metric, float(np.median(values)), error, len(values))


def figures(n_workers: int, lag: int, n_trials: int, done: Simulated) -> list[Figure]:
    """One row of the table."""
    name = f"{n_workers} workers, lag {lag}, {n_trials} trials"
    values = {
        "reached": done.n_trials,
        "utilisation": done.busy_s / (done.clock_s * n_workers),
        "decisions_per_s": done.n_decisions / done.clock_s,
        "storage_per_s": _OPERATIONS * done.n_decisions / done.clock_s,
        "decision_ms": 1000.0 * done.driver_s / done.n_decisions,
    }
    return [Figure(name, metric, float(value), None, done.n_decisions) for metric, value in values.items()]


def recorded(path: Path) -> np.ndarray:
    """Seconds of an epoch of each trial of a trials.json."""
    trials = json.loads(path.read_text())["trials"]
    return np.array([trial["duration_s"] / trial["epochs"] for trial in trials if trial["epochs"]])


def main() -> None:
    """Measure storages, then simulate; print both tables."""
    options = arguments(
        __doc__,
        workers="1,10,100,1000,10000",
        most_trials=100_000,
        trials_per_worker=10,
        recorded="",
        times=1.0,
        lags="1,4",
        real_s=120.0,
        start_ms=0.0,
        report_ms=0.0,
    )
    cost = StorageCost(options.start_ms / 1000.0, options.report_ms / 1000.0) if options.report_ms else _measured()
    epoch_s = recorded(Path(options.recorded)) if options.recorded else np.array([1.0])
    epoch_s = epoch_s * options.times
    rows: list[Figure] = []
    for n_workers in map(int, options.workers.split(",")):
        n_trials = min(options.most_trials, max(100, options.trials_per_worker * n_workers))
        for lag in [n_workers * int(times) for times in options.lags.split(",")]:
            done = simulate(n_workers, lag, n_trials, epoch_s, cost, options.real_s)
            rows += figures(n_workers, lag, n_trials, done)
            print(f"{n_workers} workers, lag {lag}: {done}", file=sys.stderr, flush=True)
    stored = f"{1000 * cost.start_s:.3g} ms to store a start, {1000 * cost.report_s:.3g} ms a report"
    show(f"epochs of {np.median(epoch_s):.3g} s (median); {stored}", rows, options.json)


def _measured() -> StorageCost:
    """Of SQLite, and of PostgreSQL where HYPER_STORAGE names a server, which then counts."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    file = folder / f"cluster_simulation_{os.getpid()}.db"
    stored = operation_ms(file)
    file.unlink()
    if address := os.environ.pop("HYPER_STORAGE", None):
        stored += operation_ms(Server(f"simulation-{os.getpid()}", server_url(address, from_command_line=False)))
    show("what the study takes", stored, None)
    return StorageCost(*(figure.value / 1000.0 for figure in stored[-2:]))


if __name__ == "__main__":
    main()
