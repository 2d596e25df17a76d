"""Many training runs of one architecture as one tensor program: folds, seeds, or trials that share shapes."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.training.lockstep import Lockstep
from scripts.training.run import TrainingRun, engine_of, train_epoch
from scripts.training.spec import EpochReport

_MOST_TOGETHER = 8  # more gain nothing on the CPU, where a step of them no longer fits its caches


class Population:
    """Carries runs forward together, an epoch at a time, each to the bits that it would reach alone.

    Runs of one family, shape, activation and batch size share their steps; everything else may differ: data, seed,
    learning rate and its schedule, weight decay, dropout, label smoothing, clipping, optimiser, averaging, patience.
    Finished runs leave; runs that share no shape, and those with a time limit, train one after the other.

    Parameters
    ----------
    runs : sequence of TrainingRun
        New, or with a loaded state, at any epoch each.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.runs = list(runs)

    @property
    def finished(self) -> bool:
        """Whether every run has its outcome."""
        return all(run.finished for run in self.runs)

    def groups(self) -> list[list[TrainingRun]]:
        """Unfinished runs, those together that train as one program."""
        by_shape: dict[object, list[TrainingRun]] = {}
        for number, run in enumerate(self.runs):
            if not run.finished:
                alone = run.spec.max_duration_s is not None
                by_shape.setdefault(number if alone else Lockstep.shape(run) or number, []).append(run)
        groups = list[list[TrainingRun]]()
        for same in by_shape.values():
            same.sort(key=lambda run: -len(run.train_rows))
            n_groups = -(-len(same) // _MOST_TOGETHER)
            groups += [same[k::n_groups] for k in range(n_groups)]
        return groups

    def advance(self) -> list[EpochReport | None]:
        """One more epoch of every unfinished run; by run its report, None for a run that did not finish one."""
        reports: dict[str, EpochReport | None] = {}
        for group in self.groups():
            for run, report in zip(group, train_epoch(engine_of(group)), strict=True):
                reports[id(run)] = report
        return [reports.get(id(run)) for run in self.runs]
