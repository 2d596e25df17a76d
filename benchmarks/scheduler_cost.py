"""Processor time of a decision of the search with rungs, up to 10,000 trials on made-up curves.

Nothing is trained: time is measured only while the scheduler receives results and decides.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import Result as Figure
from benchmarks.common import arguments, show
from scripts.config.search_space import FloatRange, IntRange, SearchSpace, Values
from scripts.random_keys import numpy_generator
from scripts.tuning.decisions import Action, Result, Start, Stop
from scripts.tuning.scheduler import RungConfig, Scheduler

_N_LAST = 1000  # decisions that a figure is the mean of
SPACE: SearchSpace = {
    "learning_rate": FloatRange(low=1e-5, high=1e-1, log=True),
    "weight_decay": FloatRange(low=1e-6, high=1e-1, log=True),
    "dropout": FloatRange(low=0.0, high=0.6),
    "width": IntRange(low=16, high=512, log=True),
    "depth": IntRange(low=1, high=6),
    "batch_size": IntRange(low=32, high=1024, log=True),
    "momentum": FloatRange(low=0.5, high=0.99),
    "window": IntRange(low=1, high=60),
}


class Curves:
    """Learning curves with one peak, and the noise of splits and epochs."""

    def __init__(self, scheduler: Scheduler, last_epoch: int) -> None:
        self._cube, self._last = scheduler.cube, last_epoch
        self._values: list[Values] = []
        self._epochs: dict[tuple[int, int], int] = {}
        self.epochs_spent = 0

    def play(self, action: Action) -> Result:
        """The result of a decision."""
        if isinstance(action, Start):
            self._values.append(action.values)
        key = (action.trial, action.split)
        before = self._epochs.get(key, 0)
        self._epochs[key] = action.epochs
        point = self._cube.point(self._values[action.trial])
        peak = numpy_generator("cost", "peak").uniform(size=len(point))
        top = 0.8 - 0.3 * float(((point - peak) ** 2).mean()) + numpy_generator("cost", *key).normal(0.0, 0.005)
        epochs = np.arange(before + 1, action.epochs + 1)
        noise = numpy_generator("cost", *key, before).normal(0.0, 0.003, len(epochs))
        self.epochs_spent += len(epochs)
        return Result(tuple((top - 0.3 / epochs + noise).tolist()), ended=action.epochs >= self._last)


@threadpool_limits.wrap(limits=1)  # as in a search
def measure(n_trials: int) -> list[Figure]:
    """Cost of a decision and storage per trial each time that the number of trials has doubled."""
    config = RungConfig()
    scheduler = Scheduler(SPACE, config, seed=0)
    curves = Curves(scheduler, config.rungs[-1])
    seconds: list[float] = []
    journal_bytes, figures = 0, list[Figure]()
    milestones = [n for k in range(4, -1, -1) if (n := n_trials // 2**k) > 1]  # of one there is no standard error
    while milestones:
        start = time.process_time()
        action = scheduler.next_action()
        seconds.append(time.process_time() - start)
        if action is None or isinstance(action, Stop):
            raise RuntimeError(f"no decision: {action}")
        result = curves.play(action)
        journal_bytes += len(json.dumps([asdict(action), result.scores]))
        start = time.process_time()
        scheduler.record(len(scheduler.actions) - 1, result)
        seconds[-1] += time.process_time() - start
        if isinstance(action, Start) and action.trial + 1 == milestones[0]:
            n = milestones.pop(0)
            figures += _figures(f"{n} trials", np.array(seconds[-_N_LAST:]) * 1000.0)
            figures.append(Figure(f"{n} trials", "memory_bytes_per_trial", len(pickle.dumps(scheduler)) / n, None, n))
            figures.append(Figure(f"{n} trials", "journal_bytes_per_trial", journal_bytes / n, None, n))
            figures.append(Figure(f"{n} trials", "epochs", curves.epochs_spent, None, n))
            figures.append(Figure(f"{n} trials", "total_s", sum(seconds), None, n))
    return figures


def _figures(contender: str, milliseconds: np.ndarray) -> list[Figure]:
    """Mean with its standard error, 95th percentile and largest of the last decisions."""
    n = len(milliseconds)
    error = float(milliseconds.std(ddof=1)) / np.sqrt(n)
    return [
        Figure(contender, "mean_ms", float(milliseconds.mean()), error, n),
        Figure(contender, "p95_ms", float(np.percentile(milliseconds, 95)), None, n),
        Figure(contender, "max_ms", float(milliseconds.max()), None, n),
    ]


def main() -> None:
    """Drive one search and print the table."""
    options = arguments(__doc__, trials=10_000)
    show("cost of a decision, mean over the last 1,000 of them", measure(options.trials), options.json)


if __name__ == "__main__":
    main()
