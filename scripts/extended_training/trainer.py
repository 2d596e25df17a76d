"""The results of phase 2: trained long under cross-validation, ranked, and one chosen for phase 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scripts.config.experiment import Experiment
from scripts.errors import MORE_MEMORY, EnvironmentFailed, InputError
from scripts.execution.driver import RunMonitor, execute
from scripts.execution.executor import Executor
from scripts.extended_training.cross_validation import CrossValidation
from scripts.extended_training.out_of_fold import n_duplicates, prediction_table
from scripts.extended_training.selection import complete, rank
from scripts.storage.artifacts import read_json, write_json
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import file_sha256, write_bytes
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
        self._results: dict[str, Any] | None = None

    def load_extended_results(self) -> dict[str, Any]:
        """Read the results of phase 2.

        Raises
        ------
        MissingInputError, InputError
            There are none, or they are damaged.
        """
        self._results = read_json(self.run_dir.extended_results, Command.EXTENDED)
        return self._results

    def get_best_configuration(self) -> dict[str, Any]:
        """The chosen configuration, with `config`, `avg_accuracy`, `std_accuracy`, `avg_simulated_return`, `rank`."""
        results = self._results or self.load_extended_results()
        best: dict[str, Any] = results["configurations"][0]
        return best

    def run(
        self,
        work: CrossValidation,
        executor: Executor,
        watch: RunMonitor,
        deadline: float | None,
        provenance: dict[str, Any],
    ) -> dict[str, Any]:
        """Train, write the results, the out-of-fold predictions and best_config.json; the results.

        Raises
        ------
        InputError
            No configuration got through all folds.
        BudgetEnded
            The time budget ended first.
        """
        checkpoints = Checkpoints(self.run_dir.extended / "checkpoints")
        execute(work, executor, checkpoints, watch, deadline, work.together(executor.capacity))
        usable = [c for c in work.configurations() if c is not None]
        if not complete(usable):
            failed = next(o for o in work.outcomes if o.state == "failed")
            what = f"every configuration failed in at least one fold, the first with: {failed.failure}"
            if failed.is_environment:
                raise EnvironmentFailed(what, str(self.run_dir.extended), MORE_MEMORY)
            raise InputError(what, str(self.run_dir.extended), "add --fresh and a larger --top-n")
        best_naive = work.judge(usable)
        ranked, reason = rank(usable, work.experiment.extended.selection_order)
        constants = [np.bincount(work.dataset.y[test]).max() / len(test) for _, test in work.folds]
        probabilities = {c["trial_number"]: work.probabilities(c["trial_number"]) for c in ranked}
        table = prediction_table(work.dataset, work.folds, probabilities)
        self.run_dir.extended.mkdir(parents=True, exist_ok=True)
        write_bytes(self.run_dir.out_of_fold, table.to_parquet(index=False))
        self._results = provenance | {
            "n_folds": len(work.folds),
            "epochs_spent": work.epochs_spent,
            "data_passes": work.data_passes,
            "best_constant_accuracy": float(np.average(constants, weights=[len(t) for _, t in work.folds])),
            "best_naive": best_naive,
            "n_failed_configurations": len(work.trials) - len(usable),
            "n_duplicates": n_duplicates(work.dataset, work.folds),
            "racing": work.race_record(),
            "configurations": [
                {"rank": position} | c | {"decision": work.decision(c["trial_number"])}
                for position, c in enumerate(ranked, 1)
            ],
            "reason": reason,
            "files": {self.run_dir.out_of_fold.name: file_sha256(self.run_dir.out_of_fold)},
        }
        write_json(self.run_dir.extended_results, self._results)
        write_best_config(self.run_dir, work.experiment, self._results, provenance)
        return self._results


def write_best_config(
    run_dir: RunDir, experiment: Experiment, results: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Write best_config.json: all that phase 3 needs, and why this configuration was chosen."""
    best = results["configurations"][0]
    body = {
        "hyperparameters": best["config"],
        "experiment": experiment.recorded(),
        "selection": {
            "trial_number": best["trial_number"],
            "reason": results["reason"],
            "avg_accuracy": best["avg_accuracy"],
            "std_accuracy": best["std_accuracy"],
            "best_constant_accuracy": results["best_constant_accuracy"],
            "skill": best["skill"],
            "skill_se": best["skill_se"],
            "decision": best["decision"],
        },
        "epochs_spent": {
            "tuning": read_json(run_dir.trials, Command.TUNING)["epochs_spent"],
            "extended": results["epochs_spent"],
        },
    }
    inputs = provenance["inputs"] | {run_dir.extended_results.name: file_sha256(run_dir.extended_results)}
    write_json(run_dir.best_config, provenance | body | {"inputs": inputs})
