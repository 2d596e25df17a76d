"""Phase 2 from the best trials to the selected configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts.config.experiment import Experiment
from scripts.config.search_space import PlainValues
from scripts.errors import MORE_MEMORY, EnvironmentFailed, InputError
from scripts.execution.driver import RunMonitor, execute
from scripts.execution.executor import Executor
from scripts.extended_training.cross_validation import CrossValidation
from scripts.extended_training.out_of_fold import n_duplicates, prediction_table
from scripts.extended_training.selection import complete, rank
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import file_sha256, write_bytes
from scripts.storage.extended_record import Extended
from scripts.storage.record_base import Made
from scripts.storage.records import BestConfig, Trials
from scripts.storage.result_records import Selection
from scripts.storage.run_dir import Command, RunDir


class ExtendedTrainer:
    """Cross-validation of the best few configurations, and its results.

    Parameters
    ----------
    run_dir : path-like
        Run directory; the current one by default.
    """

    def __init__(self, run_dir: str | Path = ".") -> None:
        self.run_dir = RunDir(Path(run_dir))
        self._results: Extended | None = None

    def load_extended_results(self) -> Extended:
        """Read the results of phase 2.

        Raises
        ------
        MissingInputError, InputError
            There are none, or they are damaged.
        """
        self._results = read_record(self.run_dir.extended_results, Command.EXTENDED, Extended)
        return self._results

    def get_best_configuration(self) -> PlainValues:
        """Return the chosen configuration by field: `config`, `avg_accuracy`, `std_accuracy`, `rank` and others."""
        return (self._results or self.load_extended_results()).chosen.body()

    def run(
        self,
        work: CrossValidation,
        executor: Executor,
        watch: RunMonitor,
        deadline: float | None,
        provenance: Made,
    ) -> Extended:
        """Train, write the results, the out-of-fold predictions and best_config.json; the results.

        Raises
        ------
        InputError
            No configuration got through all folds.
        BudgetEnded
            The time budget ended first.
        """
        checkpoints = Checkpoints(self.run_dir.extended / "checkpoints")
        execute(work, executor, checkpoints, watch, deadline, work.group_size(executor.capacity))
        trained = work.trained()
        if not complete(trained):
            failed = next(o for o in work.outcomes if o.state == "failed")
            what = f"every configuration failed in at least one fold, the first with: {failed.failure}"
            if failed.is_environment:
                raise EnvironmentFailed(what, str(self.run_dir.extended), MORE_MEMORY)
            raise InputError(what, str(self.run_dir.extended), "add --fresh and a larger --top-n")
        best_naive, evaluated = work.evaluated(trained)
        ranked, reason = rank(evaluated, work.experiment.extended.selection_order)
        constants = [np.bincount(work.dataset.y[test]).max() / len(test) for _, test in work.folds]
        probabilities = {c.trial_number: work.probabilities(c.trial_number) for c in ranked}
        table = prediction_table(work.dataset, work.folds, probabilities)
        self.run_dir.extended.mkdir(parents=True, exist_ok=True)
        write_bytes(self.run_dir.out_of_fold, table.to_parquet(index=False))
        self._results = Extended(
            **provenance.as_fields(),
            n_folds=len(work.folds),
            epochs_spent=work.epochs_spent,
            data_passes=work.data_passes,
            best_constant_accuracy=float(np.average(constants, weights=[len(t) for _, t in work.folds])),
            best_naive=best_naive,
            n_failed_configurations=len(work.trials) - len(trained),
            n_duplicates=n_duplicates(work.dataset, work.folds),
            racing=work.race_record(),
            configurations=ranked,
            reason=reason,
            files={self.run_dir.out_of_fold.name: file_sha256(self.run_dir.out_of_fold)},
        )
        write_record(self.run_dir.extended_results, self._results)
        write_best_config(self.run_dir, work.experiment, self._results, provenance)
        return self._results


def write_best_config(run_dir: RunDir, experiment: Experiment, results: Extended, provenance: Made) -> None:
    """Write best_config.json: all that phase 3 needs, and why this configuration was chosen."""
    best = results.chosen
    selection = Selection(
        trial_number=best.trial_number,
        reason=results.reason,
        avg_accuracy=best.avg_accuracy,
        std_accuracy=best.std_accuracy,
        best_constant_accuracy=results.best_constant_accuracy,
        skill=best.skill,
        skill_se=best.skill_se,
        decision=best.decision,
    )
    searched = read_record(run_dir.trials, Command.TUNING, Trials)
    inputs = provenance.inputs | {run_dir.extended_results.name: file_sha256(run_dir.extended_results)}
    record = BestConfig(
        **provenance.as_fields() | {"inputs": inputs},
        hyperparameters=best.config,
        experiment=experiment,
        selection=selection,
        epochs_spent={"tuning": searched.epochs_spent, "extended": results.epochs_spent},
    )
    write_record(run_dir.best_config, record)
