"""Contenders of the benchmarks of training throughput: Hyper, a plain loop, other tools, and matrix products alone.

Contenders of a family train the same model on the same rows, and alternate epoch by epoch.
"""

from __future__ import annotations

import itertools
import logging
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scripts.config.search_space import Hyperparameters, Scalar
from scripts.data.dataset import Dataset
from scripts.training.engines.population import Population
from scripts.training.models.layers import PooledDropout
from scripts.training.models.mlp import MLP
from scripts.training.models.registry import build_model
from scripts.training.models.resnet import ResNet
from scripts.training.models.tabm import TabM
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

FEATURES, CLASSES, BATCH, RATE = 40, 3, 256, 1e-3


@dataclass(frozen=True)
class Job:
    """Task of the contenders of a family: numbers of rows, and hyperparameters in addition to the common ones."""

    rows: int
    validation: int
    values: Mapping[str, Scalar]


JOBS = {
    "mlp": Job(60_000, 12_000, {"width": 128}),
    "resnet": Job(60_000, 12_000, {"width": 128}),
    "tabm": Job(10_240, 2_048, {"width": 128, "n_members": 32}),
    "gru": Job(20_000, 4_000, {"width": 64, "depth": 1, "window": 20}),
    "tcn": Job(20_000, 4_000, {"width": 64, "window": 20}),
    "transformer": Job(20_000, 4_000, {"width": 64, "window": 20}),
}


def split_rows(family: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of a family's job; the first has as much history as a window reads."""
    job, first = JOBS[family], settings(family).window - 1
    rows = np.arange(first, first + job.rows + job.validation)
    return rows[: job.rows], rows[job.rows :]


class Contender(Protocol):
    """Something that trains one epoch at a time."""

    def epoch(self) -> None:
        """Train and validate one epoch."""

    def accuracy(self) -> float | None:
        """Validation accuracy now."""


class AutogradMLP(MLP):
    """The same model as a class that Hyper knows nothing about."""


class AutogradResNet(ResNet):
    """The same model as a class that Hyper knows nothing about."""


class AutogradTabM(TabM):
    """The same model as a class that Hyper knows nothing about."""


def by_autograd(hyperparameters: Hyperparameters, n_features: int, n_classes: int, window: int) -> nn.Module:
    """Factory of a row family that goes through autograd, as a user's own."""
    kinds = {"mlp": AutogradMLP, "resnet": AutogradResNet, "tabm": AutogradTabM}
    kind = kinds[hyperparameters.family.removeprefix("autograd_")]
    return kind(hyperparameters, n_features, n_classes)


def settings(family: str, precision: str = "float32") -> Hyperparameters:
    """What all contenders train."""
    common = {"depth": 2, "dropout": 0.1, "batch_size": BATCH, "learning_rate": RATE, "gradient_clip": 0.0}
    values = common | dict(JOBS[family.removeprefix("autograd_")].values)
    return Hyperparameters.model_validate(values | {"family": family, "precision": precision})


def hyper_run(
    data: Dataset,
    epochs: int,
    family: str,
    device: str,
    seed: int = 0,
    n_train: int | None = None,
    precision: str = "float32",
    share_inputs_with: TrainingRun | None = None,
) -> TrainingRun:
    """The training run of all three phases, on the first `n_train` training rows."""
    train, validation = split_rows(family.removeprefix("autograd_"))
    factories = {family: "benchmarks.contenders:by_autograd"} if family.startswith("autograd") else {}
    rows = train[:n_train], validation
    spec = RunSpec("run", (seed,), settings(family, precision), *rows, epochs, factories=factories, device=device)
    return TrainingRun(spec, data, share_inputs_with=share_inputs_with)


class HyperRun:
    """A training run alone."""

    def __init__(self, data: Dataset, epochs: int, family: str, device: str, precision: str = "float32") -> None:
        self.run = hyper_run(data, epochs, family, device, precision=precision)

    def epoch(self) -> None:
        """One epoch with validation."""
        self.run.advance()

    def accuracy(self) -> float:
        """Of the last epoch."""
        return float(self.run.history[-1].val_accuracy or 0.0)


class HyperPopulation:
    """Training runs that differ by their seed, together."""

    def __init__(
        self,
        data: Dataset,
        epochs: int,
        family: str,
        n_models: int,
        device: str = "cpu",
        precision: str = "float32",
        n_train: int | None = None,
    ) -> None:
        self.n_models = n_models
        runs = list[TrainingRun]()
        for seed in range(n_models):
            share_inputs_with = runs[0] if runs else None
            runs.append(hyper_run(data, epochs, family, device, seed, n_train, precision, share_inputs_with))
        self.population = Population(runs, n_models)

    def epoch(self) -> None:
        """One epoch of each with validation."""
        self.population.advance()

    def accuracy(self) -> float:
        """Mean of the last epoch."""
        return float(np.mean([run.history[-1].val_accuracy for run in self.population.runs]))


def scaled(data: Dataset, family: str = "mlp") -> tuple[TensorDataset, TensorDataset]:
    """Training and validation rows, or windows of rows, scaled by the training rows."""
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    train, validation = (torch.from_numpy(rows) for rows in split_rows(family))
    x = (x - x[train].mean(0)) / x[train].std(0)
    if (window := settings(family).window) > 1:
        offsets = torch.arange(1 - window, 1)
        return tuple(TensorDataset(x[rows[:, None] + offsets], y[rows]) for rows in (train, validation))
    return TensorDataset(x[train], y[train]), TensorDataset(x[validation], y[validation])


def with_own_dropout(model: nn.Module) -> nn.Module:
    """The same model with the framework's dropout in the place of ours."""
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, PooledDropout):
                setattr(module, name, nn.Dropout(layer.p))
    return model


def tutorial_model(family: str) -> nn.Module:
    """The network of the framework's own layers, its dropout included."""
    torch.manual_seed(0)
    if family != "mlp":
        return with_own_dropout(build_model(settings(family), FEATURES, CLASSES, {}))
    width = settings(family).width
    return nn.Sequential(
        nn.Linear(FEATURES, width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(width, CLASSES),
    )


class PlainLoop:
    """What a tutorial writes: TensorDataset, DataLoader, model, AdamW."""

    def __init__(self, data: Dataset, family: str, device: str) -> None:
        train, validation = scaled(data, family)
        self.device = device
        self.train = DataLoader(train, batch_size=BATCH, shuffle=True)
        self.validation = DataLoader(validation, batch_size=1024)
        self.model = tutorial_model(family).to(device)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=1e-2)
        self.hits, self.n = 0, len(validation)

    def epoch(self) -> None:
        """One epoch with validation."""
        self.model.train()
        for x, y in self.train:
            self.optimiser.zero_grad()
            logits, targets = self.model(x.to(self.device)), y.to(self.device)
            if logits.ndim == 3:  # of the members of a TabM, each of which learns on its own
                logits, targets = logits.flatten(0, 1), targets.repeat_interleave(logits.shape[1])
            nn.functional.cross_entropy(logits, targets).backward()
            self.optimiser.step()
        self.model.eval()
        self.hits = 0
        with torch.no_grad():
            for x, y in self.validation:
                self.hits += int((self.model(x.to(self.device)).argmax(1).cpu() == y).sum())

    def accuracy(self) -> float:
        """Of the last epoch."""
        return self.hits / self.n


class LightningFit:
    """Lightning's Trainer in a thread of its own, which waits for its turn before each epoch."""

    def __init__(self, data: Dataset, epochs: int) -> None:
        import lightning

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
        self.turn, self.done, self.hits = threading.Semaphore(0), threading.Semaphore(0), 0
        module, callback = self._module(lightning), lightning.Callback()
        callback.on_train_epoch_start = lambda *_: self.turn.acquire()
        callback.on_train_epoch_end = lambda *_: self.done.release()
        train, validation = scaled(data)
        loaders = DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(validation, batch_size=1024)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        threading.Thread(target=trainer.fit, args=(module, *loaders), daemon=True).start()

    def _module(self, lightning: Any) -> Any:
        contender = self

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = tutorial_model("mlp")

            def training_step(self, batch: Any, index: int) -> torch.Tensor:
                return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

            def on_validation_epoch_start(self) -> None:
                contender.hits = 0

            def validation_step(self, batch: Any, index: int) -> None:
                contender.hits += int((self.model(batch[0]).argmax(1) == batch[1]).sum())

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.AdamW(self.parameters(), RATE, weight_decay=1e-2)

        return Module()

    def epoch(self) -> None:
        """One epoch with validation."""
        self.turn.release()
        self.done.acquire()

    def accuracy(self) -> float:
        """Of the last epoch."""
        return self.hits / JOBS["mlp"].validation


class SkorchNet:
    """skorch's classifier on TensorDatasets, as its documentation advises for speed."""

    def __init__(self, data: Dataset, epochs: int) -> None:
        from skorch import NeuralNetClassifier
        from skorch.helper import predefined_split

        self.train, validation = scaled(data)
        self.net = NeuralNetClassifier(
            tutorial_model("mlp"),
            max_epochs=epochs,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=1e-2,
            lr=RATE,
            batch_size=BATCH,
            iterator_train__shuffle=True,
            iterator_valid__batch_size=1024,
            train_split=predefined_split(validation),
            classes=list(range(CLASSES)),
            verbose=0,
        ).initialize()

    def epoch(self) -> None:
        """One epoch with validation."""
        self.net.partial_fit(self.train, y=None, epochs=1)

    def accuracy(self) -> float:
        """Of the last epoch."""
        return float(self.net.history[-1, "valid_acc"])


class ScikitLearn:
    """MLPClassifier by partial_fit: no dropout."""

    def __init__(self, data: Dataset) -> None:
        (self.x, self.y), (self.validation, self.targets) = ([t.numpy() for t in d.tensors] for d in scaled(data))
        width = settings("mlp").width
        self.net = MLPClassifier((width, width), batch_size=BATCH, learning_rate_init=RATE, random_state=0)
        self.last = 0.0

    def epoch(self) -> None:
        """One epoch with validation."""
        self.net.partial_fit(self.x, self.y, classes=np.arange(CLASSES))
        self.last = float(self.net.score(self.validation, self.targets))

    def accuracy(self) -> float:
        """Of the last epoch."""
        return self.last


class Products:
    """The matrix products of an epoch of the MLP and of its validation, on the same numbers again and again."""

    def __init__(self) -> None:
        self.job, width = JOBS["mlp"], settings("mlp").width
        widths = (FEATURES, width, width, CLASSES)
        self.weights = [torch.randn(b, a) for a, b in itertools.pairwise(widths)]
        self.hidden = [torch.randn(BATCH, width) for width in widths]

    @torch.no_grad()
    def epoch(self) -> None:
        """One epoch with validation."""
        for step in range((self.job.rows + self.job.validation) // BATCH):
            for k, weight in enumerate(self.weights):
                torch.mm(self.hidden[k], weight.t())
                if step < self.job.rows // BATCH:
                    torch.mm(self.hidden[k + 1].t(), self.hidden[k])
                    if k:
                        torch.mm(self.hidden[k + 1], weight)

    def accuracy(self) -> None:
        """None: it learns nothing."""
