"""Warm start from the best configurations of an earlier run."""

from __future__ import annotations

from scripts.config.search_space import Scalar
from scripts.storage.artifacts import read_record
from scripts.storage.durable_files import file_sha256
from scripts.storage.extended_record import Extended
from scripts.storage.records import Trial, Trials
from scripts.storage.run_dir import Command, RunDir

MAX_OF_A_RUN = 5


def best_of_run(run_dir: RunDir, max_trials: int = MAX_OF_A_RUN) -> tuple[list[tuple[int, dict[str, Scalar]]], str]:
    """Trial numbers and hyperparameters of the best distinct configurations, and the fingerprint of their data.

    Those of phase 2 come first, by their mean accuracy over the folds; then the trials of phase 1 by their rank, or by
    accuracy where the run gave no ranks. Results of phase 2 on another phase 1 do not count.

    Raises
    ------
    MissingInputError
        The directory has no finished phase 1.
    InputError
        An artifact is damaged, or no trial is usable.
    """
    trials = read_record(run_dir.trials, Command.TUNING, Trials)
    means = _means_of_phase_2(run_dir)

    def place(trial: Trial) -> tuple[float, ...]:
        last = float("inf")
        rank = last if trial.rank is None else trial.rank
        return -means.get(trial.number, -last), rank, -trial.accuracy, trial.number

    best: list[tuple[int, dict[str, Scalar]]] = []
    for trial in sorted(trials.usable, key=place):
        if all(trial.hyperparameters != values for _, values in best):
            best.append((trial.number, trial.hyperparameters))
    return best[:max_trials], trials.data_fingerprint


def _means_of_phase_2(run_dir: RunDir) -> dict[int, float]:
    """Mean accuracy over the folds by trial number; empty if phase 2 is not finished or was made from other trials."""
    if not run_dir.extended_results.exists():
        return {}
    extended = read_record(run_dir.extended_results, Command.EXTENDED, Extended)
    if extended.inputs != {run_dir.trials.name: file_sha256(run_dir.trials)}:
        return {}
    return {c.trial_number: c.avg_accuracy for c in extended.configurations}
