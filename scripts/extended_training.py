"""Phase 2: trains the best configurations of phase 1 long, under cross-validation, and chooses one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.artifacts import RunDir, file_sha256, read_json, unpack_tensors, write_bytes, write_json
from scripts.checkpoints import Checkpoints
from scripts.config import Experiment
from scripts.data.dataset import Dataset, Split
from scripts.errors import InputError
from scripts.execution.driver import Watch, execute
from scripts.execution.executor import Executor, Update
from scripts.out_of_fold import choose_decision, judge, n_duplicates, prediction_table
from scripts.search_space import Hyperparameters
from scripts.selection import best_by_mean, rank
from scripts.training.spec import Outcome, RunSpec

COMMAND = "run_extended_training.py"


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
        self._results = read_json(self.run_dir.extended_results, COMMAND)
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
        watch: Watch,
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
        execute(work, executor, Checkpoints(self.run_dir.extended / "checkpoints"), watch, deadline)
        usable = [c for c in work.configurations() if c is not None]
        if not usable:
            reason = next(o.failure for o in work.outcomes.values() if o.failure)
            what = f"every configuration failed in at least one fold, the first with: {reason}"
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
            "best_constant_accuracy": float(np.average(constants, weights=[len(t) for _, t in work.folds])),
            "best_naive": best_naive,
            "n_failed_configurations": len(work.trials) - len(usable),
            "n_duplicates": n_duplicates(work.dataset, work.folds),
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


class CrossValidation:
    """Every fold of every configuration as work for the driver."""

    def __init__(self, experiment: Experiment, dataset: Dataset, trials: Sequence[dict[str, Any]], device: str) -> None:
        self.experiment, self.dataset, self.trials, self.device = experiment, dataset, list(trials), device
        self.folds: list[Split] = dataset.folds(
            experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed
        )
        self._waiting = [self._spec(trial, fold) for trial in self.trials for fold in range(len(self.folds))]
        self._done: dict[str, tuple[Outcome, list[Any], torch.Tensor]] = {}

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Outcome of each finished fold by the name of its run."""
        return {name: outcome for name, (outcome, _, _) in self._done.items()}

    @property
    def epochs_planned(self) -> int:
        """Most epochs that can be spent."""
        return len(self.trials) * len(self.folds) * self.experiment.extended.extended_epochs

    @property
    def epochs_spent(self) -> int:
        """Epochs of every fold of every configuration."""
        return sum(outcome.epochs for outcome, _, _ in self._done.values())

    def next_spec(self) -> RunSpec | None:
        """The next fold."""
        return self._waiting.pop(0) if self._waiting else None

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Keep outcome, learning curve and predictions."""
        if update.outcome is None:
            raise ValueError(f"{spec.name} has no outcome")
        logits = unpack_tensors(update.state)["validation_logits"] if update.state else torch.empty(0)
        self._done[spec.name] = (update.outcome, list(update.history), logits)

    def configurations(self) -> list[dict[str, Any] | None]:
        """A record for each configuration; None where a fold failed."""
        return [self._configuration(trial) for trial in self.trials]

    def probabilities(self, trial_number: int) -> list[np.ndarray]:
        """Class probabilities of the tested rows of each fold."""
        return [self._done[_name(trial_number, fold)][2].softmax(dim=1).numpy() for fold in range(len(self.folds))]

    def judge(self, configurations: Sequence[dict[str, Any]]) -> str:
        """Add to each record how sure it is (see `out_of_fold.judge`); name of the best naive rule."""
        rows = np.concatenate([test for _, test in self.folds])
        said = {c["trial_number"]: np.concatenate(self.probabilities(c["trial_number"])) for c in configurations}
        correct = {number: p.argmax(axis=1) == self.dataset.y[rows] for number, p in said.items()}
        best = best_by_mean(configurations)["trial_number"]
        name, found = judge(self.dataset, rows, correct, best, self.experiment.seed)
        for configuration in configurations:
            configuration |= found[configuration["trial_number"]]
        return name

    def decision(self, trial_number: int) -> dict[str, Any]:
        """Threshold and margin for a configuration, from its out-of-fold predictions."""
        logits = [self._done[_name(trial_number, fold)][2].numpy() for fold in range(len(self.folds))]
        return choose_decision(self.dataset, [test for _, test in self.folds], logits, self.experiment)

    def _spec(self, trial: dict[str, Any], fold: int) -> RunSpec:
        experiment, config = self.experiment, self.experiment.extended
        train, test = self.folds[fold]
        return RunSpec(
            name=_name(trial["number"], fold),
            address=(experiment.seed, "extended", trial["number"], "fold", fold),
            hyperparameters=Hyperparameters(**trial["hyperparameters"]),
            train_rows=train,
            validation_rows=test,
            epochs=config.extended_epochs,
            evaluation_frequency=config.evaluation_frequency,
            patience=config.early_stopping_patience,
            min_delta=config.early_stopping_min_delta,
            monitor=config.monitor,
            trading=experiment.data.trading,
            factories=experiment.models,
            device=self.device,
        )

    def _configuration(self, trial: dict[str, Any]) -> dict[str, Any] | None:
        runs = [self._done[_name(trial["number"], fold)][:2] for fold in range(len(self.folds))]
        outcomes = [outcome for outcome, _ in runs]
        if any(outcome.state == "failed" for outcome in outcomes):
            return None
        accuracies = [o.val_accuracy for o in outcomes if o.val_accuracy is not None]
        return {
            "trial_number": trial["number"],
            "config": Hyperparameters(**trial["hyperparameters"]).model_dump(),
            "phase_1_accuracy": trial["val_accuracy"],
            "avg_accuracy": float(np.mean(accuracies)),
            "std_accuracy": float(np.std(accuracies, ddof=1)),
            "avg_val_loss": _mean([o.val_loss for o in outcomes]),
            "avg_train_loss": _mean([o.train_loss for o in outcomes]),
            "avg_simulated_return": _mean([o.simulated_return for o in outcomes]),
            "n_parameters": outcomes[0].n_parameters,
            "operations_per_row": outcomes[0].operations_per_row,
            "duration_s": sum(o.duration_s for o in outcomes),
            "inference_us_per_row": _mean([o.inference_us_per_row for o in outcomes]),
            "folds": [
                {
                    "fold": fold,
                    "epochs": outcome.epochs,
                    "best_epoch": outcome.best_epoch,
                    "accuracy": outcome.val_accuracy,
                    "val_loss": outcome.val_loss,
                    "simulated_return": outcome.simulated_return,
                    "history": history,
                }
                for fold, (outcome, history) in enumerate(runs)
            ],
        }


def top_trials(trials: Sequence[dict[str, Any]], top_n: int) -> list[dict[str, Any]]:
    """The best `top_n` trials with distinct hyperparameters; fewer if there are no more.

    By the rank that a search with rungs gave them, else by the accuracy on the one split.
    """
    last = len(trials) + 1
    usable = [t for t in trials if t["state"] != "failed"]
    chosen: dict[str, dict[str, Any]] = {}
    for trial in sorted(usable, key=lambda t: (t.get("rank") or last, -t["val_accuracy"], t["number"])):
        chosen.setdefault(json.dumps(trial["hyperparameters"], sort_keys=True), trial)
    return list(chosen.values())[:top_n]


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
            "tuning": read_json(run_dir.trials, "run_hyperparameter_tuning.py")["epochs_spent"],
            "extended": results["epochs_spent"],
        },
    }
    write_json(run_dir.best_config, provenance | body)


def _name(trial_number: int, fold: int) -> str:
    return f"extended_{trial_number:04d}_fold_{fold}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
