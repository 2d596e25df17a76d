"""Phase 3: the chosen configuration on all development data, several times with another seed.

A dated hold-out at the end of the development data finds the best epoch of each seed and the calibration; then each
network is trained on all development rows for as many epochs, on the same learning-rate schedule. The final model gives
the mean of the networks' logits, so that it hangs on no lucky seed, and their spread is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from scripts.artifacts import RunDir, file_sha256, unpack_tensors, write_json, write_tensors
from scripts.checkpoints import Checkpoints
from scripts.config import Experiment
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.errors import EnvironmentFailed, HyperError, InputError
from scripts.evaluation.metrics import Calibration, fit_calibration, log_loss
from scripts.evaluation.shift import FeatureReference
from scripts.execution.driver import Watch, execute
from scripts.execution.executor import Executor, Update
from scripts.search_space import Hyperparameters
from scripts.training.spec import Outcome, RunSpec


class FinalTraining:
    """For each seed the hold-out run, then the run on all rows, as work for the driver."""

    def __init__(self, experiment: Experiment, best: dict[str, Any], dataset: Dataset, device: str) -> None:
        config = experiment.final
        hyperparameters = Hyperparameters.model_validate(best["hyperparameters"])
        smoothing = max(hyperparameters.label_smoothing, config.label_smoothing)
        self.hyperparameters = hyperparameters.model_copy(update={"schedule": "cosine", "label_smoothing": smoothing})
        self.experiment, self.dataset, self.n_seeds = experiment, dataset, config.n_seeds
        self.train, self.holdout = dataset.tail_split(config.holdout_fraction, experiment.seed)
        self._waiting = [self._holdout_spec(k, device) for k in range(self.n_seeds)]
        self.outcomes: dict[str, Outcome] = {}
        self.histories: dict[str, list[Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}

    def _holdout_spec(self, k: int, device: str) -> RunSpec:
        experiment, config = self.experiment, self.experiment.final
        return RunSpec(
            name=_name("holdout", k),
            address=(experiment.seed, "final", k, "holdout"),
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

    def next_spec(self) -> RunSpec | None:
        """A run on all rows as soon as the hold-out run of its seed has told its length."""
        return self._waiting.pop(0) if self._waiting else None

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Keep the outcome; after a hold-out run, plan the full run of the same seed."""
        outcome = update.outcome
        if outcome is None or outcome.state == "failed" or update.state is None:
            raise _failure(spec.name, outcome)
        self.outcomes[spec.name] = outcome
        self.histories[spec.name] = list(update.history)
        self.states[spec.name] = unpack_tensors(update.state)
        if len(spec.validation_rows):
            full = replace(
                spec,
                name=spec.name.replace("holdout", "all"),
                address=(*spec.address[:-1], "all"),
                train_rows=self.dataset.rows,
                validation_rows=np.empty(0, dtype=np.int64),
                epochs=outcome.best_epoch,
                patience=10**9,
            )
            self._waiting.append(full)

    def of_each_seed(self, part: str) -> list[Outcome]:
        """Outcomes of the runs on the hold-out's split ("holdout") or on all rows ("all"), by seed."""
        return [self.outcomes[_name(part, k)] for k in range(self.n_seeds)]

    def holdout_logits(self) -> np.ndarray:
        """Mean logits of the networks on the hold-out, float64 of shape (n_holdout, n_classes)."""
        logits = [self.states[_name("holdout", k)]["validation_logits"].numpy() for k in range(self.n_seeds)]
        return np.asarray(np.mean(logits, axis=0, dtype=np.float64))


def _name(part: str, k: int) -> str:
    return f"final_{part}_seed_{k}"


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
    together = -(-work.n_seeds // executor.capacity)
    execute(work, executor, Checkpoints(run_dir.final / "checkpoints"), watch, deadline, together)
    holdouts, fulls = work.of_each_seed("holdout"), work.of_each_seed("all")
    logits, y = work.holdout_logits(), dataset.y[work.holdout]
    calibration = fit_calibration(logits, y)
    spent = sum(outcome.epochs for outcome in (*holdouts, *fulls))
    content = model_content(work, best, calibration, best["epochs_spent"] | {"final": spent})
    write_tensors(run_dir.final_model, provenance | content)
    body = provenance | {
        "epochs_spent": spent,
        "best_epochs": [outcome.best_epoch for outcome in holdouts],
        "holdout_rows": len(work.holdout),
        "holdout_accuracy": float((logits.argmax(axis=1) == y).mean()),
        "holdout_loss": log_loss(y, calibration.probabilities(logits)),
        "temperature": calibration.temperature,
        "bias": calibration.bias.tolist(),
        "n_parameters": sum(outcome.n_parameters for outcome in fulls),
        "duration_s": sum(outcome.duration_s for outcome in (*holdouts, *fulls)),
        "seeds": [_seed_record(work, k) for k in range(work.n_seeds)],
        "files": {run_dir.final_model.name: file_sha256(run_dir.final_model)},
    }
    write_json(run_dir.final_results, body)
    return body


def _seed_record(work: FinalTraining, k: int) -> dict[str, Any]:
    """What one seed came to on the hold-out, and its learning curves."""
    outcome = work.outcomes[_name("holdout", k)]
    return {
        "holdout_accuracy": outcome.val_accuracy,
        "holdout_loss": outcome.val_loss,
        "holdout_simulated_return": outcome.simulated_return,
        "history": work.histories[_name("holdout", k)],
        "history_all": work.histories[_name("all", k)],
    }


def model_content(
    work: FinalTraining, best: dict[str, Any], calibration: Calibration, epochs: dict[str, int]
) -> dict[str, Any]:
    """Everything that a prediction needs, and where the model came from."""
    dataset = work.dataset
    preprocessor = Preprocessor.fit(dataset.x[dataset.rows], dataset.categorical)
    shares = np.bincount(dataset.y[dataset.rows], minlength=dataset.n_classes) / len(dataset.rows)
    return {
        "weights": [work.states[_name("all", k)]["best_weights"] for k in range(work.n_seeds)],
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
        "dropped_columns": list(dataset.dropped),
        "reference": _reference(dataset),
        "trained_on": _span(dataset),
        "selection": best["selection"],
        "epochs_spent": epochs,
    }


def _reference(dataset: Dataset) -> dict[str, Any]:
    """What the features looked like in training (see `FeatureReference`), so that drift is told without the data."""
    n_categories = [len(dataset.vocabularies.get(name, ())) for name in dataset.feature_names]
    reference = FeatureReference.of(dataset.x[dataset.rows], n_categories)
    return {
        "n_rows": reference.n_rows,
        "n_edges": [len(edges) for edges in reference.edges],
        "edges": torch.from_numpy(np.concatenate(reference.edges)),
        "shares": torch.from_numpy(np.concatenate(reference.shares)),
    }


def _span(dataset: Dataset) -> dict[str, Any]:
    """How many rows there were, of how many tickers, and their first and last date."""
    date = None if dataset.dates is None else dataset.dates[dataset.date[dataset.rows]]
    return {
        "n_rows": len(dataset.rows),
        "n_tickers": len(np.unique(dataset.ticker[dataset.rows])),
        "first_date": None if date is None else str(date.min())[:10],
        "last_date": None if date is None else str(date.max())[:10],
    }
