"""What takes part in the comparison of training throughput: Hyper's run, a plain loop, other tools, the products alone.

Each trains the same MLP and takes its turn an epoch at a time.
"""

from __future__ import annotations

import itertools
import logging
import threading
import warnings
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scripts.data.dataset import Dataset
from scripts.models.mlp import MLP
from scripts.models.registry import build_model
from scripts.models.resnet import ResNet
from scripts.search_space import Hyperparameters
from scripts.training.population import Population
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

ROWS, VALIDATION, FEATURES, CLASSES, BATCH, RATE, WIDTH = 60_000, 12_000, 40, 3, 256, 1e-3, 128


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


def by_autograd(hyperparameters: Hyperparameters, n_features: int, n_classes: int, window: int) -> nn.Module:
    """Factory of a row family that goes through autograd, as a user's own."""
    kind = {"autograd_mlp": AutogradMLP, "autograd_resnet": AutogradResNet}[hyperparameters.family]
    return kind(hyperparameters, n_features, n_classes)


def settings(family: str) -> Hyperparameters:
    """What all contenders train."""
    return Hyperparameters(
        family=family, width=WIDTH, depth=2, dropout=0.1, batch_size=BATCH, learning_rate=RATE, gradient_clip=0.0
    )


def hyper_run(data: Dataset, epochs: int, family: str, device: str, seed: int = 0, n_train: int = ROWS) -> TrainingRun:
    """The training run of all three phases."""
    rows = np.arange(ROWS + VALIDATION)
    factories = {family: "benchmarks.contenders:by_autograd"} if family.startswith("autograd") else {}
    spec = RunSpec(
        "run", (seed,), settings(family), rows[:n_train], rows[ROWS:], epochs, factories=factories, device=device
    )
    return TrainingRun(spec, data)


class HyperRun:
    """A training run alone."""

    def __init__(self, data: Dataset, epochs: int, family: str, device: str) -> None:
        self.run = hyper_run(data, epochs, family, device)

    def epoch(self) -> None:
        """One epoch with validation."""
        self.run.advance()

    def accuracy(self) -> float:
        """Of the last epoch."""
        return float(self.run.history[-1].val_accuracy or 0.0)


class HyperPopulation:
    """Training runs that differ by their seed, together."""

    def __init__(self, data: Dataset, epochs: int, family: str, n_models: int) -> None:
        self.n_models = n_models
        self.population = Population([hyper_run(data, epochs, family, "cpu", seed) for seed in range(n_models)])

    def epoch(self) -> None:
        """One epoch of each with validation."""
        self.population.advance()

    def accuracy(self) -> float:
        """Mean of the last epoch."""
        return float(np.mean([run.history[-1].val_accuracy for run in self.population.runs]))


def scaled(data: Dataset) -> tuple[TensorDataset, TensorDataset]:
    """Training and validation rows, scaled by the training rows."""
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    x = (x - x[:ROWS].mean(0)) / x[:ROWS].std(0)
    return TensorDataset(x[:ROWS], y[:ROWS]), TensorDataset(x[ROWS:], y[ROWS:])


def tutorial_model(family: str) -> nn.Module:
    """The network with the framework's own layers; a ResNet has the dropout of Hyper's layers."""
    torch.manual_seed(0)
    if family != "mlp":
        return build_model(settings(family), FEATURES, CLASSES, {})
    return nn.Sequential(
        nn.Linear(FEATURES, WIDTH),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, CLASSES),
    )


class PlainLoop:
    """What a tutorial writes: TensorDataset, DataLoader, model, AdamW."""

    def __init__(self, data: Dataset, family: str, device: str) -> None:
        train, validation = scaled(data)
        self.device = device
        self.train = DataLoader(train, batch_size=BATCH, shuffle=True)
        self.validation = DataLoader(validation, batch_size=1024)
        self.model = tutorial_model(family).to(device)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=1e-2)
        self.loss = nn.CrossEntropyLoss()
        self.hits = 0

    def epoch(self) -> None:
        """One epoch with validation."""
        self.model.train()
        for x, y in self.train:
            self.optimiser.zero_grad()
            self.loss(self.model(x.to(self.device)), y.to(self.device)).backward()
            self.optimiser.step()
        self.model.eval()
        self.hits = 0
        with torch.no_grad():
            for x, y in self.validation:
                self.hits += int((self.model(x.to(self.device)).argmax(1).cpu() == y).sum())

    def accuracy(self) -> float:
        """Of the last epoch."""
        return self.hits / VALIDATION


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
        return self.hits / VALIDATION


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
        self.net = MLPClassifier((WIDTH, WIDTH), batch_size=BATCH, learning_rate_init=RATE, random_state=0)
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
        widths = (FEATURES, WIDTH, WIDTH, CLASSES)
        self.weights = [torch.randn(b, a) for a, b in itertools.pairwise(widths)]
        self.hidden = [torch.randn(BATCH, width) for width in widths]

    @torch.no_grad()
    def epoch(self) -> None:
        """One epoch with validation."""
        for step in range((ROWS + VALIDATION) // BATCH):
            for k, weight in enumerate(self.weights):
                torch.mm(self.hidden[k], weight.t())
                if step < ROWS // BATCH:
                    torch.mm(self.hidden[k + 1].t(), self.hidden[k])
                    if k:
                        torch.mm(self.hidden[k + 1], weight)

    def accuracy(self) -> None:
        """None: it learns nothing."""
