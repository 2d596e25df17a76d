"""Learning curves of a search with rungs, as observations of the curve model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from scripts.tuning.curve_model import Observations
from scripts.tuning.decisions import Result
from scripts.tuning.encoding import UnitCube, stacked

_MIN_SCALE = 0.01  # lower bound of the accuracy gap between the best and the median run
_MAX_CONFIGURATIONS = 120  # that the model knows: half of them the best, half the latest


@dataclass
class Run:
    """A trial on a split."""

    number: int
    trial: int
    split: int
    epochs: int = 0
    rung: int = -1  # last rung reached
    best: float = -math.inf  # best mean over the epochs between two rungs
    ended: bool = False
    waiting: list[float] = field(default_factory=list)  # scores since the last rung


class LearningCurves:
    """Everything known about the runs, appended to as results become visible; linear in the epochs trained.

    Parameters
    ----------
    rungs : tuple of int
        Epochs at which runs pause, ascending.

    Attributes
    ----------
    n_rows : int
        Scores at rungs so far.
    """

    def __init__(self, rungs: tuple[int, ...], cube: UnitCube) -> None:
        self.rungs, self.cube = rungs, cube
        self.points: list[np.ndarray] = []  # of each trial
        self.runs: dict[tuple[int, int], Run] = {}
        # One row per rung that a run has reached: trial, rung, run, split, epochs of the mean, score.
        self._rows = np.empty((64, 6))
        self.n_rows = 0

    def add_trial(self, point: np.ndarray) -> None:
        """A further trial, at a point of the unit cube."""
        self.points.append(point)

    def run(self, trial: int, split: int) -> Run:
        """The run of a trial on a split, new if it was not there."""
        return self.runs.setdefault((trial, split), Run(len(self.runs), trial, split))

    def add_result(self, trial: int, split: int, result: Result) -> None:
        """Append the result of an action; an ended run counts as one at the last rung with its best score."""
        run = self.run(trial, split)
        for score in result.scores:
            run.epochs += 1
            # The first epochs are uninformative about the last ones and would dominate the first rung.
            if run.epochs > self.rungs[0] // 2 and math.isfinite(score):
                run.waiting.append(score)
            if run.rung + 1 < len(self.rungs) and run.epochs == self.rungs[run.rung + 1]:
                self._reach(run, run.rung + 1)
        if result.ended or result.failed:
            run.ended = True
            if result.failed:
                run.best, run.waiting = -math.inf, []
            if run.rung < len(self.rungs) - 1:
                self._reach(run, len(self.rungs) - 1)

    def _reach(self, run: Run, rung: int) -> None:
        """The score at a rung is the best mean between two rungs: what is kept in the end is the best epoch."""
        n = len(run.waiting)
        if n:
            run.best = max(run.best, float(np.mean(run.waiting)))
        run.rung, run.waiting = rung, []
        if self.n_rows == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self.n_rows] = (run.trial, rung, run.number, run.split, max(1, n), run.best)
        self.n_rows += 1

    def observations(self, n_rows: int) -> tuple[Observations, np.ndarray]:
        """The first `n_rows` rows for the model, and the trial of each of its configurations."""
        rows = self._rows[:n_rows]
        trial, score = rows[:, 0].astype(int), _comparable(rows[:, 2].astype(int), rows[:, 5])
        known = _selected(trial, score)
        kept = np.isin(trial, known)
        rung, run, split = (rows[kept, k].astype(int) for k in (1, 2, 3))
        points = stacked([self.points[t] for t in known], len(self.cube))
        logs = np.log(np.array(self.rungs, dtype=float))
        observed = Observations(
            inputs=self.cube.features(points),
            column_of=self.cube.column_of,
            log_epochs=logs / logs[-1],
            configuration=np.searchsorted(known, trial[kept]),
            rung=rung,
            run=run,
            split=split,
            n_epochs=rows[kept, 4],
            scores=score[kept],
        )
        return observed, known


def _comparable(run: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Scores in units of the distance between the best and the median run, those below the median drawn together.

    How bad a bad configuration is does not matter, and would hide the differences between the good ones. Failed runs
    count as the worst that was seen.
    """
    finite = np.isfinite(score)
    score = np.where(finite, score, score[finite].min() if finite.any() else 0.0)
    _, from_end = np.unique(run[::-1], return_index=True)
    last = score[len(score) - 1 - from_end]  # of each run; rows are in order of time
    top, median = float(last.max()), float(np.median(last))
    scale = max(top - median, _MIN_SCALE)
    below = -(top - median) / scale - np.log1p(np.maximum(median - score, 0.0) / scale)
    return np.where(score > median, (score - top) / scale, below)


def _selected(trial: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Trials that the model knows, ascending."""
    trials = np.unique(trial)
    if len(trials) <= _MAX_CONFIGURATIONS:
        return trials
    # The time of a fit grows with the cube of the number of scores. The latest trials are kept as well as the best, so
    # that the model learns from a new trial even if it was bad.
    best = np.full(int(trials[-1]) + 1, -np.inf)
    np.maximum.at(best, trial, score)
    half = _MAX_CONFIGURATIONS // 2
    leading = trials[np.argsort(-best[trials], kind="stable")[:half]]
    return np.union1d(leading, trials[-half:])
