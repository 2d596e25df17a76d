"""Populations: several runs of one shape, such as folds or seeds, trained as one tensor program."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.training.engines.engine import engine_of, train_epoch
from scripts.training.engines.explicit import ExplicitEngine
from scripts.training.models.tabm import TabM
from scripts.training.run import TrainingRun
from scripts.training.spec import EpochReport

# More gain nothing on the CPU, where a step of them no longer fits its caches; a GPU is idle with few
# (docs/log.md, 2026-11-24, "Populations").
MAX_GROUP_SIZE = {"cpu": 8, "cuda": 64}


class Population:
    """Training of runs together, epoch by epoch, with results that are bitwise identical to single runs.

    Runs of one family, shape, activation and batch size share their steps; everything else may differ: data, seed,
    learning rate and its schedule, weight decay, dropout, label smoothing, clipping, optimiser, averaging, patience.
    Finished runs leave; runs that share no shape, and those with a time limit, train one after the other.

    Parameters
    ----------
    runs : sequence of TrainingRun
        New, or with a loaded state, at any epoch each.
    max_group_size : int or None
        Most runs in one program, more are spread evenly over several; by their device if None.
    """

    def __init__(self, runs: Sequence[TrainingRun], max_group_size: int | None = None) -> None:
        self.runs, self.max_group_size = list(runs), max_group_size

    @property
    def finished(self) -> bool:
        """True if every run has its outcome."""
        return all(run.finished for run in self.runs)

    def groups(self) -> list[list[TrainingRun]]:
        """Unfinished runs, those together that train as one program."""
        by_shape: dict[object, list[TrainingRun]] = {}
        for number, run in enumerate(self.runs):
            if not run.finished:
                shape = ExplicitEngine.shape(run)
                # Products with a single column take another kernel, whose bits do depend on the place in memory.
                one_column = run.spec.hyperparameters.width == 1
                # A TabM is as large as a population already: more of them would only take memory.
                alone = shape is None or run.spec.max_duration_s is not None or one_column or type(run.model) is TabM
                by_shape.setdefault(number if alone else shape, []).append(run)
        groups = list[list[TrainingRun]]()
        for same in by_shape.values():
            # Neighbours take more steps in one call if those with more rows come first.
            same.sort(key=lambda run: -len(run.train_rows))
            n_groups = -(-len(same) // (self.max_group_size or MAX_GROUP_SIZE[same[0].device.type]))
            groups += [same[k::n_groups] for k in range(n_groups)]
        return groups

    def advance(self) -> list[EpochReport | None]:
        """One more epoch of every unfinished run; by run its report, None for a run that did not finish one."""
        # By identity: groups are sorted by rows, and reports have the order of the runs.
        reports: dict[int, EpochReport | None] = {}
        for group in self.groups():
            reports |= zip(map(id, group), train_epoch(engine_of(group)), strict=True)
        return [reports.get(id(run)) for run in self.runs]
