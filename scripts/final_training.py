"""Phase 3: the chosen configuration on all development data.

A dated hold-out at the end of the development data finds the best epoch and the calibration; then the model is
trained on all development rows for as many epochs, on the same learning-rate schedule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from scripts.artifacts import RunDir, file_sha256, unpack_tensors, write_json, write_tensors
from scripts.checkpoints import Checkpoints
from scripts.config import Experiment
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.errors import EnvironmentFailed, HyperError, InputError
from scripts.evaluation.metrics import Calibration, fit_calibration
from scripts.execution.driver import Watch, execute
from scripts.execution.executor import Executor, Update
from scripts.search_space import Hyperparameters
from scripts.training.spec import Outcome, RunSpec


class FinalTraining:
    """The hold-out run, then the run on all rows, as work for the driver."""

    def __init__(self, experiment: Experiment, best: dict[str, Any], dataset: Dataset, device: str) -> None:
        config = experiment.final
        hyperparameters = Hyperparameters.model_validate(best["hyperparameters"])
        smoothing = max(hyperparameters.label_smoothing, config.label_smoothing)
        self.hyperparameters = hyperparameters.model_copy(update={"schedule": "cosine", "label_smoothing": smoothing})
        self.experiment, self.dataset = experiment, dataset
        self.train, self.holdout = dataset.tail_split(config.holdout_fraction, experiment.seed)
        self._base = RunSpec(
            name="final_holdout",
            address=(experiment.seed, "final", "holdout"),
            hyperparameters=self.hyperparameters,
            train_rows=self.train,
            validation_rows=self.holdout,
            epochs=config.epochs,
            schedule_epochs=config.epochs,
            patience=config.early_stopping_patience,
            min_delta=config.early_stopping_min_delta,
            monitor=config.monitor,
            warmup_epochs=config.warmup_epochs,
            ema_decay=config.ema_decay,
            trading=experiment.data.trading,
            factories=experiment.models,
            device=device,
        )
        self._next: RunSpec | None = self._base
        self.outcomes: dict[str, Outcome] = {}
        self.histories: dict[str, list[Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}

    def next_spec(self) -> RunSpec | None:
        """The hold-out run, and the full run once the hold-out has told its length."""
        spec, self._next = self._next, None
        return spec

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Keep the outcome; after the hold-out run, plan the full run."""
        outcome = update.outcome
        if outcome is None or outcome.state == "failed" or update.state is None:
            raise _failure(spec.name, outcome)
        self.outcomes[spec.name] = outcome
        self.histories[spec.name] = list(update.history)
        self.states[spec.name] = unpack_tensors(update.state)
        if spec.name == "final_holdout":
            address = (*self._base.address[:2], "all")
            nothing = np.empty(0, dtype=np.int64)
            self._next = replace(
                spec,
                name="final_all",
                address=address,
                train_rows=self.dataset.rows,
                validation_rows=nothing,
                epochs=outcome.best_epoch,
                patience=10**9,
            )


def _failure(name: str, outcome: Outcome | None) -> HyperError:
    """A failed run as an error: the machine's doing is worth another try, a diverging configuration is not."""
    reason = outcome.failure if outcome and outcome.failure else "no outcome"
    if outcome is not None and outcome.is_environment:
        return EnvironmentFailed(reason, name, "free memory or use fewer --workers; the same command goes on")
    remedy = "choose among more configurations: run_extended_training.py --fresh --top-n 10"
    return InputError(reason, name, remedy)


def run_final_training(
    work: FinalTraining,
    best: dict[str, Any],
    executor: Executor,
    run_dir: RunDir,
    watch: Watch,
    deadline: float | None,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Train and write final_model.pkl and final_training_results.json; the content of the latter.

    Parameters
    ----------
    best : dict
        Content of best_config.json.
    """
    dataset = work.dataset
    execute(work, executor, Checkpoints(run_dir.final / "checkpoints"), watch, deadline)
    holdout, full = work.outcomes["final_holdout"], work.outcomes["final_all"]
    logits = work.states["final_holdout"]["validation_logits"].numpy()
    calibration = fit_calibration(logits, dataset.y[work.holdout])
    epochs = best["epochs_spent"] | {"final": holdout.epochs + full.epochs}
    write_tensors(run_dir.final_model, provenance | _model_content(work, best, calibration, epochs))
    body = provenance | {
        "epochs_spent": holdout.epochs + full.epochs,
        "best_epoch": holdout.best_epoch,
        "holdout_rows": len(work.holdout),
        "holdout_accuracy": holdout.val_accuracy,
        "holdout_loss": holdout.val_loss,
        "holdout_simulated_return": holdout.simulated_return,
        "temperature": calibration.temperature,
        "bias": calibration.bias.tolist(),
        "n_parameters": full.n_parameters,
        "duration_s": holdout.duration_s + full.duration_s,
        "history": work.histories["final_holdout"],
        "history_all": work.histories["final_all"],
        "files": {run_dir.final_model.name: file_sha256(run_dir.final_model)},
    }
    write_json(run_dir.final_results, body)
    return body


def _model_content(
    work: FinalTraining, best: dict[str, Any], calibration: Calibration, epochs: dict[str, int]
) -> dict[str, Any]:
    """Everything that a prediction needs, and where the model came from."""
    dataset = work.dataset
    preprocessor = Preprocessor.fit(dataset.x[dataset.rows], dataset.categorical)
    shares = np.bincount(dataset.y[dataset.rows], minlength=dataset.n_classes) / len(dataset.rows)
    return {
        "weights": work.states["final_all"]["best_weights"],
        "preprocessor": preprocessor.state_dict(),
        "hyperparameters": work.hyperparameters.model_dump(),
        "temperature": calibration.temperature,
        "bias": calibration.bias.tolist(),
        "experiment": work.experiment.recorded(),
        "features": list(dataset.feature_names),
        "vocabularies": {name: list(values) for name, values in dataset.vocabularies.items()},
        "classes": list(dataset.classes),
        "class_positions": None if dataset.class_positions is None else list(dataset.class_positions),
        "class_shares": shares.tolist(),
        "selection": best["selection"],
        "epochs_spent": epochs,
    }
