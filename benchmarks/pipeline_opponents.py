"""Typical hyperparameter searches: Optuna's TPE over a plain PyTorch loop or Lightning's Trainer, in several processes.

Every trial trains to its end, and the weights of the best epoch of the best trial are the model, as in the tutorials.
Processes share one study in one storage, as in Optuna's page on parallelisation, each on one thread.
"""

from __future__ import annotations

import copy
import logging
import math
import multiprocessing
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contenders import with_own_dropout
from scripts.config.experiment import Experiment
from scripts.config.search_space import Choices, FloatRange, Hyperparameters, IntRange, Scalar, longest_window
from scripts.data.dataset import Dataset
from scripts.data.loading import load_development, load_sealed
from scripts.data.preprocessing import Preprocessor
from scripts.training.models.registry import build_model, window_offsets

_STUDY = "search"


@dataclass(frozen=True)
class Job:
    """A search with its numbers of trials, epochs and processes, and the `folder` of its files."""

    contender: str
    folder: Path
    experiment: Experiment
    n_trials: int
    epochs: int
    workers: int

    @property
    def storage(self) -> JournalStorage:
        """What the processes share."""
        return JournalStorage(JournalFileBackend(str(self.folder / "journal.log")))

    def weights(self, number: int) -> Path:
        """Where a trial leaves the weights of its best epoch."""
        return self.folder / f"trial_{number}.pt"


class Tables:
    """The rows that a search is given, scaled by its training rows."""

    def __init__(self, experiment: Experiment, dataset: Dataset) -> None:
        self.train, self.validation = dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed)
        self.preprocessor = Preprocessor.fit(dataset.x, dataset.categorical, self.train)
        self.n_classes = dataset.n_classes
        self.x, self.y = self._inputs(dataset), torch.from_numpy(dataset.y)

    def _inputs(self, dataset: Dataset) -> torch.Tensor:
        return torch.from_numpy(self.preprocessor.transform(dataset.x))

    def rows(self, rows: np.ndarray, hp: Hyperparameters) -> TensorDataset:
        """Inputs and targets of rows, or of the windows that end with them."""
        index = torch.from_numpy(rows)
        return TensorDataset(gathered(self.x, index, hp), self.y[index])

    def accuracy(self, model: nn.Module, hp: Hyperparameters, other: Dataset) -> float:
        """Of a model on the usable rows of another data set."""
        x, index = self._inputs(other), torch.from_numpy(other.rows)
        model.eval()
        with torch.no_grad():
            said = torch.cat([model(gathered(x, part, hp)).argmax(1) for part in index.split(4096)])
        return float((said == torch.from_numpy(other.y)[index]).double().mean())


def gathered(x: torch.Tensor, index: torch.Tensor, hp: Hyperparameters) -> torch.Tensor:
    """Rows, or windows of rows, of a table."""
    offsets = window_offsets(hp)
    return x[index] if offsets is None else x[index[:, None] + torch.tensor(list(offsets))]


class Training:
    """A trial: model, loaders, loss and optimiser by its hyperparameters; remembers its best epoch."""

    def __init__(self, tables: Tables, hp: Hyperparameters, epochs: int) -> None:
        self.hp, self.epochs = hp, epochs
        train = tables.rows(tables.train, hp)
        self.train = DataLoader(train, batch_size=hp.batch_size, shuffle=True)
        self.validation = DataLoader(tables.rows(tables.validation, hp), batch_size=1024)
        self.model = with_own_dropout(build_model(hp, tables.preprocessor.n_outputs, tables.n_classes, {}))
        self.weights: torch.Tensor | None = None
        if hp.class_weights == "balanced":
            counts = torch.bincount(train.tensors[1], minlength=tables.n_classes).clamp(min=1)
            self.weights = len(train) / (tables.n_classes * counts).float()
        self.best, self.best_weights = -1.0, self.model.state_dict()

    def loss(self, batch: Any) -> torch.Tensor:
        """Of a batch of training."""
        x, y = batch
        return F.cross_entropy(self.model(x), y, self.weights, label_smoothing=self.hp.label_smoothing)

    def optimiser(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Optimiser, and a schedule that steps once an epoch."""
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[self.hp.optimizer]
        optimiser = kind(self.model.parameters(), self.hp.learning_rate, weight_decay=self.hp.weight_decay)
        if self.hp.schedule == "cosine":
            return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        return optimiser, torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)

    def validated(self, hits: int) -> None:
        """An epoch is done, in which so many validation rows were right."""
        accuracy = hits / len(self.validation.dataset)  # type: ignore[arg-type]
        if accuracy > self.best:
            self.best, self.best_weights = accuracy, copy.deepcopy(self.model.state_dict())


def plain_epochs(training: Training) -> Iterator[None]:
    """Train as a tutorial does, from epoch to epoch."""
    optimiser, schedule = training.optimiser()
    for _ in range(training.epochs):
        training.model.train()
        for batch in training.train:
            optimiser.zero_grad()
            training.loss(batch).backward()
            nn.utils.clip_grad_norm_(training.model.parameters(), training.hp.gradient_clip)
            optimiser.step()
        schedule.step()
        training.model.eval()
        with torch.no_grad():
            training.validated(sum(int((training.model(x).argmax(1) == y).sum()) for x, y in training.validation))
        yield


def plain(training: Training) -> None:
    """Train as a tutorial does."""
    for _ in plain_epochs(training):
        pass


def with_lightning(training: Training) -> None:
    """Train by Lightning's Trainer."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined, unused-ignore]
        hits = 0

        def __init__(self) -> None:
            super().__init__()
            self.model = training.model

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return training.loss(batch)

        def on_validation_epoch_start(self) -> None:
            self.hits = 0

        def validation_step(self, batch: Any, index: int) -> None:
            self.hits += int((self.model(batch[0]).argmax(1) == batch[1]).sum())

        def on_validation_epoch_end(self) -> None:
            training.validated(self.hits)

        def configure_optimizers(self) -> Any:
            optimiser, schedule = training.optimiser()
            return [optimiser], [schedule]

    lightning.Trainer(
        max_epochs=training.epochs,
        accelerator="cpu",
        gradient_clip_val=training.hp.gradient_clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(Module(), training.train, training.validation)


def suggested(trial: optuna.Trial, experiment: Experiment) -> Hyperparameters:
    """Hyperparameters of a trial from the same search space as Hyper's."""
    values: dict[str, Scalar] = {}
    for name, dimension in experiment.search_space.items():
        if isinstance(dimension, FloatRange | IntRange | Choices) and not dimension.applies(values):
            continue
        if isinstance(dimension, FloatRange):
            values[name] = trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
        elif isinstance(dimension, IntRange):
            values[name] = trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
        elif isinstance(dimension, Choices):
            values[name] = trial.suggest_categorical(name, dimension.choices)
        else:
            values[name] = dimension
    return Hyperparameters.model_validate(values)


def work(job: Job, number: int) -> None:
    """Body of a process: trials of the common study until there are enough."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    experiment = job.experiment
    tables = Tables(experiment, load_development(experiment.data, longest_window(experiment.search_space), 0))
    train = {"plain loop": plain, "lightning": with_lightning}[job.contender]

    def objective(trial: optuna.Trial) -> float:
        training = Training(tables, suggested(trial, experiment), job.epochs)
        train(training)
        torch.save(training.best_weights, job.weights(trial.number))
        return training.best if math.isfinite(training.best) else 0.0

    sampler = optuna.samplers.TPESampler(seed=number, constant_liar=True)
    study = optuna.load_study(study_name=_STUDY, storage=job.storage, sampler=sampler)
    enough = MaxTrialsCallback(job.n_trials, states=(TrialState.COMPLETE, TrialState.RUNNING))
    study.optimize(objective, callbacks=[enough])


def search(job: Job) -> None:
    """Run the whole search."""
    job.folder.mkdir(parents=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name=_STUDY, storage=job.storage, direction="maximize")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(job, k)) for k in range(min(job.workers, job.n_trials))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process of {job.contender} ended with code {process.exitcode}")


def best_trial(job: Job) -> optuna.trial.FrozenTrial:
    """The trial with the best epoch of all."""
    return optuna.load_study(study_name=_STUDY, storage=job.storage).best_trial


def hyperparameters(job: Job, trial: optuna.trial.FrozenTrial) -> Hyperparameters:
    """Of a finished trial."""
    space = job.experiment.search_space
    fixed = {n: v for n, v in space.items() if isinstance(v, bool | int | float | str)}
    return Hyperparameters.model_validate(fixed | trial.params)


def loaded(weights: Path, hp: Hyperparameters, tables: Tables) -> nn.Module:
    """A network with the weights that a trial has left."""
    model = with_own_dropout(build_model(hp, tables.preprocessor.n_outputs, tables.n_classes, {}))
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model


def sealed_accuracy(job: Job) -> tuple[float, int, datetime]:
    """Of the best trial on the sealed rows; how many trials there were, and when the first began."""
    experiment, best = job.experiment, best_trial(job)
    window = longest_window(experiment.search_space)
    development = load_development(experiment.data, window, experiment.seed)
    tables, hp = Tables(experiment, development), hyperparameters(job, best)
    sealed = load_sealed(experiment.data, window, development, experiment.seed)
    study = optuna.load_study(study_name=_STUDY, storage=job.storage)
    trials = study.get_trials(states=[TrialState.COMPLETE])
    first = min(trial.datetime_start for trial in trials if trial.datetime_start is not None)
    return tables.accuracy(loaded(job.weights(best.number), hp, tables), hp, sealed), len(trials), first
